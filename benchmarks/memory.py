"""Whether memory grows with the number of calls.

python -m benchmarks.memory      prints what one call left behind: bytes of resident memory, and Python's blocks

Resident memory is what counts, and goes by whole pages as the allocators please; blocks say whether an object is kept.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

WARM_CALLS = 26_000  # what is bounded has filled up, and the allocator has settled, after about 20,000
CALLS = 20_000
MAX_KEYS = 2_000  # a small store, so that it is full, as it will be one day, before memory is looked at


class Growth(NamedTuple):
    """What one call left behind."""

    resident: float
    """In bytes."""
    blocks: float
    """In blocks of Python's allocator: every object that is kept is one at least."""


def measure() -> Growth:
    """Return the growth per call, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    resident, blocks = map(float, done.stdout.split())
    return Growth(resident, blocks)


def growth() -> Growth:
    """Make calls, half of them first turns of sessions, until nothing new should be kept; then measure more of them."""
    from benchmarks.variants import Setup
    from otel_llm_sessions.instrumentor import OpenAISessionsInstrumentor

    provider = Setup().tracer_provider()
    OpenAISessionsInstrumentor().instrument(tracer_provider=provider, traces="session", max_keys=MAX_KEYS)
    _calls(WARM_CALLS)
    resident, blocks = _resident(), sys.getallocatedblocks()
    _calls(CALLS)
    return Growth((_resident() - resident) / CALLS, (sys.getallocatedblocks() - blocks) / CALLS)


def _calls(count: int) -> None:
    from benchmarks.client import make_client
    from benchmarks.variants import Setup
    from benchmarks.works import chat, first_turn

    client, provider = make_client(), Setup().tracer_provider()
    for work in (chat, first_turn):
        work(client, provider, count // 2)


def _resident() -> int:
    gc.collect()
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(*growth())
