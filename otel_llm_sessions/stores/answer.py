"""An answer that may come late: what a store, a provider, or anybody who is asked beside the call says in the end.

Who asks gets it at once and decides how long to wait; who stops waiting may still be told. Nothing here asks anything,
knows stores, or holds a lock: an answer is settled once, by the thread that did the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from otel_llm_sessions.guard import pass_on, report

T = TypeVar("T")
U = TypeVar("U")

_SLICES = 5


class Late(Exception):
    """There is no answer yet. Not a ``TimeoutError``, as a signal handler of the application's may raise one."""


class Answer(Generic[T]):
    """What was asked for, once it is known.

    A caller that stops waiting cancels nothing: the answer comes all the same, and ``when_done`` tells. Example::

        answer = store.ask(keys)
        if answer.wait(0.05):  # or: await answer.wait_on_loop(0.05)
            links = answer.result()
        else:
            answer.when_done(lambda late: amend(late.result()))
    """

    __slots__ = ("_callbacks", "_fault", "_on_abandoned", "_value", "is_done", "is_known")

    is_done: bool
    """Whether the answer has come; it never changes again then."""

    is_known: bool
    """Whether who was asked has answered. False while the answer has not come, and where it is only what this process
    knows, since the store rests, failed, or could not be asked."""

    _value: T

    def __init__(self, on_abandoned: Callable[[], object] | None = None) -> None:
        """Args: what to do when a caller is cancelled or interrupted while it waits, not when it is merely late."""
        self.is_done = self.is_known = False
        self._fault: BaseException | None = None
        self._callbacks: list[Callable[[Answer[T]], object]] = []  # each use of it is one step of C code
        self._on_abandoned = on_abandoned

    @classmethod
    def of(cls, value: T, *, is_known: bool = True) -> Answer[T]:
        """Return an answer that is there already."""
        answer = cls()
        answer.settle(value, is_known=is_known)
        return answer

    def settle(self, value: T, *, is_known: bool = True) -> None:
        """Give the answer: to who waits, and to who wants to be told. Called once, instead of ``fail``."""
        self._value = value
        self.is_known = is_known
        self.is_done = True
        if self._callbacks:
            self._tell()

    def settle_once(self, value: T) -> None:
        """As ``settle``, unless the answer is there already."""
        if not self.is_done:
            self.settle(value)

    def fail(self, fault: BaseException) -> None:
        """Say that there is no answer, and why. Called once, instead of ``settle``."""
        self._fault = fault
        self.is_done = True
        self._tell()

    def result(self) -> T:
        """Return the answer.

        Raises:
            Late: it has not come.
            BaseException: what went wrong instead. Answers of a `GuardedStore` never do.
        """
        if not self.is_done:
            raise Late
        if self._fault is not None:
            try:
                raise self._fault
            finally:
                del self  # the fault's traceback leads to here
        return self._value

    def when_done(self, callback: Callable[[Answer[T]], object]) -> None:
        """Call ``callback(answer)`` once the answer is there; an exception that it raises is reported.

        It is called at once where the answer is there already, else on the thread that gives the answer, which nothing
        should hold up: a store's has other callers to serve.
        """
        self._callbacks.append(callback)
        if self.is_done:
            self._tell()

    def then(self, use: Callable[[Answer[T]], U], on_abandoned: Callable[[], object] | None = None) -> Answer[U]:
        """Return the answer that ``use`` makes of this one: its value, or what it raises; ``is_known`` as here."""
        following: Answer[U] = Answer(on_abandoned)

        def go_on(answer: Answer[T]) -> None:
            try:
                value = use(answer)
            except BaseException as fault:
                following.fail(fault)
            else:
                following.settle(value, is_known=answer.is_known)

        self.when_done(go_on)
        return following

    def wait(self, seconds: float) -> bool:
        """Return whether the answer is there, within ``seconds``.

        Raises:
            BaseException: what a signal handler raises meanwhile; the question is abandoned then.
        """
        if self.is_done or seconds <= 0:
            return self.is_done
        answered = threading.Lock()
        answered.acquire()

        def told(_: Answer[T]) -> None:
            answered.release()

        self.when_done(told)
        try:
            answered.acquire(timeout=seconds)
        except BaseException:
            self._abandon()
            raise
        finally:
            self._forget(told)
        return self.is_done

    async def wait_on_loop(self, seconds: float) -> bool:
        """As ``wait``, for callers on an event loop; one that is not asyncio's is held up.

        A loop that something else holds up is late, not the store, whose answer may lie there unread. So the time is
        waited in slices, of which one that ends late counts no more than any other.

        Raises:
            asyncio.CancelledError: the caller was cancelled; the question is abandoned then.
        """
        if self.is_done or seconds <= 0:
            return self.is_done
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self.wait(seconds)
        woken: asyncio.Future[None] = loop.create_future()

        def told(_: Answer[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
                loop.call_soon_threadsafe(_wake, woken)

        self.when_done(told)
        timer = _Slices(loop, seconds, woken)
        try:
            await woken
        except BaseException:
            self._abandon()
            raise
        finally:
            timer.cancel()
            self._forget(told)
        return self.is_done

    def _tell(self) -> None:
        # Who pops a callback calls it: the thread that settles, or the one that added it just then.
        while self._callbacks:
            try:
                callback = self._callbacks.pop(0)
            except IndexError:
                return
            try:
                callback(self)
            except Exception as error:
                report("use an answer", error)

    def _forget(self, callback: Callable[[Answer[T]], object]) -> None:
        try:
            self._callbacks.remove(callback)
        except ValueError as error:  # it was called meanwhile
            pass_on(error)

    def _abandon(self) -> None:
        on_abandoned, self._on_abandoned = self._on_abandoned, None
        if on_abandoned is not None:
            on_abandoned()


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


class _Slices:
    """Wakes a caller when its time is over, as the loop keeps time."""

    __slots__ = ("_left", "_loop", "_slice", "_timer", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, woken: asyncio.Future[None]) -> None:
        self._loop = loop
        self._slice = seconds / _SLICES
        self._left = _SLICES
        self._woken = woken
        self._timer = loop.call_later(self._slice, self._slice_ended)

    def cancel(self) -> None:
        self._timer.cancel()

    def _slice_ended(self) -> None:
        self._left -= 1
        if self._left:
            self._timer = self._loop.call_later(self._slice, self._slice_ended)
        else:
            _wake(self._woken)
