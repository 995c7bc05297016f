"""What is bounded: a map whose oldest entries make room, and a question that is answered with yes once.

Both are used without a lock: by threads, by signal handlers that interrupt a use, by finalizers that run amid one, and
by a child process that was forked amid one. So each is made of single steps that nothing of Python's interrupts.
cachetools is not: its caches keep an order, sizes and a sum beside their data, and a key that was left in the order
alone makes every later ``popitem`` raise (6.0).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from otel_llm_sessions.guard import pass_on

K = TypeVar("K")
V = TypeVar("V")

ONCE: Final = (True,)
"""What ``once`` is an iterator over; for who makes one in each call."""


class Bounded(OrderedDict[K, V]):
    """A map that keeps no more entries than it is told, and none that is too large.

    To set a key makes it the newest; the oldest makes room. To read one changes nothing, until ``renew`` is called.
    Example::

        seen: Bounded[str, float] = Bounded(1024, weigh=lambda key, _: len(key), heaviest=160)
        seen["resp_1"] = time.monotonic()
        seen.get("resp_1")
    """

    def __init__(self, most: int, *, weigh: Callable[[K, V], int] | None = None, heaviest: int = 0) -> None:
        """Make an empty map.

        Args:
            most: how many entries it keeps.
            weigh: what an entry weighs, in bytes or characters. Whatever fills the map, it keeps ``most * heaviest``.
            heaviest: what an entry may weigh; a heavier one is not kept.
        """
        super().__init__()
        self._most = most
        self._weigh = weigh
        self._heaviest = heaviest

    def __setitem__(self, key: K, value: V) -> None:
        """Keep an entry, as the newest."""
        if self._weigh is not None and self._weigh(key, value) > self._heaviest:
            self.pop(key, None)
            return
        OrderedDict.__setitem__(self, key, value)
        try:
            self.move_to_end(key)
        except KeyError as error:  # another thread needed the room
            pass_on(error)
            return
        if len(self) > self._most:
            self._make_room()

    def renew(self, key: K) -> None:
        """Make an entry the newest, if it is there."""
        try:
            self.move_to_end(key)
        except KeyError as error:
            pass_on(error)

    def _make_room(self) -> None:
        while len(self) > self._most:
            try:
                self.popitem(last=False)
            except KeyError as error:  # another thread was faster
                pass_on(error)
                return


def once() -> Iterator[bool]:
    """Return what says yes to the first who asks, and to nobody after.

    Example::

        left = once()
        if next(left, False):
            ...  # only one thread, handler or finalizer ever comes here
    """
    # Asked in one step of C. No exception tells the others, as one of the same kind may be a signal handler's.
    return iter(ONCE)
