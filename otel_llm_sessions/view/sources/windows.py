"""A stretch of time read through a search that has a limit: where an answer is full, each half is asked for itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar

from otel_llm_sessions.view.query import BEGINNING, SECOND
from otel_llm_sessions.view.sources.told import Told

MILLISECOND: Final = SECOND // 1_000
MOST_SEARCHES: Final = 200
"""For one stretch of time: where traces go on for days, a backend may find all of them in each second of it."""


T = TypeVar("T")


@dataclass(frozen=True)
class Found(Generic[T]):
    """What a search found in a stretch of time."""

    traces: list[T]
    full: bool
    """Whether there may be more than it told."""


Search = Callable[[int, int], Found[T]]
"""Search from a time to another (nanoseconds since the epoch, both included)."""


def read(search: Search[T], start: int, end: int, told: Told, least: int = MILLISECOND) -> Iterator[T]:
    """Yield the traces of a stretch of time, the newest first as far as the search can; one may come twice.

    Args:
        search: the search.
        start: from when, nanoseconds since the epoch.
        end: until when.
        told: is told what is left out.
        least: nanoseconds of the shortest stretch that is worth asking for.
    """
    windows, searched = [(start, end)], 0
    while windows:
        low, high = windows.pop()
        searched += 1
        found = search(low, high)
        yield from found.traces
        if not found.full:
            continue
        if high - low <= least or searched + len(windows) >= MOST_SEARCHES:
            told.notice(f"there is more than one search answers {_when(low, high)}: not all of it is shown")
            continue
        middle = (low + high) // 2
        windows += [(low, middle), (middle + 1, high)]


def _when(low: int, high: int) -> str:
    first, last = at(low)[:19] + "Z", at(high)[:19] + "Z"
    return f"at {first}" if first == last else f"between {first} and {last}"


def at(nanoseconds: int) -> str:
    """A time as RFC 3339 with microseconds, in UTC."""
    time = BEGINNING + timedelta(microseconds=nanoseconds // 1_000)
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")
