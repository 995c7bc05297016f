"""How long a caller on an event loop waits for something that others may be late to be told of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_SLICES = 5


class Unbegun(Coroutine[Any, Any, T], Generic[T]):
    """A coroutine that is made with its first step.

    A loop may be closed before that; Python would complain of a plain one, which nobody awaited.
    """

    __slots__ = ("_make", "_steps")

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        """Args: what makes it."""
        self._make = make
        self._steps: Any = None

    def send(self, value: Any) -> Any:
        """See ``collections.abc.Coroutine``."""
        if self._steps is None:
            self._steps = self._make().__await__()
        return self._steps.send(value) if value is not None else next(self._steps)

    def throw(self, *raised: Any) -> Any:
        """See ``collections.abc.Coroutine``."""
        return super().throw(*raised) if self._steps is None else self._steps.throw(*raised)

    def close(self) -> None:
        """See ``collections.abc.Coroutine``."""
        if hasattr(self._steps, "close"):
            self._steps.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return (yield from self._make().__await__())


def in_task(
    loop: asyncio.AbstractEventLoop, make: Callable[[], Awaitable[T]], name: str = "otel-llm-sessions"
) -> asyncio.Task[T]:
    """Begin what ``make`` makes in a task of ours, of which nobody complains when its loop is closed over it.

    To close a loop as it stands is the application's way to end, and nobody would complain of it without us.
    """
    task = loop.create_task(Unbegun(make), name=name)
    if isinstance(task, asyncio.Task):  # else it is of a factory of the application's
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    return task


async def within(seconds: float, make: Callable[[], Awaitable[T]]) -> T:
    """Return what the work that ``make`` begins comes to; cancel it after ``seconds``: ``asyncio.TimeoutError``.

    A loop that something else holds up is late, not the store, whose answer may lie there unread. So the time is waited
    in slices, of which one that ends late counts no more than any other.
    """
    task = in_task(asyncio.get_running_loop(), make)
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
