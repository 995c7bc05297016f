"""One thread per shared store that does what callers ask, so that none waits longer than it may.

The thread alone owns a connection. What is asked while it is busy is done together next. A caller that waits no longer
(it was late, cancelled, interrupted) wants nothing done, unless that has begun.

Locks, queue and thread are made when they are first used, and anew once gevent or eventlet has patched what they are
made of: a greenlet that waits for a lock from before the patch would hold up all others for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from otel_llm_sessions.stores.shared import StoreDown

Asked = TypeVar("Asked")
Asking = TypeVar("Asking", contravariant=True)
T = TypeVar("T")

MAX_WAITING = 1_000
_AT_ONCE = 100
_SLICES = 5


class Late(Exception):
    """There was no answer in time. Not a ``TimeoutError``, as a signal handler of the application's may raise one."""


class Connected(Protocol[Asking]):
    """What the thread owns."""

    def serve(self, asked: Sequence[Asking]) -> Iterator[Any]:
        """Yield what each thing asked comes to, in order: an exception is raised where it was asked."""
        ...

    def pause(self, seconds: float) -> bool:
        """Leave nothing open that a child process must not inherit; return whether that could be done in time."""
        ...

    def go_on(self) -> None:
        """Work again, after ``pause``."""
        ...

    def close(self) -> None:
        """Release everything; nothing is asked afterwards."""
        ...


class Job(Generic[Asked]):
    """What a caller asks for, and waits for.

    As ``concurrent.futures.Future`` and ``asyncio.wrap_future``, by fewer steps: callers wait a quarter shorter.
    """

    __slots__ = ("_is_done", "_once", "_outcome", "_tell", "asked")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self._once = [None]  # taken by who does the work, or gives it up before
        self._is_done = False
        self._outcome: Any = None
        self._tell: Callable[[], None]

    def take(self) -> bool:
        """Return True to the first that asks: to the thread, unless nobody waits any more."""
        try:
            self._once.pop()
        except IndexError:
            return False
        return True

    def settle(self, outcome: Any) -> None:
        """Answer who waits."""
        self._outcome = outcome
        self._is_done = True
        self._tell()

    def wait(self, seconds: float, hand_over: Callable[[Job[Asked]], None]) -> Any:
        """Hand the job over and return what it comes to, or raise that, or ``Late``."""
        answered = threading.Lock()
        answered.acquire()
        self._tell = answered.release
        hand_over(self)
        try:
            answered.acquire(timeout=seconds)
        except BaseException:
            self.take()  # who is interrupted wants it done no longer
            raise
        return self._answer()

    async def wait_on_loop(self, seconds: float, hand_over: Callable[[Job[Asked]], None]) -> Any:
        """As ``wait``, for callers on an event loop.

        A loop that something else holds up is late, not the store, whose answer may lie there unread. So the time is
        waited in slices, of which one that ends late counts no more than any other.
        """
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
            self.take()  # who is cancelled wants it done no longer
            raise
        finally:
            timer.cancel()
        return self._answer()

    def _answer(self) -> Any:
        if not self._is_done:
            self.take()
            raise Late
        outcome = self._outcome
        if isinstance(outcome, BaseException):
            try:
                raise outcome
            finally:
                del self, outcome  # its traceback leads to here
        return outcome


