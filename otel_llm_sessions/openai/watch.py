"""Ends the span of a reply that the application reads piece by piece, whatever becomes of the reading."""

from __future__ import annotations

import asyncio
import atexit
import functools
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from otel_llm_sessions.guard import report
from otel_llm_sessions.openai.call import Call, Record

ABANDONED = (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt, SystemExit)
"""What ends the reading of a stream without being an error of it."""

_open: weakref.WeakSet[Watch] = weakref.WeakSet()


def error_type_of(error: BaseException) -> str:
    """Return ``error.type`` of an exception: its fully qualified name."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


class Watch:
    """Sees what is read of one reply, and ends the call once: at the end, on close, on failure, or when forgotten."""

    __slots__ = ("__weakref__", "_call", "_complete", "_hooked", "_see", "reading")

    def __init__(
        self,
        call: Call,
        see: Callable[[Any], Record | None] | None = None,
        complete: Callable[[], None] | None = None,
    ) -> None:
        """Watch a reply.

        Args:
            call: the call that it answers.
            see: takes in one piece and returns what is to be recorded; ``call.see`` by default.
            complete: called when the last piece has been seen.
        """
        self._call = call
        self._see = see or call.see
        self._complete = complete
        self._hooked: weakref.ref[Any] | None = None
        self.reading = False
        """Whether the application is waiting for the next piece: a close that comes then is the reply's own end."""
        _open.add(self)

    def hook(self, response: Any, **readers: Callable[..., Any]) -> None:
        """Put hooks on one HTTP response, taken off again when the call ends.

        They are attributes of the instance, so that its class stays what it was. They hold the response strongly: a
        generator of the client that the garbage collector finalizes still closes it through them, when weak
        references are cleared already.

        Args:
            response: the response, of ``httpx2`` (``httpx`` with older clients).
            readers: hooks for methods that read the body.
        """
        self._hooked = weakref.ref(response)
        me = weakref.ref(self)
        response.__dict__.update(close=_close_hook(response, me), aclose=_aclose_hook(response, me), **readers)

    @property
    def response(self) -> Any:
        """The HTTP response that has hooks."""
        return self._hooked() if self._hooked is not None else None

    def see(self, chunk: Any) -> Record | None:
        """Take in one chunk; return what is to be recorded now."""
        try:
            return self._see(chunk)
        except Exception as error:
            report("read a chunk", error)
            return None

    def end(self, error: BaseException | None = None, *, complete: bool = False) -> Record | None:
        """End the call; return what is to be recorded. Does nothing the second time."""
        self._unhook()
        _open.discard(self)
        cut_short = not complete and self._call.request.stream
        error_type = None if error is None or isinstance(error, ABANDONED) else error_type_of(error)
        try:
            if complete and self._complete is not None:
                self._complete()
            return self._call.finish(error_type, cut_short=cut_short)
        except Exception as failure:
            report("end a span", failure)
            return None

    def remember(self, record: Record | None) -> None:
        """Record what the turn left behind."""
        if record is not None:
            self._call.runtime.remember(record)

    def remember_soon(self, record: Record | None) -> None:
        """As ``remember``, from where nothing may wait."""
        self._call.runtime.remember_soon(record)

    async def aremember(self, record: Record | None) -> None:
        """As ``remember``, for callers on an event loop."""
        if record is not None:
            await self._call.runtime.aremember(record)

    def _unhook(self) -> None:
        response = self.response
        if response is not None:
            for name in HOOKS:
                response.__dict__.pop(name, None)

    def __del__(self) -> None:
        if not self._call.is_over:
            self.remember_soon(self.end())


HOOKS = ("close", "aclose", "iter_bytes", "aiter_bytes")


def end_all() -> None:
    """End every call whose reply is still being read; for the end of the process."""
    for watch in list(_open):
        watch.remember(watch.end())


@functools.cache
def end_all_at_exit() -> None:
    """Have ``end_all`` called before the tracer provider shuts down, if that was set before; once per process."""
    atexit.register(end_all)


def _close_hook(response: Any, watch: weakref.ref[Watch]) -> Callable[[], None]:
    close = response.close

    def hooked() -> None:
        try:
            close()
        finally:
            watching = watch()
            if watching is not None and not watching.reading:
                watching.remember(watching.end())

    return hooked


def _aclose_hook(response: Any, watch: weakref.ref[Watch]) -> Callable[[], Any]:
    aclose = response.aclose

    async def hooked() -> None:
        try:
            await aclose()
        finally:
            watching = watch()
            if watching is not None and not watching.reading:
                await watching.aremember(watching.end())

    return hooked


def watched(iterator: Iterator[Any], watch: Watch) -> Iterator[Any]:
    """Hand on what ``iterator`` yields, as it yields it."""
    see = watch.see
    try:
        watch.reading = True
        for chunk in iterator:
            watch.reading = False
            record = see(chunk)
            if record is not None:
                watch.remember(record)
            yield chunk
            watch.reading = True
    except BaseException as error:
        watch.remember(watch.end(error))
        raise
    watch.remember(watch.end(complete=True))


class AsyncWatched:
    """Hands on what an asynchronous iterator yields, as it yields it.

    Not an asynchronous generator: around the client's own it would take the event loop two steps to close them both
    where the application expects one.
    """

    __slots__ = ("_iterator", "_watch")

    def __init__(self, iterator: AsyncIterator[Any], watch: Watch) -> None:
        self._iterator = iterator
        self._watch = watch

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        watch = self._watch
        watch.reading = True
        try:
            chunk = await self._iterator.__anext__()
        except StopAsyncIteration:
            await watch.aremember(watch.end(complete=True))
            raise
        except Exception as error:
            await watch.aremember(watch.end(error))
            raise
        except BaseException as error:
            # A task that is being cancelled, or a coroutine that is being closed, must not wait for a store.
            watch.remember_soon(watch.end(error))
            raise
        finally:
            watch.reading = False
        record = watch.see(chunk)
        if record is not None:
            await watch.aremember(record)
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)
