"""A stretch of time read through a search that has a limit: in windows that hold less, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar

from otel_llm_sessions.view.query import BEGINNING, SECOND
from otel_llm_sessions.view.sources.told import Told

MILLISECOND: Final = SECOND // 1_000
MOST_FULL: Final = 200
"""Answers in a row that may be full: where traces go on for days, a backend may find all of them in each second."""
LATEST: Final = 253_402_300_799_999_999
"""Microseconds of the last moment that ``datetime`` knows."""
AIM: Final = 0.7
"""What part of what one answer may hold the next one is to have."""
GROWTH: Final = 16.0
"""How many times longer a window gets at most."""


T = TypeVar("T")


@dataclass(frozen=True)
class Found(Generic[T]):
    """What a search found in a stretch of time."""

    traces: list[T]
    full: bool
    """Whether there may be more than it told."""
    share: float = 0.0
    """What part of what one answer may hold it told."""
    times: Sequence[int] = ()
    """When what it told goes on: nanoseconds since the epoch, one of each trace."""


Search = Callable[[int, int], Found[T]]
"""Search from a time to another (nanoseconds since the epoch, both included)."""


def read(search: Search[T], start: int, end: int, told: Told, least: int = MILLISECOND) -> Iterator[T]:
    """Yield the traces of a stretch of time, the newest first as far as the search can; one may come twice.

    Args:
        search: the search.
        start: from when, nanoseconds since the epoch.
        end: until when.
        told: is told what is left out.
        least: nanoseconds of the shortest window that is worth asking for.
    """
    length, full, was_guessed = end - start, 0, False
    cut: list[tuple[int, int]] = []
    try:
        while start <= end:
            begin = max(start, end - length)
            found = search(begin, end)
            yield from found.traces
            full = full + 1 if found.full else 0 if found.traces else full
            if found.full and end - begin > least and full < MOST_FULL:
                # A guess may be wrong; the half of what was too long is shorter in any case.
                guess = end - begin if was_guessed else end - _within(found.times)
                was_guessed = not was_guessed
                length = max(least, guess if 0 < guess < end - begin else (end - begin) // 2)
                continue
            if found.full:
                cut.append((begin, end))
            length = max(least, _following(found, begin, end))
            end, was_guessed = begin - 1, False
            if full >= MOST_FULL:  # all that is left is asked for at once
                length = max(end - start, 0)
    finally:
        if cut:
            told.notice(f"there is more than one search answers {_when(cut)}: not all of it is shown")


def _within(times: Sequence[int]) -> int:
    """Since when there is as much as an answer is to have, where the newest were told, as is usual."""
    return sorted(times, reverse=True)[int(AIM * len(times))] if times else 0


def _following(found: Found[T], begin: int, end: int) -> int:
    """How long the window before this one is to be, for as much as an answer is to have."""
    last = min(max(found.times, default=end), end)
    # What was found and lies before it tells nothing: a trace that goes on, of which a search tells the beginning.
    used = (last if last >= begin else end) - begin + 1
    return int(used * min(AIM / max(found.share, AIM / GROWTH), GROWTH))


def _when(cut: Sequence[tuple[int, int]]) -> str:
    """When something was cut off, of windows from the last to the first."""
    first, last = at(cut[-1][0])[:19] + "Z", at(cut[0][1])[:19] + "Z"
    if first == last:
        return f"at {first}"
    return f"{f'{len(cut)} times ' if len(cut) > 1 else ''}between {first} and {last}"


def at(nanoseconds: int) -> str:
    """A time as RFC 3339 with microseconds, in UTC."""
    time = BEGINNING + timedelta(microseconds=min(nanoseconds // 1_000, LATEST))
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")
