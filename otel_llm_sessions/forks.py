"""What threads hold at a fork, and how a child process begins without it."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol, TypeVar

T = TypeVar("T")


class Renewable(Protocol):
    """Something that must begin anew after a fork: locks, threads and connections stay with the parent."""

    def after_fork_in_child(self) -> None:
        """Begin anew; called in the child before anything else runs there."""
        ...


class Lock:
    """A reentrant lock that is free in a child process, whatever thread had locked it at the fork: that one is gone.

    ``with lock.held:``, the lock itself and no method of ours: an exception that a signal handler raises between the
    two ends of such a method would leave it locked for ever.
    """

    __slots__ = ("__weakref__", "held")

    def __init__(self) -> None:
        self.held = threading.RLock()
        renew_in_child(self)

    def after_fork_in_child(self) -> None:
        """Begin anew."""
        self.held = threading.RLock()


# os.register_at_fork has no way back: hooks for all, which keep none of them alive.
# By identity, and not WeakSets: those cannot be listed while another thread adds to them.
_living: weakref.WeakValueDictionary[int, Renewable] = weakref.WeakValueDictionary()

# What a child must neither use nor close, for closing it would reach into its parent's connections.
_inherited: list[object] = []


def renew_in_child(store: Renewable) -> None:
    """Call ``store.after_fork_in_child()`` in every child process, as long as ``store`` lives."""
    _living[id(store)] = store


def leave_to_parent(*connections: object) -> None:
    """Keep inherited connections from being garbage-collected, and so closed, in this child."""
    _inherited.extend(connections)


def _all(kept: weakref.WeakValueDictionary[int, T]) -> list[T]:
    return [living for ref in kept.valuerefs() if (living := ref()) is not None]


def _renew_all() -> None:
    for store in _all(_living):
        store.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
