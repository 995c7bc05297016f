"""Who makes the span of a call whose session is still being looked up: the answer, or the call's end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from otel_llm_sessions.openai.chain_walk import Walk
from otel_llm_sessions.sessions.link import Record
from otel_llm_sessions.sessions.resolver import resolve_looked_up

if TYPE_CHECKING:
    from otel_llm_sessions.openai.call import Call


class Ending(NamedTuple):
    """How a call ended."""

    time: int
    """When, in nanoseconds since the epoch."""
    error_type: str | None
    cut_short: bool


class Deferral:
    """Decides it, once: whoever takes it first makes the span.

    An end that comes while the answer is making the span does not wait for it, but hands itself over to it.
    """

    __slots__ = ("_call", "_ending", "_has_left", "_has_span", "_is_made", "_lock", "_once", "_walk")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._once = [None]
        # Reentrant: the garbage collector may end a call on the thread that is just answering it.
        self._lock = threading.RLock()
        self._is_made = False
        self._ending: Ending | None = None
        self._has_span = False
        self._has_left = False
        self._walk: Walk | None = None

    def take(self) -> bool:
        """Return True to the first that asks."""
        try:
            self._once.pop()
        except IndexError:
            return False
        return True

    def hand_over(self, ending: Ending) -> bool:
        """Leave the end of the call to who makes its span; False if the span has been made."""
        with self._lock:
            if not self._is_made:
                self._ending = ending
            return not self._is_made

    def made(self) -> Record | None:
        """Note that the span has been made; end it if the call ended meanwhile, and return what is to be recorded."""
        with self._lock:
            self._is_made = True
            ending = self._ending
        return self._call.end(*ending) if ending is not None else None

    # What the answer does, in order, if it has taken the call.

    def resolve(self, walk: Walk) -> str | None:
        """Decide the session; return the key to claim if its trace is still to be opened."""
        previous = walk.previous()
        if previous is None:
            return self._call.plan_for(self._call.resolved_alone())
        return self._call.plan_for(resolve_looked_up(previous, complete=walk.is_complete))

    def make(self, owner: bool) -> Record | None:
        """Make the span; return what is to be recorded, if the reply has an id already."""
        self._has_span = True
        self._call.start(owner)
        return self._call.begun()

    def cut_off(self) -> Record | None:
        """Make the span without a claim, if it is not made yet, and end it if the call has ended."""
        if not self._has_span:
            self._call.open_nothing()
            self.make(False)
        return self.made()

    # And if the call's end was first.

    def left(self, record: Record | None) -> Record | None:
        """Return what is to be recorded of a call that has ended: ``record``, or what an answer has made of it."""
        with self._lock:
            self._has_left = True
            walk = self._walk
        return (self._renamed(walk) or record) if walk is not None else record

    def rename(self, walk: Walk) -> Record | None:
        """Return what is to be recorded so that the next turn finds the session; nothing if the call is yet to end."""
        self._has_span = True  # the call's end made it
        with self._lock:
            if not self._has_left:
                self._walk = walk
                return None
        return self._renamed(walk)

    def _renamed(self, walk: Walk) -> Record | None:
        previous = walk.previous()
        if previous is None or not walk.is_complete:
            return None
        return self._call.leave_as(resolve_looked_up(previous, complete=True))
