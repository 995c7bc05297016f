"""Counting instructions: one process per variant under callgrind, two at a time."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from benchmarks.worker import CANNOT_SWITCH, MARK_FUNCTION, pairs
from benchmarks.works import Work

Costs = dict[tuple[str, str], float]
SUMMARY = re.compile(rb"^summary: (\d+)", re.MULTILINE)
SECTIONS = 3


def measure(
    works: Sequence[Work], variants: Sequence[str], progress: Callable[[str], None], processes: int = 2
) -> Costs:
    """Return the instructions of one call (or chunk), the client's own included, by work and variant.

    All variants of a work run in one process, in turns: the client's own count depends a little on where its classes
    and objects happen to lie in memory (their hashes), by some thousandths of it, which is hundredths of what is added
    to it. So each is counted several times, with a client of its own, and the middle count stands.
    """
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed (Debian: apt-get install valgrind)")
    parts = [works[start::processes] for start in range(min(processes, len(works)))]
    costs: Costs = {}
    with ThreadPoolExecutor(processes) as pool:
        for part in as_completed([pool.submit(_count, part, variants) for part in parts]):
            costs.update(part.result())
            progress(f"counted {len(costs)} of {sum(len(work.variants_of(variants)) for work in works)}")
    return costs


def _count(works: Sequence[Work], variants: Sequence[str]) -> Costs:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        _callgrind(out, variants, [work.name for work in works])
        sections = list(_sections(out))
    counts = defaultdict(list)
    for number, (work, variant) in enumerate(pairs(works, variants)):
        _, few, many = sections[SECTIONS * number : SECTIONS * (number + 1)]
        counts[work.name, variant].append((many - few) / (work.many - work.few))
    return {pair: statistics.median(found) for pair, found in counts.items()}


def _callgrind(out: Path, variants: Sequence[str], names: Sequence[str]) -> None:
    """Run the worker; callgrind writes one file per mark.

    Counting starts when the worker asks for it, which saves a minute of imports; where a process may not be traced
    (some containers) it cannot ask, and everything is counted.
    """
    done = _worker(out, "no", variants, names)
    if done.returncode == CANNOT_SWITCH:
        done = _worker(out, "yes", variants, names)
    if done.returncode:
        raise SystemExit(f"counting {', '.join(names)} failed:\n{done.stderr[-4000:]}")


def _worker(
    out: Path, at_start: str, variants: Sequence[str], names: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    valgrind = ["valgrind", "--tool=callgrind", "-q", f"--instr-atstart={at_start}", f"--dump-before={MARK_FUNCTION}"]
    worker = [sys.executable, "-m", "benchmarks.worker", at_start, ",".join(variants), ",".join(names)]
    return subprocess.run(
        [*valgrind, f"--callgrind-out-file={out}", *worker],
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def _sections(out: Path) -> Iterator[int]:
    """Yield the instructions counted before each mark, in order."""
    files = [path for path in out.parent.iterdir() if path.name != out.name]
    for path in sorted(files, key=lambda path: int(path.suffix[1:])):
        found = SUMMARY.search(path.read_bytes())
        if found is None:
            raise SystemExit(f"callgrind wrote no summary into {path.name}")
        yield int(found[1])
