"""Stands between an HTTP response and its stream, so that what is read of it, and that it is closed, is seen.

Every way to read a response that has not been read yet iterates ``response.stream``, and every way to close it closes
that (httpx 0.23 to httpx2 2.16). It is the one attribute that is replaced, and put back when the call ends: the
response's class, its methods and the names of its attributes stay what they are, and a copy of it, pickled or not, is
made without its stream anyway.
"""

from __future__ import annotations

import copy
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.watch import Watch, awatched, is_cut_off, watched

try:
    from wrapt import BaseObjectProxy as Proxy
except ImportError:  # wrapt before 2, whose proxies are iterable, whatever they stand for
    from wrapt import ObjectProxy as Proxy


def watch_reading(response: Any, watch: Watch) -> None:
    """Have a watch see what is read of a response, and that it is closed.

    Args:
        response: the HTTP response (``httpx2``, ``httpx`` with older clients), whose body has not been read yet.
        watch: lives as long as the response from here on.
    """
    _put(response, watch, lambda: watch, is_to_be_read=True)


def watch_closing(response: Any, watch: Watch) -> None:
    """Have a watch see that a response is closed; who reads the response keeps the watch alive."""
    _put(response, watch, weakref.ref(watch), is_to_be_read=False)


def _put(response: Any, watch: Watch, watching: Callable[[], Watch | None], *, is_to_be_read: bool) -> None:
    stream = response.stream
    seen = _kind_for(stream)(stream, watching, is_to_be_read)
    # By weak references: a response that the application forgets is to go at once, as it would without us.
    watch.undo = partial(_put_back, weakref.ref(response), weakref.ref(seen))
    response.stream = seen


def _put_back(response: Callable[[], Any], seen: Callable[[], Any]) -> None:
    """Give a response its stream back; one that somebody has wrapped stays, and passes on."""
    its, ours = response(), seen()
    try:
        if its is not None and ours is not None and its.stream is ours:
            its.stream = ours.__wrapped__
    except Exception as error:  # a class of the application's, where nothing may be logged
        pass_on(error)


class _Seen(Proxy):  # type: ignore[type-arg]
    """A response's stream: the stream itself to whoever looks at it, by ``isinstance`` too."""

    def __init__(self, stream: Any, watching: Callable[[], Watch | None], is_to_be_read: bool) -> None:
        super().__init__(stream)
        self._self_watching = watching
        self._self_is_to_be_read = is_to_be_read

    def _self_reader(self) -> Watch | None:
        """Return the watch that is to see what is read: the first time, and while the call goes on."""
        is_to_be_read, self._self_is_to_be_read = self._self_is_to_be_read, False
        watch = self._self_watching() if is_to_be_read else None
        return None if watch is None or watch.is_over else watch

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __copy__(self) -> Any:
        return copy.copy(self.__wrapped__)

    def __deepcopy__(self, memo: Any) -> Any:
        return copy.deepcopy(self.__wrapped__, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__wrapped__.__reduce_ex__(protocol)


class _SyncSeen(_Seen):
    def __iter__(self) -> Iterator[bytes]:
        watch = self._self_reader()
        return iter(self.__wrapped__) if watch is None else watched(self.__wrapped__, watch)

    def close(self) -> None:
        watch = self._self_watching()
        # Ended first: closing makes another thread that waits for a piece fail, which is no error of the reply's.
        if watch is not None:
            watch.close()
        try:
            self.__wrapped__.close()
        finally:
            if watch is not None:
                watch.deliver()


class _AsyncSeen(_Seen):
    def __aiter__(self) -> AsyncIterator[bytes]:
        watch = self._self_reader()
        try:
            pieces = self.__wrapped__.__aiter__()
        except BaseException as error:
            if watch is not None:
                watch.end(error)
                watch.deliver_soon()
            raise
        return pieces if watch is None else awatched(pieces, watch)

    async def aclose(self) -> None:
        watch = self._self_watching()
        if watch is None:
            await self.__wrapped__.aclose()
            return
        watch.close()
        # A coroutine that is being closed, or a task that is being cancelled, must not wait for a store.
        may_wait = not is_cut_off(sys.exc_info()[1])
        try:
            await self.__wrapped__.aclose()
        except BaseException:
            watch.deliver_soon()
            raise
        if may_wait:
            await watch.adeliver()
        else:
            watch.deliver_soon()


class _BothSeen(_SyncSeen, _AsyncSeen):
    """A stream that is read either way, as a transport of the application's may have."""


def _kind_for(stream: Any) -> type[_Seen]:
    """Return the class that has the methods which a stream has, and no others."""
    if not hasattr(stream, "__aiter__"):
        return _SyncSeen
    return _BothSeen if hasattr(stream, "__iter__") else _AsyncSeen