class Keeper(Generic[Asked]):
    """The thread of one store in one process; started by the first job."""

    def __init__(self, name: str, connect: Callable[[], Connected[Asked]]) -> None:
        """Args: what tells the thread from others; what makes a new owner of a connection, which it opens later."""
        self._name = name
        self._connect = connect
        self._crew: _Crew[Asked] | None = None
        self._lock = threading.RLock()  # a signal's handler may make a call amid one
        self._refusal = ""

    def ask(self, asked: Asked, seconds: float) -> Any:
        """Return what ``asked`` comes to, or raise that, or ``Late``, or ``StoreDown`` if nothing more can be asked."""
        return Job(asked).wait(seconds, self._take)

    async def ask_on_loop(self, asked: Asked, seconds: float) -> Any:
        """As ``ask``, for callers on an event loop."""
        return await Job(asked).wait_on_loop(seconds, self._take)

    def stop(self, patience: float) -> None:
        """End the thread, after what waits, and release what it owns; who asks again has a new one."""
        with self._lock:
            crew, self._crew = self._crew, None
        if crew is not None:
            crew.dismiss()
            if crew.is_of_these_threads and crew.thread.ident is not None:
                crew.thread.join(patience)

    def refuse(self, why: str) -> None:
        """Do nothing from now on."""
        self._refusal = why

    def pause(self, patience: float) -> None:
        """Work no more until ``go_on``, with nothing open; ``is_paused`` says whether that could be done in time."""
        crew = self._crew
        if crew is not None:
            crew.pause(patience)

    @property
    def is_paused(self) -> bool:
        """Whether nothing is open."""
        return self._crew is None or self._crew.is_paused

    def go_on(self) -> None:
        """Work again, after ``pause``."""
        if self._crew is not None:
            self._crew.go_on()

    def _take(self, job: Job[Asked]) -> None:
        if self._refusal:
            raise StoreDown(self._refusal)
        crew = self._crew
        if crew is None or not crew.is_of_these_threads:
            crew = self._begin()
        if crew.jobs.qsize() >= MAX_WAITING:
            raise StoreDown(f"{MAX_WAITING} operations wait already")
        crew.jobs.put(job)

    def _begin(self) -> _Crew[Asked]:
        with self._lock:
            former = self._crew
            if former is not None and former.is_of_these_threads:
                return former
            crew = self._crew = _Crew(self._name, self._connect())
        if former is not None:
            former.dismiss()
        try:
            # Not under the lock: the garbage collector may run in the new thread before it has begun, and ask there.
            crew.thread.start()
        except RuntimeError as error:  # the interpreter ends, or has no thread to spare: the next caller tries
            with self._lock:
                self._crew = None if self._crew is crew else self._crew
            raise StoreDown(f"no thread for the store: {error}") from error
        return crew


class _Crew(Generic[Asked]):
    """The thread, what it owns, and what it waits with: all made of the same kind of threads."""

    def __init__(self, name: str, connected: Connected[Asked]) -> None:
        self._kind: object = threading.Lock
        self.jobs: queue.SimpleQueue[Job[Asked] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name=f"otel-llm-sessions-{name}", daemon=True)
        self.is_paused = False
        self._working = threading.Lock()
        self._connected = connected

    @property
    def is_of_these_threads(self) -> bool:
        """Whether nobody has patched what threads are made of since."""
        return self._kind is threading.Lock

    def dismiss(self) -> None:
        """End the thread, after what waits."""
        self.jobs.put(None)

    def pause(self, patience: float) -> None:
        if not self._working.acquire(timeout=patience):
            return
        self.is_paused = self._connected.pause(patience)
        if not self.is_paused:
            self._working.release()

    def go_on(self) -> None:
        self._connected.go_on()
        if self.is_paused:
            self.is_paused = False
            self._working.release()

    def _run(self) -> None:
        goes_on = True
        while goes_on:
            batch, goes_on = self._batch()
            with self._working:
                self._serve(batch)
            del batch  # what waits for the next job should not keep the last ones alive
        with self._working:
            self._connected.close()
        while not self.is_of_these_threads:
            self.jobs.get()  # for ever: gevent (26.9) complains of a thread from before its patch that ends

    def _batch(self) -> tuple[list[Job[Asked]], bool]:
        """Wait for a job and return it with those behind it, and whether the thread goes on."""
        batch: list[Job[Asked]] = []
        job = self.jobs.get()
        while job is not None:
            if job.take():
                batch.append(job)
            if len(batch) == _AT_ONCE or self.jobs.empty():
                return batch, True
            job = self.jobs.get()
        return batch, False

    def _serve(self, batch: list[Job[Asked]]) -> None:
        waiting = batch[::-1]
        try:
            for outcome in self._connected.serve([job.asked for job in batch]):
                waiting.pop().settle(outcome)
        except BaseException as error:
            for job in waiting:
                job.settle(error)
