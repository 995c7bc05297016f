"""How long a caller on an event loop waits for something that others may be late to be told of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")
F = TypeVar("F", bound="asyncio.Future[Any]")

_SLICES = 5


def quiet(task: F) -> F:
    """Return a task of ours, of which asyncio does not complain when its loop is closed over it.

    To close a loop as it stands is the application's way to end, and asyncio would not complain of it without us.
    """
    if isinstance(task, asyncio.Task):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    return task


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Return what ``work`` comes to, or cancel it after ``seconds`` and raise ``asyncio.TimeoutError``.

    A loop that something else holds up is late, not the store, whose answer may lie there unread. So the time is waited
    in slices, of which one that ends late counts no more than any other.
    """
    task = quiet(asyncio.ensure_future(work))
    try:
        for _ in range(_SLICES):
            await asyncio.wait((task,), timeout=seconds / _SLICES)
            if task.done():
                break
    except GeneratorExit:  # its loop was closed over it, and is no more to be waited in
        raise
    except BaseException:  # the caller was cancelled, and does not ask what became of it
        await _ended(task)
        raise
    await _ended(task)
    if task.cancelled():
        # Also by somebody else, who cancels all tasks that there are: it is not the caller who was cancelled.
        raise asyncio.TimeoutError
    return task.result()


async def _ended(task: asyncio.Future[Any]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()
