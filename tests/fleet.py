"""Many application processes that make calls as they are told: `app_process.py` seen from outside."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = Path(__file__).with_name("app_process.py")
PATIENCE = 60.0
"""Seconds in which any one answer must come."""


class Worker:
    """One application process."""

    def __init__(self, number: int, settings: dict[str, Any], answers: queue.SimpleQueue[Any]) -> None:
        self.number = number
        command = [sys.executable, str(PROGRAM), json.dumps(settings)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._answers = answers
        self.printed = ""
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()

    def tell(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def finish(self) -> None:
        """Have it export everything and end; fails if it ends badly."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self) -> None:
        assert self._process.wait(PATIENCE) == 0, self.printed
        for thread in self._threads:
            thread.join(PATIENCE)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put({**json.loads(line), "worker": self.number})

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.printed += line


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
