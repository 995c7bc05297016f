"""Many application processes that make calls as they are told: `app_process.py` seen from outside."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from collections.abc import Sequence
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import app_process
import pytest

PATIENCE = 60.0
"""Seconds in which any one answer must come."""

FORKS = get_context("forkserver")


def have_a_nursery() -> None:
    """Start what the processes are forked from, once."""
    FORKS.set_forkserver_preload(["app_nursery"])
    with pytest.MonkeyPatch.context() as patch:  # Python 3.11 does not give it the path on which the module is found
        patch.setenv("PYTHONPATH", str(Path(app_process.__file__).parent), prepend=os.pathsep)
        forkserver.ensure_running()


class Worker:
    """One application process."""

    def __init__(self, number: int, settings: dict[str, Any], answers: queue.SimpleQueue[Any]) -> None:
        self.number = number
        (stdin, orders), (said, stdout), (errors, stderr) = (FORKS.Pipe(duplex=False) for _ in range(3))
        theirs = stdin, stdout, stderr
        self._process = FORKS.Process(target=app_process.begin, args=(settings, dict(os.environ), *theirs))
        self._process.start()
        for stream in theirs:
            stream.close()
        self._orders = _opened(orders, "w")
        self._answers = answers
        self.printed = ""
        readers = ((self._read, said), (self._read_errors, errors))
        self._threads = [threading.Thread(target=read, args=(stream,), daemon=True) for read, stream in readers]
        for thread in self._threads:
            thread.start()

    def tell(self, order: dict[str, Any]) -> None:
        self._orders.write(json.dumps(order) + "\n")
        self._orders.flush()

    def finish(self) -> None:
        """Have it export everything and end; fails if it ends badly."""
        self._orders.close()

    def wait(self) -> None:
        self._process.join(PATIENCE)
        assert self._process.exitcode == 0, self.printed
        for thread in self._threads:
            thread.join(PATIENCE)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        for thread in self._threads:
            thread.join(PATIENCE)
        with contextlib.suppress(BrokenPipeError):
            self._orders.close()

    def _read(self, stream: Connection) -> None:
        with _opened(stream) as lines:
            for line in lines:
                self._answers.put({**json.loads(line), "worker": self.number})

    def _read_errors(self, stream: Connection) -> None:
        with _opened(stream) as lines:
            for line in lines:
                self.printed += line


def _opened(stream: Connection, mode: str = "r") -> TextIO:
    """The same pipe as a text file."""
    with stream:
        return open(os.dup(stream.fileno()), mode)


class Fleet:
    """Application processes that share a store, an API and an OTLP receiver; a context manager."""

    def __init__(
        self,
        clients: Sequence[str],
        *,
        store: str,
        base_url: str,
        endpoint: str | None,
        time_limit: float | None = None,
    ) -> None:
        """Start a process for each of ``clients``, ``sync`` or ``async``.

        Args:
            clients: what each process makes its calls with.
            store: the URL of the store.
            base_url: where the API is.
            endpoint: where spans are exported to, several with blanks between; None for nowhere.
            time_limit: how long the store may take, in seconds; None for as long as in applications.
        """
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._orders = 0
        self.workers: list[Worker] = []
        self._settings = {"store": store, "base_url": base_url, "endpoint": endpoint, "time_limit": time_limit}
        self._clients = clients

    def __enter__(self) -> Fleet:
        have_a_nursery()
        for number, client in enumerate(self._clients):
            self.workers.append(Worker(number, {**self._settings, "client": client}, self._answers))
        for _ in self.workers:
            assert self.next_answer()["ready"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.kill()

    def order(self, worker: int, api: str, arguments: dict[str, Any], around: str | None = None) -> int:
        """Have a process make a call; returns the number that the answer will bear."""
        self._orders += 1
        order = {"order": self._orders, "api": api, "arguments": arguments, "around": around}
        self.workers[worker].tell(order)
        return self._orders

    def next_answer(self) -> dict[str, Any]:
        """Wait for one process to say what came of an order."""
        try:
            answer: dict[str, Any] = self._answers.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError("no answer came:\n" + self.printed) from None
        return answer

    def finish(self) -> None:
        """Have all processes export what they have and end."""
        for worker in self.workers:
            worker.finish()
        for worker in self.workers:
            worker.wait()

    @property
    def printed(self) -> str:
        """What the processes wrote to standard error."""
        return "".join(worker.printed for worker in self.workers)
