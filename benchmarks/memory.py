"""Whether memory grows with the number of calls.

python -m benchmarks.memory      prints the bytes of resident memory that one call left behind
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

WARM_CALLS = 26_000  # what is bounded has filled up, and the allocator has settled, after about 20,000
CALLS = 20_000
MAX_KEYS = 2_000  # a small store, so that it is full, as it will be one day, before memory is looked at


def measure() -> float:
    """Return the growth in bytes per call, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def growth() -> float:
    """Make calls, half of them first turns of sessions, until nothing new should be kept; then measure more of them."""
    from benchmarks.variants import Setup
    from otel_llm_sessions.instrumentor import OpenAISessionsInstrumentor

    provider = Setup().tracer_provider()
    OpenAISessionsInstrumentor().instrument(tracer_provider=provider, traces="session", max_keys=MAX_KEYS)
    _calls(WARM_CALLS)
    before = _resident()
    _calls(CALLS)
    return (_resident() - before) / CALLS


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
    print(growth())
