"""Waiting for what a test expects: it goes on as soon as that is so, and fails when it never is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar

AT_MOST: Final = 60.0
"""Seconds: what comes later than that on a busy machine does not come."""


Found = TypeVar("Found")


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
