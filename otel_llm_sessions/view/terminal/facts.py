"""Numbers, times and long texts as a terminal shows them: grouped, in the reader's zone, cut to a width."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Final

from rich.cells import cell_len, set_cell_size

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
MILLISECOND: Final = 1_000_000


def grouped(number: int) -> str:
    """Return a number in groups of three digits."""
    return f"{number:,}"


def moment_shown(nanoseconds: int, after: int = 0) -> str:
    """Return a time in the reader's zone: ``2026-01-31 12:00:00``; empty for no time, or for one that no clock shows.

    Args:
        nanoseconds: since the epoch.
        after: another time that stands before it; the day is left out where it is the same.
    """
    at, before = _local(nanoseconds), _local(after)
    if at is None:
        return ""
    return f"{at:%H:%M:%S}" if before and before.date() == at.date() else f"{at:%Y-%m-%d %H:%M:%S}"


def _local(nanoseconds: int) -> datetime | None:
    try:
        return datetime(*time.localtime(nanoseconds // SECOND)[:6]) if nanoseconds > 0 else None
    except (OverflowError, ValueError, OSError):
        return None


def duration_shown(nanoseconds: int) -> str:
    """Return how long something took: ``96 ms``, ``1.20 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if nanoseconds < SECOND:
        return f"{max(0, nanoseconds) / MILLISECOND:.0f} ms"
    if nanoseconds < MINUTE:
        return f"{nanoseconds / SECOND:.2f} s"
    if nanoseconds < HOUR:
        return f"{nanoseconds // MINUTE} min {nanoseconds % MINUTE // SECOND} s"
    return f"{nanoseconds // HOUR:,} h {nanoseconds % HOUR // MINUTE} min"


def moment_cut(text: str, width: int) -> str:
    """Return a time as :func:`moment_shown` wrote it, without year and seconds where it is wider than ``width``."""
    return text if len(text) <= width else text[:-3][-11:]


def both_ends(text: str, width: int) -> str:
    """Return a text, or its two ends where it is wider than ``width`` columns."""
    if cell_len(text) <= width:
        return text
    half = (width - 1) // 2
    return f"{_fitting(text, half)}…{_fitting(text[::-1], half)[::-1]}" if half > 0 else "…"


def beginning(text: str, width: int) -> str:
    """Return a text, or its beginning where it is wider than ``width`` columns."""
    return text if cell_len(text) <= width else f"{_fitting(text, width - 1).rstrip()}…"


def _fitting(text: str, width: int) -> str:
    """As many characters of the text as fit; one that is two columns wide is not cut in halves."""
    return set_cell_size(text[: max(width, 0)], width).rstrip(" ") if width > 0 else ""
