"""How long a caller on an event loop waits for a store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from concurrent.futures import Future
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
                return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # also when the caller was cancelled, and does not ask for it
    if task.cancelled():
        raise asyncio.TimeoutError
    return task.result()


async def answer_within(seconds: float, work: Future[T]) -> T:
    """As ``within``, for what another thread does: the same by fewer steps than ``asyncio.wrap_future`` takes."""
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()
    slices = _SLICES
    timer: asyncio.TimerHandle

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    def answered(_: Future[T]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            loop.call_soon_threadsafe(wake)

    def slice_ended() -> None:
        nonlocal slices, timer
        slices -= 1
        if slices:
            timer = loop.call_later(seconds / _SLICES, slice_ended)
        else:
            wake()

    timer = loop.call_later(seconds / _SLICES, slice_ended)
    work.add_done_callback(answered)
    try:
        await woken
    finally:
        timer.cancel()
        work.cancel()
    if work.cancelled() or not work.done():
        raise asyncio.TimeoutError
    return work.result()
