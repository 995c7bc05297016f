"""A strip of a session's turns over time, without the time in which nothing happened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from otel_llm_sessions.view.turns import Turn

WIDTH: Final = 1_000.0
"""Of the drawing, in its own units."""
GAP: Final = 6.0
"""What idle time is drawn as, however long it was."""
SHARE: Final = 0.4
"""The most that gaps, and the least widths, may take of the drawing."""
LEAST: Final = 4.0
"""The least width of a turn, so that it can be seen and pointed at."""
LANES: Final = 6
"""Rows for turns at the same time; further ones share the last."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A turn in the drawing."""

    turn: Turn
    place: int
    x: float
    width: float
    lane: int


@dataclass(frozen=True, slots=True)
class Idle:
    """Time in which nothing happened."""

    x: float
    width: float
    time: int


@dataclass(frozen=True, slots=True)
class Strip:
    """The drawing: bars in lanes, and the idle times between them; times in nanoseconds."""

    bars: tuple[Bar, ...]
    idle: tuple[Idle, ...]
    lanes: int
    busy: int
    """Time in which at least one turn was going on."""
    left_out: int
    """Time in which none was."""


@dataclass(slots=True)
class _Stretch:
    """Turns that follow one another, or overlap, without idle time."""

    start: int
    end: int
    turns: list[tuple[int, Turn]]


def strip_of(turns: Sequence[Turn]) -> Strip | None:
    """Draw a session's turns; None where there are fewer than two."""
    if len(turns) < 2:
        return None
    stretches = _stretches(sorted(enumerate(turns, 1), key=lambda one: one[1].start))
    busy = sum(stretch.end - stretch.start for stretch in stretches)
    gap = min(GAP, WIDTH * SHARE / 2 / len(stretches))
    least = min(LEAST, WIDTH * SHARE / 2 / len(turns))
    scale = (WIDTH - gap * (len(stretches) - 1) - least * len(turns)) / max(busy, 1)
    bars: list[Bar] = []
    idle: list[Idle] = []
    x, before = 0.0, stretches[0].start
    for stretch in stretches:
        if bars:
            idle.append(Idle(round(x, 2), round(gap, 2), stretch.start - before))
            x += gap
        bars += _bars(stretch, x, scale, least)
        x += (stretch.end - stretch.start) * scale + least * len(stretch.turns)
        before = stretch.end
    lanes = 1 + max(bar.lane for bar in bars)
    return Strip(tuple(bars), tuple(idle), lanes, busy, sum(each.time for each in idle))


def _stretches(turns: Iterable[tuple[int, Turn]]) -> list[_Stretch]:
    found: list[_Stretch] = []
    for place, turn in turns:
        last = found[-1] if found else None
        if last and turn.start <= last.end:
            last.end = max(last.end, turn.end)
            last.turns.append((place, turn))
        else:
            found.append(_Stretch(turn.start, turn.end, [(place, turn)]))
    return found


def _bars(stretch: _Stretch, x: float, scale: float, least: float) -> list[Bar]:
    """Each turn in the first lane that is free when it begins; each one's least width comes before what follows it."""
    free: list[int] = []
    bars = []
    for ahead, (place, turn) in enumerate(stretch.turns):
        lane = next((lane for lane, end in enumerate(free) if end <= turn.start), len(free))
        lane = min(lane, LANES - 1)
        free[lane : lane + 1] = [turn.end]
        left = x + (turn.start - stretch.start) * scale + least * ahead
        width = max((turn.end - turn.start) * scale + least, least)
        bars.append(Bar(turn, place, round(left, 2), round(width, 2), lane))
    return bars
