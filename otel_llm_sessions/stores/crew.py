"""A store's thread, and what it works with: all made of one kind of threads.

They are made when the store is first used, and anew once gevent or eventlet has patched what they are made of: a
greenlet that waits for a lock from before the patch would hold up all others for ever.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from otel_llm_sessions.stores.answer import Answer
from otel_llm_sessions.stores.shared import Ask, Backend

AT_ONCE = 100
"""How much of what waits is asked in one round trip: what comes behind it waits no longer than for that."""


class Job:
    """What a caller asks, and the answer."""

    __slots__ = ("answer", "ask", "given")

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.answer: Answer[Any] = Answer()
        self.given = 0.0
        """When the thread got it, on the monotonic clock."""


class Crew:
    """The thread of a keeper, its queue, and the one turn at the store that it takes from its callers."""

    def __init__(self, backend: Backend, run: Callable[[Crew], None]) -> None:
        self._kind: object = threading.Lock
        self.backend = backend
        self.turn = threading.Lock()
        """Held by who uses the backend."""
        self.caller: int | None = None
        """The thread of a caller that uses the backend itself."""
        self.is_dismissed = False
        self.thread = threading.Thread(target=run, args=(self,), name=f"otel-llm-sessions-{backend.name}", daemon=True)
        self._jobs: queue.SimpleQueue[Sequence[Job]] = queue.SimpleQueue()

    @property
    def is_of_these_threads(self) -> bool:
        """Whether nobody has patched what threads are made of since."""
        return self._kind is threading.Lock

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return self._jobs.empty()

    @property
    def waiting(self) -> int:
        """How many callers' jobs wait, about."""
        return self._jobs.qsize()

    @property
    def needs_this_thread(self) -> bool:
        """Whether to wait for the thread is in vain: this is it, or a signal's handler amid a turn of a caller's."""
        return threading.get_ident() in (self.caller, self.thread.ident)

    def give(self, *jobs: Job) -> Answer[Any]:
        """Give the thread something to do, all of it in one round trip; return the answer to the first."""
        now = time.monotonic()
        for job in jobs:
            job.given = now
        self._jobs.put(jobs)
        return jobs[0].answer

    def wake(self) -> None:
        """Have the thread look around."""
        if self._jobs.empty():  # else it will anyway
            self._jobs.put(())

    def dismiss(self) -> None:
        """End the thread, after what waits."""
        self.is_dismissed = True
        self._jobs.put(())

    def batch(self, seconds: float | None) -> list[Job]:
        """Wait for a job, and return it with those behind it; none after so many seconds, or when woken."""
        jobs: list[Job] = []
        try:
            jobs += self._jobs.get(timeout=seconds)
            while len(jobs) < AT_ONCE and not self._jobs.empty():
                jobs += self._jobs.get()
            return jobs
        except queue.Empty:
            return jobs

    def stay(self) -> None:
        """Never end, if threads are greenlets by now: gevent (26.9) complains of a thread from before that does."""
        while not self.is_of_these_threads:
            self._jobs.get()
