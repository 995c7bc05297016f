"""A thread for what is done beside the application: what comes of late answers, and what is due at a certain time.

It is started when there is something to do, and ends when there has been nothing for a while. Nobody waits for it, and
nothing takes a lock to give it work: a store's thread, a signal's handler and an event loop do so alike.
"""

from __future__ import annotations

import _thread
import contextlib
import heapq
import itertools
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from otel_llm_sessions import forks
from otel_llm_sessions.guard import report

LINGER: Final = 1.0
"""Seconds for which the thread waits for more to do."""


class Task(NamedTuple):
    """Something to do."""

    due: float
    """When, on the monotonic clock."""
    number: int
    work: Callable[[], None]


class _Worker:
    """One thread, and what wakes it: made of the same kind of threads (see ``stores.keeper``)."""

    __slots__ = ("_kind", "_process", "wake")

    def __init__(self) -> None:
        self._kind: object = threading.Lock
        self._process = os.getpid()
        self.wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    @property
    def is_there(self) -> bool:
        """Whether neither a fork nor gevent or eventlet has left the thread behind."""
        return self._process == os.getpid() and self._kind is threading.Lock


class Beside:
    """Gives work to the thread."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()
        self._numbers = itertools.count()
        self._worker: _Worker | None = None
        forks.renew_in_child(self)

    def after_fork_in_child(self) -> None:
        """Leave what is to be done to the parent."""
        self._tasks = deque()
        self._worker = None

    def soon(self, work: Callable[[], None]) -> None:
        """Have something done now."""
        self.at(0.0, work)

    def first(self, work: Callable[[], None]) -> None:
        """Have something done before all else that is to be done now."""
        self.at(-1.0, work)

    def at(self, due: float, work: Callable[[], None]) -> None:
        """Have something done at a time of the monotonic clock; an exception that it raises is reported."""
        self._tasks.append(Task(due, next(self._numbers), work))
        worker = self._worker
        if worker is not None and worker.is_there:
            worker.wake.put(None)
        else:
            self._begin()

    def _begin(self) -> None:
        worker = self._worker = _Worker()
        # Looked up in the module now, so that it is a greenlet where gevent or eventlet has patched it, however late.
        with contextlib.suppress(Exception):  # no thread to spare, or the interpreter ends: exit settles what is left
            _thread.start_new_thread(self._run, (worker,))
            return
        self._worker = None

    def _run(self, worker: _Worker) -> None:
        due: list[Task] = []
        while True:
            while self._tasks:
                with contextlib.suppress(IndexError):  # another thread was faster
                    heapq.heappush(due, self._tasks.popleft())
            if due and due[0].due <= time.monotonic():
                _do(heapq.heappop(due))
                continue
            try:
                worker.wake.get(timeout=max(0.0, due[0].due - time.monotonic()) if due else LINGER)
            except queue.Empty:
                if not due and self._is_ended(worker):
                    return

    def _is_ended(self, worker: _Worker) -> bool:
        if self._worker is worker:
            self._worker = None
        return not self._tasks  # else one was given between the two


def _do(task: Task) -> None:
    try:
        task.work()
    except Exception as error:
        with contextlib.suppress(Exception):  # one of the application's own, of which here nobody can hear
            report("do what a late answer asks for", error)


beside: Final = Beside()
"""That of this process."""
