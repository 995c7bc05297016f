"""How long a caller should wait for a store, and how long a store that failed is left alone."""

from __future__ import annotations

import time

SLOW = 0.02
"""A store that takes longer than this, in seconds, is asked beside the call: it would be most of a call's budget."""

LATELY = 30.0
"""Seconds for which a late answer tells how late others may be: what other processes write is on its way, too."""

_IN_A_ROW = 8
"""So many slow answers make a slow store: one that is quick may be late when the machine is busy."""


class Pace:
    """How fast a store answers. A caller waits for one that is quick, and for no other."""

    def __init__(self, limit: float) -> None:
        """Args: how long a caller waits at most, in seconds."""
        self._limit = limit
        self._slow = 0
        self._is_late = False
        self._answered = 0.0
        self._worst = self._worst_until = 0.0

    @property
    def patience(self) -> float:
        """How long a caller that asks now should wait for the answer, in seconds; 0 for a store that is slow or late.

        An answer of a slow store is measured all the same, whoever waits for it: it is waited for again once it comes
        quickly.
        """
        return 0.0 if self._slow >= _IN_A_ROW else self.limit

    @property
    def limit(self) -> float:
        """How long a caller waits that can do nothing with a late answer, in seconds; 0 while nothing is answered."""
        return 0.0 if self._is_late else self._limit

    @property
    def lateness(self) -> float:
        """How late an answer was in the last half minute, at worst, in seconds; 0 where all came in time."""
        return self._worst if time.monotonic() < self._worst_until else 0.0

    def took_since(self, begun: float) -> None:
        """The store has answered what it was asked then, on the monotonic clock."""
        self._is_late = False
        self._answered = now = time.monotonic()
        if now - begun > SLOW:
            self._slow += 1
            self.came(now - begun)
        else:
            self._slow = 0

    def came(self, seconds: float) -> None:
        """A caller's answer came that long after the question, or has not come until then."""
        now = time.monotonic()
        if seconds > SLOW and (seconds >= self._worst or now >= self._worst_until):
            self._worst, self._worst_until = seconds, now + LATELY

    def late(self, waited: float) -> None:
        """A caller waited in vain: no other does until the store has answered, unless it has answered others."""
        self.came(waited)
        if waited > self._limit / 2 and time.monotonic() - self._answered > waited:
            self._is_late = True


class Breaker:
    """How long a store that failed is left alone: longer each time, until it was well for a while."""

    def __init__(self, first: float, longest: float) -> None:
        self.longest = longest
        self.over = 0.0
        """When the last rest ends, on the monotonic clock."""
        self._first = first
        self._times = 0

    def begin(self) -> None:
        """Begin a rest."""
        if time.monotonic() - self.over > 2 * self.longest:
            self._times = 0
        rest = min(self.longest, self._first * 4.0 ** min(self._times, 20))
        self._times += 1
        self.over = time.monotonic() + rest

    def left(self) -> float:
        """Return how many seconds are left of the last rest."""
        return max(0.0, self.over - time.monotonic())
