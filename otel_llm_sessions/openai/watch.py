"""Ends the span of a reply that the application reads piece by piece, whatever becomes of the reading."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from threading import get_ident
from typing import Any

from otel_llm_sessions.guard import report
from otel_llm_sessions.openai import notes
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.ending import finish
from otel_llm_sessions.openai.flow import adeliver, deliver
from otel_llm_sessions.openai.held import AT_EXIT, HELD
from otel_llm_sessions.openai.observing import see as see_chunk
from otel_llm_sessions.openai.outbox import deliver_soon
from otel_llm_sessions.telemetry.values import error_type_of

_open: weakref.WeakValueDictionary[int, Watch] = weakref.WeakValueDictionary()
"""The watches whose calls have not ended, by identity: unlike a WeakSet, listed at once while threads add to it."""


def note_emptiness(call: Call) -> None:
    """Note that a stream that is complete without a single event was none: HTML with status 200, or nothing."""
    if call.first_chunk is None and call.request.match.route.is_turn:
        call.read(None)


class Watch:
    """Sees what is read of one reply, and ends the call once: at the end, on close, on failure, or when forgotten."""

    __slots__ = ("__weakref__", "_call", "_complete", "_is_over", "_process", "_see", "outbox", "reading", "undo")

    def __init__(
        self,
        call: Call,
        see: Callable[[Any], None] | None = None,
        complete: Callable[[], None] | None = None,
    ) -> None:
        """Watch a reply.

        Args:
            call: the call that it answers.
            see: takes in one piece; a chunk of the client's by default.
            complete: called when the last piece has been seen.
        """
        self._call = call
        self._see = see
        self._complete = complete
        self.outbox = call.outbox
        """What is to be recorded."""
        self.undo: Callable[[], None] | None = None
        """Takes off again what leads here; called once, when the call ends."""
        self.reading = 0
        """The thread that waits for the next piece, if any: a close that it does then is the reply's own end."""
        self._process = os.getpid()
        self._is_over = False
        _open[id(self)] = self

    @property
    def is_over(self) -> bool:
        """Whether nothing that is read from here on is the call's."""
        return self._is_over or self._call.is_over

    def see(self, chunk: Any) -> None:
        """Take in one chunk."""
        try:
            if self._see is None:
                see_chunk(self._call, chunk)
            else:
                self._see(chunk)
        except Exception as error:
            report("read a chunk", error)

    def end(self, error: BaseException | None = None, *, complete: bool = False) -> None:
        """End the call. Does nothing the second time."""
        try:
            self._end(error, complete)
        except BaseException:  # interrupted amid it: nobody comes a second time
            finish(self._call, cut_short=self._call.request.stream)
            raise

    def _end(self, error: BaseException | None, complete: bool) -> None:
        if not self._let_go():
            return
        if isinstance(error, GeneratorExit):
            return self._leave_note()
        try:
            if complete and self._complete is not None:
                self._complete()
            error_type = None if error is None or is_cut_off(error) else error_type_of(error)
            if error_type is not None and self._call.content is not None:
                self._call.content.fail(error)
            finish(self._call, error_type, cut_short=not complete and self._call.request.stream)
        except Exception as failure:
            report("end a span", failure)

    def close(self) -> None:
        """End the call because its reply is closed, unless it is so by the reading itself, which ends the call then."""
        if self.reading == get_ident():
            return
        # A generator that is collected closes the reply, too: nobody asked for that.
        error = sys.exc_info()[1]
        self.end(error if isinstance(error, GeneratorExit) else None)

    def _let_go(self) -> bool:
        """Leave the reply alone from here on; return whether the call is still to be ended."""
        undo, self.undo = self.undo, None
        if undo is not None:
            undo()
        was_over, self._is_over = self._is_over, True
        _open.pop(id(self), None)
        # In a forked child, its parent's calls are the parent's to end.
        return not (was_over or self._call.is_over) and self._process == os.getpid()

    def _leave_note(self) -> None:
        notes.leave(self._call, cut_short=self._call.request.stream)

    def deliver(self) -> None:
        """Record what the call has left behind."""
        if self.outbox:
            deliver(self._call)

    def deliver_soon(self) -> None:
        """As ``deliver``, from where nothing may wait."""
        deliver_soon(self._call)

    async def adeliver(self) -> None:
        """As ``deliver``, for callers on an event loop."""
        if self.outbox:
            await adeliver(self._call)

    def __del__(self) -> None:
        if not getattr(self, "_is_over", True) and self._let_go():  # else it was interrupted while it was being made
            self._leave_note()


def is_cut_off(error: BaseException | None) -> bool:
    """Whether an exception ends the reading without being an error of the reply: a cancellation, Ctrl-C, the end."""
    return error is not None and not isinstance(error, Exception)


def end_all() -> None:
    """End every call whose reply is still being read; for the end of the process."""
    notes.settle_at_exit()
    for ref in _open.valuerefs():
        watch = ref()
        if watch is not None:
            watch.end()
            watch.deliver()
    HELD.settle(AT_EXIT)


def end_all_at_exit() -> None:
    """Have ``end_all`` called before what is there now is shut down at exit.

    Python calls last what was registered first, and the SDK's providers register themselves when they are made: so
    this is called anew whenever another provider is met.
    """
    atexit.unregister(end_all)
    atexit.register(end_all)


def watched(iterable: Iterable[Any], watch: Watch) -> Iterator[Any]:
    """Hand on what ``iterable`` yields, as it yields it."""
    try:
        see, outbox = watch.see, watch.outbox
        watch.reading = get_ident()
        for chunk in iterable:
            watch.reading = 0
            see(chunk)
            if outbox:
                watch.deliver()
            yield chunk
            watch.reading = get_ident()
        watch.end(complete=True)
        watch.deliver()
    except BaseException as error:
        watch.end(error)
        watch.deliver()
        raise


def awatched(iterator: AsyncIterator[Any], watch: Watch) -> AsyncIterator[Any]:
    """As ``watched``; what is returned is an asynchronous generator to those who close one, where ``iterator`` is."""
    return (AsyncWatchedGenerator if isinstance(iterator, AsyncGenerator) else AsyncWatched)(iterator, watch)


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
        watch.reading = get_ident()
        try:
            chunk = await self._iterator.__anext__()
        except StopAsyncIteration:
            watch.end(complete=True)
            await watch.adeliver()
            raise
        except Exception as error:
            watch.end(error)
            await watch.adeliver()
            raise
        except BaseException as error:
            # A task that is being cancelled, or a coroutine that is being closed, must not wait for a store.
            watch.end(error)
            watch.deliver_soon()
            raise
        finally:
            watch.reading = 0
        watch.see(chunk)
        if watch.outbox:
            await watch.adeliver()
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)


class AsyncWatchedGenerator(AsyncWatched):
    """As ``AsyncWatched``, where the iterator is an asynchronous generator: it is closed as that is."""

    __slots__ = ()

    def asend(self, value: Any) -> Any:
        """As the generator's."""
        return self._generator.asend(value)

    def athrow(self, *error: Any) -> Any:
        """As the generator's."""
        return self._generator.athrow(*error)

    def aclose(self) -> Any:
        """As the generator's: in as many steps of the event loop."""
        return self._generator.aclose()

    @property
    def _generator(self) -> Any:
        return self._iterator
