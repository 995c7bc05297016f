"""The program that runs under callgrind: the works, several times each, with a mark before and after what counts.

python -m benchmarks.worker COUNTING VARIANT,... WORK,...
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from benchmarks.client import make_client
from benchmarks.variants import VARIANTS, Setup
from benchmarks.works import WORKS, Work

# The C function at whose entry callgrind writes down what it counted and starts again from zero. Nothing else calls it.
MARK_FUNCTION = "getpriority"
CANNOT_SWITCH = 3


def mark() -> None:
    """Close one section of the count and open the next."""
    os.getpriority(os.PRIO_PROCESS, 0)


def count(variant: str, work: Work) -> None:
    """Run ``work`` few times and many times, in two sections of the count after a warm-up."""
    setup = work.setup_for(variant)
    provider = setup.tracer_provider()
    client = make_client()
    with VARIANTS[variant](setup, provider):
        work.run(client, provider, work.warm)
        work.run(client, provider, work.warm)
        mark()
        work.run(client, provider, work.few)
        mark()
        work.run(client, provider, work.many)
        mark()


def pairs(works: Sequence[Work], variants: Sequence[str]) -> Iterator[tuple[Work, str]]:
    """Yield what is counted, in order: each work in rounds of all its variants."""
    for work in works:
        for _ in range(work.rounds):
            for variant in work.variants_of(variants):
                yield work, variant


def start_counting() -> bool:
    """Ask callgrind to count from here on; False if this machine does not let it be asked."""
    command = ["callgrind_control", "--instr=on", str(os.getpid())]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and b"OK" in done.stdout


def main(counting: str, variants: list[str], works: list[str]) -> int:
    """Count each work of the table under each variant; the sections come three to a pair."""
    gc.disable()
    for variant in variants:
        with VARIANTS[variant](Setup(), Setup().tracer_provider()):
            pass
    if counting == "no" and not start_counting():
        return CANNOT_SWITCH
    for work, variant in pairs([work for work in WORKS if work.name in works], variants):
        count(variant, work)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2].split(","), sys.argv[3].split(",")))
