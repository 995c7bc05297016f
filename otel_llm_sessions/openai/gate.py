"""Keeps back the end of a call while its session is still to be heard of, so that its span ends once, and whole."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple


class Ending(NamedTuple):
    """How a call ended."""

    time: int
    """When, in nanoseconds since the epoch."""
    error_type: str | None
    cut_short: bool


class Gate:
    """Stands between the end of a call and the end of its span; closed until ``open``.

    Nobody waits at it: an end that comes while it is closed is left to who opens it.
    """

    __slots__ = ("_is_open", "_lock", "_on_hold", "_on_leaving", "ending")

    def __init__(self, on_leaving: Callable[[], None], on_hold: Callable[[], None]) -> None:
        """Begin closed.

        Args:
            on_leaving: called when the reply has brought something that the call leaves, and goes on.
            on_hold: called when an end is kept back.
        """
        self._on_leaving = on_leaving
        self._on_hold = on_hold
        # Reentrant: a signal's handler may end a call on the thread that is just opening its gate.
        self._lock = threading.RLock()
        self._is_open = False
        self.ending: Ending | None = None
        """The end that is kept back."""

    @property
    def is_closed(self) -> bool:
        """Whether an end that comes now is kept back."""
        return not self._is_open

    def tell_leaving(self) -> None:
        """Tell who is still to hear of the session that the call leaves something already."""
        if not self._is_open:
            self._on_leaving()

    def hold(self, ending: Ending) -> bool:
        """Keep an end back; False if the gate is open, and the caller ends the span."""
        with self._lock:
            if self._is_open:
                return False
            self.ending = ending
        self._on_hold()
        return True

    def open(self) -> Ending | None:
        """Let ends through from now on; return the one that was kept back, which the caller makes up for."""
        with self._lock:
            self._is_open = True
        return self.ending
