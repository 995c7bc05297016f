"""Counting instructions: one process per variant under callgrind, two at a time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.worker import MARK_FUNCTION
from benchmarks.works import Work

Costs = dict[tuple[str, str], float]
SUMMARY = re.compile(rb"^summary: (\d+)", re.MULTILINE)
SECTIONS = 3


def measure(
    works: Sequence[Work], variants: Sequence[str], progress: Callable[[str], None], processes: int = 2
) -> Costs:
    """Return the instructions of one call (or chunk), the client's own included, by work and variant."""
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed (Debian: apt-get install valgrind)")
    with ThreadPoolExecutor(processes) as pool:
        jobs = {v: pool.submit(_count, v, [w for w in works if v in w.variants]) for v in variants}
        costs: Costs = {}
        for variant, job in jobs.items():
            costs.update(job.result())
            progress(f"counted: {variant}")
    return costs


def _count(variant: str, works: Sequence[Work]) -> Costs:
    if not works:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        _callgrind(out, variant, [work.name for work in works])
        sections = list(_sections(out))
    costs = {}
    for number, work in enumerate(works):
        _, few, many = sections[SECTIONS * number : SECTIONS * (number + 1)]
        costs[work.name, variant] = (many - few) / (work.many - work.few)
    return costs


def _callgrind(out: Path, variant: str, names: Sequence[str]) -> None:
    """Run the worker; callgrind writes one file per mark."""
    valgrind = ["valgrind", "--tool=callgrind", "-q", f"--dump-before={MARK_FUNCTION}"]
    worker = [sys.executable, "-m", "benchmarks.worker", variant, *names]
    done = subprocess.run(
        [*valgrind, f"--callgrind-out-file={out}", *worker],
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"counting {variant} failed:\n{done.stderr[-4000:]}")


def _sections(out: Path) -> Iterator[int]:
    """Yield the instructions counted before each mark, in order."""
    files = [path for path in out.parent.iterdir() if path.name != out.name]
    for path in sorted(files, key=lambda path: int(path.suffix[1:])):
        found = SUMMARY.search(path.read_bytes())
        if found is None:
            raise SystemExit(f"callgrind wrote no summary into {path.name}")
        yield int(found[1])
