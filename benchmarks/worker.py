"""The program that runs under callgrind: the works, with a mark before and after what counts.

    python -m benchmarks.worker VARIANT WORK...
"""

from __future__ import annotations

import gc
import os
import sys

from benchmarks.client import make_client
from benchmarks.variants import VARIANTS
from benchmarks.works import WORKS, Work

# The C function at whose entry callgrind writes down what it counted and starts again from zero. Nothing else calls it.
MARK_FUNCTION = "getpriority"


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


def main(variant: str, names: list[str]) -> None:
    """Count each work, in the order of the table; the sections come three to a work."""
    gc.disable()
    for work in WORKS:
        if work.name in names:
            count(variant, work)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
