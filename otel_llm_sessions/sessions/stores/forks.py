"""Tells living stores that they are now in a child process."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """Something that must begin anew after a fork: locks, threads and connections stay with the parent."""

    def after_fork_in_child(self) -> None:
        """Begin anew; called in the child before anything else runs there."""
        ...


# os.register_at_fork has no way back: one hook for all, which keeps none of them alive.
_living: weakref.WeakSet[Renewable] = weakref.WeakSet()

# What a child must neither use nor close, for closing it would reach into its parent's connections.
_inherited: list[object] = []


def renew_in_child(store: Renewable) -> None:
    """Call ``store.after_fork_in_child()`` in every child process, as long as ``store`` lives."""
    _living.add(store)


def leave_to_parent(*connections: object) -> None:
    """Keep inherited connections from being garbage-collected, and so closed, in this child."""
    _inherited.extend(connections)


def _renew_all() -> None:
    for store in list(_living):
        store.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
