"""The table: rows in, aligned text out."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.works import WORKS, Work

Costs = dict[tuple[str, str], float]
HEAD = ("work", "floor instr", "ours instr", "ratio", "limit", "ok?", "of client", "CPU-time ratio", "peer ratio")
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Figure:
    """A row that is not counted in instructions; ``ok`` is shown, and never fails the run."""

    title: str
    value: str
    budget: str
    ok: bool | None


def over_bare(costs: Costs, work: Work, variant: str) -> float | None:
    """Return what ``variant`` adds to the client's own cost."""
    if variant == "floor":
        return _floor(costs, work)
    cost = costs.get((work.name, variant))
    return None if cost is None else cost - costs[work.name, "bare"]


def _floor(costs: Costs, work: Work) -> float | None:
    """Return what the floor adds: the middle of what it adds to all works under the same setup.

    It is the same span around each of them, and what one count is off by, as the client's own differs by some
    thousandths, is hundredths of that.
    """
    if (work.name, "floor") not in costs:
        return None
    setup = work.setup_for("floor")
    alike = {each for each in (work, *WORKS) if (each.name, "floor") in costs and each.setup_for("floor") == setup}
    return statistics.median(costs[each.name, "floor"] - costs[each.name, "bare"] for each in alike)


def ratio(costs: Costs, work: Work, variant: str) -> float | None:
    """Return what the limit is about: a multiple of the floor, or for chunks a percentage of the client's work."""
    added = over_bare(costs, work, variant)
    if added is None:
        return None
    if work.per_chunk:
        return 100 * added / costs[work.name, "bare"]
    floor = over_bare(costs, work, "floor")
    return added / floor if floor and floor > 0 else None


def share(costs: Costs, work: Work) -> float | None:
    """Return what this package adds, as a percentage of the client's own work on the same call or chunk."""
    added = over_bare(costs, work, "ours")
    return None if added is None else 100 * added / costs[work.name, "bare"]


def met(costs: Costs, work: Work) -> bool | None:
    """Return whether ``work`` keeps its limit; None if this package was not measured."""
    reached = ratio(costs, work, "ours")
    return None if reached is None else reached <= work.limit


def rows(works: Sequence[Work], instructions: Costs, cpu: Costs) -> list[tuple[str, ...]]:
    """Return the table's cells."""
    return [_row(work, instructions, cpu) for work in works]


def _row(work: Work, instructions: Costs, cpu: Costs) -> tuple[str, ...]:
    sign = "%" if work.per_chunk else "x"
    base = instructions.get((work.name, "bare")) if work.per_chunk else over_bare(instructions, work, "floor")
    cells = (
        _number(base),
        _number(over_bare(instructions, work, "ours")),
        _times(ratio(instructions, work, "ours"), sign),
        _times(work.limit, sign) + (" [2]" if work.is_ceiling else ""),
        _answer(met(instructions, work)),
        _times(share(instructions, work), "%"),
        _times(ratio(cpu, work, "ours"), sign) if cpu else NOTHING,
        _times(ratio(instructions, work, "peer"), sign),
    )
    return (work.title + (" [1]" if work.per_chunk else ""), *cells)


def text(cells: Sequence[tuple[str, ...]]) -> str:
    """Return the cells as aligned lines, the first column to the left and the others to the right."""
    lines = [HEAD, *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(c.rjust(w) if n else c.ljust(w) for n, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )


def figures_text(figures: Sequence[Figure]) -> str:
    """Return the rows that are not counted in instructions as aligned lines."""
    width = max(len(figure.title) for figure in figures)
    return "\n".join(f"{f.title.ljust(width)}  {f.value:>24}  {f.budget:>12}  {_answer(f.ok):>3}" for f in figures)


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def _times(value: float | None, sign: str) -> str:
    return NOTHING if value is None else f"{value:.2f} {sign}"


def _answer(ok: bool | None) -> str:
    return NOTHING if ok is None else "yes" if ok else "NO"
