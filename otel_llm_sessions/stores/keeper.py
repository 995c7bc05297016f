"""One thread per shared store that does what callers ask, so that none waits longer than it may.

The thread alone owns a connection. What is asked while it is busy is done together next. A caller that waits no longer
(it was late, cancelled, interrupted) wants nothing done, unless that has begun.

Locks, queue and thread are made when they are first used, and anew once gevent or eventlet has patched what they are
made of: a greenlet that waits for a lock from before the patch would hold up all others for ever.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from otel_llm_sessions.stores.answer import Answer
from otel_llm_sessions.stores.shared import StoreDown

Asked = TypeVar("Asked")
Asking = TypeVar("Asking", contravariant=True)

MAX_WAITING = 1_000
_AT_ONCE = 100


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
    """What a caller asks for, and its answer."""

    __slots__ = ("_once", "answer", "asked")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.answer: Answer[Any] = Answer(self.take)  # who is cancelled or interrupted wants it done no longer
        self._once = [None]  # taken by who does the work, or gives it up before

    def take(self) -> bool:
        """Return True to the first that asks: to the thread, unless nobody wants it done any more."""
        try:
            self._once.pop()
        except IndexError:
            return False
        return True

    def settle(self, outcome: Any) -> None:
        """Give the answer, or what went wrong."""
        if isinstance(outcome, BaseException):
            self.answer.fail(outcome)
        else:
            self.answer.settle(outcome)

    def outcome(self) -> Any:
        """Return the answer, or raise what went wrong, or ``Late``: who is late wants it done no longer."""
        if not self.answer.is_done:
            self.take()
        return self.answer.result()


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
        job = Job(asked)
        self._take(job)
        job.answer.wait(seconds)
        return job.outcome()

    async def ask_on_loop(self, asked: Asked, seconds: float) -> Any:
        """As ``ask``, for callers on an event loop."""
        job = Job(asked)
        self._take(job)
        await job.answer.wait_on_loop(seconds)
        return job.outcome()

    def begin(self, asked: Asked) -> Answer[Any]:
        """Ask, and wait for nothing: it is done even if nobody waits. ``StoreDown`` if nothing more can be asked."""
        job = Job(asked)
        self._take(job)
        return job.answer

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
