"""Where the time of a call goes, by Python function, over the bare client's.

    python -m benchmarks.profile [WORK] [VARIANT]      WORK: chat (default), chain, ...; VARIANT: ours (default), peer

cProfile makes every Python call look dearer than it is: compare numbers of calls and order, not microseconds.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
from pathlib import Path

from benchmarks.client import make_client
from benchmarks.variants import VARIANTS
from benchmarks.works import WORKS, Work

CALLS = 400
TOP = 45
SMALLEST = 0.02

Function = tuple[str, int, str]
Stats = dict[Function, tuple[float, float]]


def profile(work: Work, variant: str) -> Stats:
    """Return, by function, the calls and the microseconds of its own that one call (or chunk) of ``work`` takes."""
    setup = work.setup_for(variant)
    provider, client = setup.tracer_provider(), make_client()
    profiler = cProfile.Profile()
    with VARIANTS[variant](setup, provider):
        work.run(client, provider, 50)
        profiler.enable()
        work.run(client, provider, CALLS)
        profiler.disable()
    entries = pstats.Stats(profiler).stats.items()  # type: ignore[attr-defined]
    return {function: (calls / CALLS, own * 1e6 / CALLS) for function, (_, calls, own, _, _) in entries}


def difference(with_it: Stats, without: Stats) -> list[tuple[float, float, Function]]:
    """Return own microseconds, calls and function, dearest first, of what ``with_it`` does more than ``without``."""
    rows = []
    for function, (calls, own) in with_it.items():
        calls_without, _ = without.get(function, (0.0, 0.0))
        if calls - calls_without > SMALLEST:
            # A function that the client calls too: its additional calls at its average price.
            share = own if not calls_without else own * (calls - calls_without) / calls
            rows.append((share, calls - calls_without, function))
    return sorted(rows, reverse=True)


def show(name: str, variant: str) -> None:
    """Print the dearest functions of a work."""
    work = next(work for work in WORKS if work.name == name)
    rows = difference(profile(work, variant), profile(work, "bare"))
    print(f"{work.title}, {variant} over the bare client, per {'chunk' if work.per_chunk else 'call'}")
    print(f"{sum(row[0] for row in rows):9.2f} us own time under cProfile, {sum(row[1] for row in rows):.1f} calls\n")
    print(f"{'us own':>9} {'calls':>7}  function")
    for own, calls, (path, line, function) in rows[:TOP]:
        where = "" if path == "~" else f"  {'/'.join(Path(path).parts[-2:])}:{line}"
        print(f"{own:9.2f} {calls:7.2f}  {function}{where}")


if __name__ == "__main__":
    show(*(sys.argv[1:3] + ["chat", "ours"][len(sys.argv[1:3]) :]))
