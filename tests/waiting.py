"""Waiting for what a test expects: it goes on as soon as that is so, and fails when it never is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

AT_MOST: Final = 60.0
"""Seconds: what comes later than that on a busy machine does not come."""


def until(happened: Callable[[], object], seconds: float = AT_MOST) -> None:
    """Wait until ``happened()`` is true; fails when it is not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


async def auntil(happened: Callable[[], object], seconds: float = AT_MOST) -> None:
    """As ``until``, on an event loop."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.002)
