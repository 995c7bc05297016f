"""Ends the span of a reply that the application reads piece by piece, whatever becomes of the reading."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import sys
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from threading import get_ident
from types import FrameType
from typing import Any, Final, NamedTuple

from otel_llm_sessions.guard import report
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.sessions.link import Record
from otel_llm_sessions.telemetry.values import error_type_of

ABANDONED = (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt, SystemExit)
"""What ends the reading of a stream without being an error of it."""

LOCKING: Final = (
    "opentelemetry.sdk",
    "otel_llm_sessions.forks",
    "otel_llm_sessions.sessions",
    "otel_llm_sessions.traces",
)
"""Modules that hold locks, not all of them reentrant, which ending a span takes; or amid a fork."""

_open: weakref.WeakValueDictionary[int, Watch] = weakref.WeakValueDictionary()
"""The watches whose calls have not ended, by identity: unlike a WeakSet, listed at once while threads add to it."""

_forgotten: deque[Watch] = deque()
"""Watches that were abandoned where their calls could not be ended."""


def note_emptiness(call: Call) -> None:
    """Note that a stream that is complete without a single event was none: HTML with status 200, or nothing."""
    if call.first_chunk is None and call.request.match.route.is_turn:
        call.read(None)


class Hooked(NamedTuple):
    """An HTTP response with hooks on it."""

    response: Any
    hooks: dict[str, Callable[..., Any]]
    before: dict[str, Any]
    """What the response had of its own under the hooks' names."""

    def unhook(self) -> None:
        """Put back what was there; a hook that somebody has wrapped stays, and passes on."""
        own = self.response.__dict__
        for name, hook in self.hooks.items():
            if own.get(name) is hook:
                del own[name]
                if name in self.before:
                    own[name] = self.before[name]


class Watch:
    """Sees what is read of one reply, and ends the call once: at the end, on close, on failure, or when forgotten."""

    __slots__ = ("__weakref__", "_call", "_complete", "_hooked", "_see", "is_foreign", "reading")

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
        self._hooked: Hooked | None = None
        self.reading = 0
        """The thread that waits for the next piece, if any: a close that it does then is the reply's own end."""
        self.is_foreign = False
        """Whether this is a forked child's copy, whose call the parent process ends."""
        _open[id(self)] = self

    def hook(self, response: Any, **readers: Callable[..., Any]) -> None:
        """Put hooks on one HTTP response, taken off again when the call ends.

        They are attributes of the instance, so that its class stays what it was. They hold the response strongly: a
        generator of the client that the garbage collector finalizes still closes it through them, when weak
        references are cleared already.

        Args:
            response: the response, of ``httpx2`` (``httpx`` with older clients).
            readers: hooks for methods that read the body.
        """
        me = weakref.ref(self)
        hooks = {"close": _close_hook(response, me), "aclose": _aclose_hook(response, me), **readers}
        own = response.__dict__
        self._hooked = Hooked(response, hooks, {name: own[name] for name in hooks if name in own})
        own.update(hooks)

    def see(self, chunk: Any) -> Record | None:
        """Take in one chunk; return what is to be recorded now."""
        try:
            return self._see(chunk)
        except Exception as error:
            report("read a chunk", error)
            return None

    def end(self, error: BaseException | None = None, *, complete: bool = False) -> Record | None:
        """End the call; return what is to be recorded. Does nothing the second time."""
        hooked, self._hooked = self._hooked, None
        if hooked is not None:
            hooked.unhook()
        _open.pop(id(self), None)
        if self._call.is_over or self.is_foreign:
            return None
        error_type = None if error is None or isinstance(error, ABANDONED) else error_type_of(error)
        if not complete and error_type is None and _is_amid_locks():
            _forgotten.append(self)
            return None
        return self.end_here(error_type, complete)

    def close(self) -> Record | None:
        """End the call because its reply is closed, unless it is so by the reading itself, which ends the call then."""
        return self.end() if self.reading != get_ident() else None

    def end_here(self, error_type: str | None = None, complete: bool = False) -> Record | None:
        """As ``end``, where no lock is held that ending a span takes."""
        try:
            if complete and self._complete is not None:
                self._complete()
            return self._call.finish(error_type, cut_short=not complete and self._call.request.stream)
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

    def __del__(self) -> None:
        if not self._call.is_over:
            self.remember_soon(self.end())


def _is_amid_locks() -> bool:
    """Whether this thread may hold a lock that ending a span would wait for.

    It does when the garbage collector, which finalizes what was abandoned, interrupts the code that holds it.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(LOCKING):
            return True
        frame = frame.f_back
    return False


def end_forgotten() -> None:
    """End the calls that could not be ended when their replies were abandoned."""
    while _forgotten and not _is_amid_locks():
        try:
            watch = _forgotten.popleft()
        except IndexError:  # another thread was faster
            return
        watch.remember_soon(watch.end_here())


def end_all() -> None:
    """End every call whose reply is still being read; for the end of the process."""
    end_forgotten()
    for ref in _open.valuerefs():
        watch = ref()
        if watch is not None:
            watch.remember(watch.end())


def _disown_all() -> None:
    for forgotten in _forgotten:
        forgotten.is_foreign = True
    _forgotten.clear()
    for ref in _open.valuerefs():
        watch = ref()
        if watch is not None:
            watch.is_foreign = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)


@functools.cache
def end_all_at_exit() -> None:
    """Have ``end_all`` called before the tracer provider shuts down, if that was set before; once per process."""
    atexit.register(end_all)


def _close_hook(response: Any, watch: weakref.ref[Watch]) -> Callable[[], None]:
    close = response.close

    def hooked() -> None:
        watching = watch()
        # Ended first: closing makes another thread that waits for a piece fail, which is no error of the reply's.
        record = watching.close() if watching is not None else None
        try:
            close()
        finally:
            if watching is not None:
                watching.remember(record)

    return hooked


def _aclose_hook(response: Any, watch: weakref.ref[Watch]) -> Callable[[], Any]:
    aclose = response.aclose

    async def hooked() -> None:
        watching = watch()
        if watching is None:
            await aclose()
            return
        record = watching.close()
        # A coroutine that is being closed, or a task that is being cancelled, must not wait for a store.
        may_wait = not isinstance(sys.exc_info()[1], ABANDONED)
        try:
            await aclose()
        except BaseException:
            watching.remember_soon(record)
            raise
        if may_wait:
            await watching.aremember(record)
        else:
            watching.remember_soon(record)

    return hooked


def watched(iterator: Iterator[Any], watch: Watch) -> Iterator[Any]:
    """Hand on what ``iterator`` yields, as it yields it."""
    see = watch.see
    try:
        watch.reading = get_ident()
        for chunk in iterator:
            watch.reading = 0
            record = see(chunk)
            if record is not None:
                watch.remember(record)
            yield chunk
            watch.reading = get_ident()
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
        watch.reading = get_ident()
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
            watch.reading = 0
        record = watch.see(chunk)
        if record is not None:
            await watch.aremember(record)
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)
