"""How long a caller waits for a store, on an event loop or for another thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
Owned = TypeVar("Owned")

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


class Job(Generic[Owned, T]):
    """What a caller has another thread do, with what that thread owns.

    As ``concurrent.futures.Future`` and ``asyncio.wrap_future``, by fewer steps: callers wait a quarter shorter.
    """

    __slots__ = ("_error", "_is_done", "_once", "_tell", "_value", "_work")

    _value: T

    def __init__(self, work: Callable[[Owned], T]) -> None:
        self._work = work
        self._once = [None]  # taken by who does the work, or gives it up before
        self._is_done = False
        self._error: BaseException | None = None
        self._tell: Callable[[], None]

    def do(self, owned: Callable[[], Owned]) -> None:
        """Do the work with what ``owned`` returns, on the thread that owns it; nothing if no one waits any more."""
        if not self._is_first():
            return
        try:
            self._value = self._work(owned())
        except BaseException as error:
            self._error = error
        self._is_done = True
        self._tell()

    def wait(self, seconds: float, hand_over: Callable[[Job[Owned, T]], None]) -> T:
        """Hand the job over and return what its work comes to, or raise what it raises, or TimeoutError."""
        answered = threading.Lock()
        answered.acquire()
        self._tell = answered.release
        hand_over(self)
        answered.acquire(timeout=seconds)
        return self._outcome()

    async def wait_on_loop(self, seconds: float, hand_over: Callable[[Job[Owned, T]], None]) -> T:
        """As ``wait``, for callers on an event loop; the time is waited in slices, as by ``within``."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        slices = _SLICES
        timer: asyncio.TimerHandle

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
                loop.call_soon_threadsafe(wake)

        def slice_ended() -> None:
            nonlocal slices, timer
            slices -= 1
            if slices:
                timer = loop.call_later(seconds / _SLICES, slice_ended)
            else:
                wake()

        self._tell = tell
        hand_over(self)
        timer = loop.call_later(seconds / _SLICES, slice_ended)
        try:
            await woken
        except BaseException:
            self._is_first()  # who is cancelled wants it done no longer
            raise
        finally:
            timer.cancel()
        return self._outcome()

    def _is_first(self) -> bool:
        """Return True to the first that asks."""
        try:
            self._once.pop()
        except IndexError:
            return False
        return True

    def _outcome(self) -> T:
        if not self._is_done:
            self._is_first()
            raise TimeoutError
        error = self._error
        if error is not None:
            try:
                raise error
            finally:
                del self, error  # its traceback leads to here
        return self._value
