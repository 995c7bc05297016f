"""Waiting for what a test expects: it goes on as soon as that is so, and fails when it never is."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

AT_MOST: Final = 60.0
"""Seconds: what comes later than that on a busy machine does not come."""


Found = TypeVar("Found")


def run_all(threads: Sequence[threading.Thread]) -> None:
    """Start threads, and wait until each has ended."""
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def until(happened: Callable[[], Found], seconds: float = AT_MOST, pause: float = 0.002) -> Found:
    """Wait until ``happened()`` is true, and return it; fails when it is not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(pause)
    return found


async def auntil(happened: Callable[[], object], seconds: float = AT_MOST) -> None:
    """As ``until``, on an event loop."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.002)


@asynccontextmanager
async def gaps_of_another_task() -> AsyncIterator[list[float]]:
    """For how long another task of the loop did not come to its turn, each time; all is there when the block ends."""
    turns, gaps, is_over = list[float](), list[float](), asyncio.Event()

    async def beat() -> None:
        while not is_over.is_set():
            turns.append(time.perf_counter())
            await asyncio.sleep(0.001)

    beating = asyncio.ensure_future(beat())
    try:
        yield gaps
    finally:
        is_over.set()
        await beating
    gaps += [later - earlier for earlier, later in zip(turns, turns[1:])]
