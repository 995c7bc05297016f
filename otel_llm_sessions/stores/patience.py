"""How long a caller on an event loop waits for something that others may be late to be told of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

_SLICES = 5


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Return what ``work`` comes to, or cancel it after ``seconds`` and raise ``asyncio.TimeoutError``.

    A loop that something else holds up is late, not the store, whose answer may lie there unread. So the time is waited
    in slices, of which one that ends late counts no more than any other.
    """
    task = asyncio.ensure_future(work)
    try:
        for _ in range(_SLICES):
            await asyncio.wait((task,), timeout=seconds / _SLICES)
            if task.done():
                break
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # also when the caller was cancelled, and does not ask for it
    if task.cancelled():
        # Also by somebody else, who cancels all tasks that there are: it is not the caller who was cancelled.
        raise asyncio.TimeoutError
    return task.result()
