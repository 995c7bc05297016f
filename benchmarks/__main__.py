"""Measure and print the table; exit 1 if a row that is counted in instructions is over its limit.

Limits are the design's budgets, which nobody loosens. Rows that the design does not have get a ceiling of our own, a
little above what has been counted, so that it is seen when they get worse.

python -m benchmarks [--quick] [--only chat,chunk,start,memory,history,store]
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable

from benchmarks import content, cpu, history, instructions, look_up, memory, redis_server, startup, stores, table
from benchmarks.table import Figure
from benchmarks.variants import available
from benchmarks.works import WORKS

QUICK_VARIANTS = ("bare", "floor", "ours")
STARTUP_BUDGET = 64.0
# A page now and then is the allocator's; something kept per call would be hundreds of bytes.
MEMORY_BUDGET = 16.0
LOOK_UP_RATIO, LOOK_UP_LATER = 1.5, 3.0  # milliseconds
HISTORY_BUDGET, KNOWN_BUDGET = 400.0, 100.0  # microseconds
STORE_BUDGETS = {"memory": 10.0, "sqlite": 500.0, "redis": 1000.0}  # microseconds

LEGEND = """\
instr: instructions of one call over the bare client's; ratio: ours to the floor; x: times the floor
of client: what ours adds, as a share of the client's own work on the same call
[1] first column: the client's own instructions for a chunk; % of that work
[2] no budget of the design's: a ceiling of our own, a little above what has been counted, not to get worse"""


def startup_figure() -> Figure:
    """Measure the start of a process."""
    title = "process start, openai never imported"
    added = startup.measure()
    if added is None:
        return Figure(title, "package not installed", f"<= {STARTUP_BUDGET:.0f} ms", None)
    return Figure(title, f"+ {added:.1f} ms", f"<= {STARTUP_BUDGET:.0f} ms", added <= STARTUP_BUDGET)


def memory_figure() -> Figure:
    """Measure the growth of memory."""
    grown = memory.measure()
    title = f"memory growth over {memory.CALLS:,} calls"
    value = f"{grown.resident:.1f} B, {grown.blocks:.3f} blocks"
    return Figure(title, value, f"<= {MEMORY_BUDGET:.0f} B", grown.resident <= MEMORY_BUDGET)


def content_figure(is_rebuilt: bool) -> Figure:
    """Measure by how much longer contents take late in a conversation."""
    cost, kind = content.measure(is_rebuilt), "rebuilt" if is_rebuilt else "appended to"
    value = f"{cost.longer:+.0f} us, {cost.early:.0f} and {cost.late:.0f} us"
    title = f"content of turn {content.TURNS} over turn {content.EARLY}, history {kind}"
    return Figure(title, value, f"<= {content.LONGER_BUDGET:.0f} us", cost.longer <= content.LONGER_BUDGET)


def recorded_figure() -> Figure:
    """Measure how much of a long conversation is recorded."""
    written, said = content.recorded()
    value = f"{written / said:.2f} x, {written:,} characters"
    title = f"{content.TURNS}-turn conversation, content on"
    return Figure(title, value, f"<= {content.RECORDED_BUDGET:.0f} x", written <= content.RECORDED_BUDGET * said)


def store_figure(kind: str) -> Figure:
    """Measure what look-up and record add to a call over a store; the slower of the two clients counts."""
    title, budget = f"look-up and record, {kind}", STORE_BUDGETS[kind]
    limit = f"<= {budget:.0f} us"
    with stores.url_of(kind) as url:
        if url is None:
            return Figure(title, redis_server.missing() or "", limit, None)
        added = stores.measure(url)
    value = f"{added.blocking:.0f} us, async {added.on_loop:.0f} us"
    return Figure(title, value, limit, max(added.blocking, added.on_loop) <= budget)


def look_up_figure() -> Figure:
    """Measure a blocking look-up against redis-py's own round trip."""
    title, budget = "blocking look-up to a Redis round trip", f"<= {LOOK_UP_RATIO} x, p99 + {LOOK_UP_LATER:.0f} ms"
    if lacking := redis_server.missing():
        return Figure(title, lacking, budget, None)
    with redis_server.running() as url:
        hits, misses = look_up.measure(url)
    value = f"found {hits.ratio:.2f} x {hits.later:+.1f} ms, unknown {misses.ratio:.2f} x {misses.later:+.1f} ms"
    met = all(times.ratio <= LOOK_UP_RATIO and times.later <= LOOK_UP_LATER for times in (hits, misses))
    return Figure(title, value, budget, met)


def history_figure() -> Figure:
    """Measure what a chat history costs that is taken for evidence."""
    cost = history.measure()
    value = f"{cost.first:.0f} us, beginning known {cost.known:.0f} us, same objects {cost.same:.0f} us"
    is_met = cost.first <= HISTORY_BUDGET and max(cost.known, cost.same) <= KNOWN_BUDGET
    return Figure(
        "100 KB of chat history, HISTORY on", value, f"<= {HISTORY_BUDGET:.0f}, {KNOWN_BUDGET:.0f} us", is_met
    )


FIGURES: dict[str, Callable[[], Figure]] = {
    "start": startup_figure,
    "memory": memory_figure,
    "content-appended": functools.partial(content_figure, False),
    "content-rebuilt": functools.partial(content_figure, True),
    "content-recorded": recorded_figure,
    "look-up": look_up_figure,
    "history": history_figure,
    **{f"store-{kind}": functools.partial(store_figure, kind) for kind in STORE_BUDGETS},
}


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    options = _arguments()
    wanted = tuple(options.only.split(",")) if options.only else ("",)
    works = [work for work in WORKS if work.name.startswith(wanted)]
    figures = (
        [FIGURES[name] for name in FIGURES if name.startswith(wanted)] if options.only or not options.quick else []
    )
    if not works and not figures:
        names = ", ".join([*(work.name for work in WORKS), *FIGURES])
        raise SystemExit(f"--only: nothing begins with {options.only}; there are: {names}")
    variants = [name for name in available() if not options.quick or name in QUICK_VARIANTS]
    counted = instructions.measure(works, variants, _progress) if works else {}
    timed = cpu.measure(works, variants, _progress) if works and not options.quick else {}
    if works:
        print(table.text(table.rows(works, counted, timed)), LEGEND, sep="\n\n", end="\n\n", flush=True)
    if figures:
        print(table.figures_text([figure() for figure in figures]))
    over = [work for work in works if table.met(counted, work) is False]
    for said, is_ceiling in (("over budget", False), ("worse than before, over our own ceiling", True)):
        if titles := [work.title for work in over if work.is_ceiling is is_ceiling]:
            print(f"\n{said}: {', '.join(titles)}")
    return 1 if over else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="NAMES", help="beginnings of row names, separated by commas")
    parser.add_argument("--quick", action="store_true", help="instructions only, without peers")
    return parser.parse_args()


_started = time.monotonic()


def _progress(what: str) -> None:
    print(f"[{time.monotonic() - _started:4.0f} s] {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
