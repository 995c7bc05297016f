"""Child processes that never outlive their owner: each in a process group of its own, all ended together."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, TracebackType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SLICE: Final = 0.1
"""Seconds between two looks at whether a signal has come."""
GRACE: Final = 3.0
"""Seconds between asking a process to end and ending it."""

Process = subprocess.Popen[str]


class Interrupted(Exception):
    """A signal asked the owner to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class TimedOut(Exception):
    """A process took too long; the message is what it had printed."""


class Processes:
    """Starts processes and waits for them; a context manager, to be used in the main thread.

    Inside it, SIGINT, SIGTERM and SIGHUP are only noted, so that none can come between starting a process and
    remembering it; the waiting methods then raise :class:`Interrupted`. On exit every process still running is
    ended together with whatever it started.
    """

    def __init__(self) -> None:
        self._processes: list[Process] = []
        self._handlers: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        self._signal: int | None = None

    def start(self, command: Sequence[str], env: Mapping[str, str]) -> Process:
        """Start the command with this environment; its output, errors included, is a pipe of text."""
        self._check()
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def finish(self, process: Process, timeout: float, watch: Callable[[], object] = lambda: None) -> str:
        """Wait for the process to end and return what it printed; ``watch`` is called meanwhile.

        Raises TimedOut after ``timeout`` seconds, Interrupted when a signal has come.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._check()
            watch()
            try:
                return process.communicate(timeout=SLICE)[0]
            except subprocess.TimeoutExpired as late:
                if time.monotonic() >= deadline:
                    raise TimedOut(_text(late.output)) from None

    def first_line(self, process: Process, timeout: float) -> str:
        """Wait for a line of the process' output and return it; empty if it ended without one.

        Raises TimedOut after ``timeout`` seconds, Interrupted when a signal has come.
        """
        assert process.stdout is not None
        deadline = time.monotonic() + timeout
        while not select.select([process.stdout], [], [], SLICE)[0]:
            self._check()
            if time.monotonic() >= deadline:
                raise TimedOut("")
        return process.stdout.readline().rstrip("\n")

    def __enter__(self) -> Processes:
        self._handlers = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            _end(self._processes)
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number

    def _check(self) -> None:
        if self._signal is not None:
            raise Interrupted(self._signal)


def _end(processes: Sequence[Process]) -> None:
    """Ask all groups to end, then end what is left of them."""
    for process in processes:
        if process.poll() is None:
            _send(process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        _send(process, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _send(process: Process, number: int) -> None:
    """Signal the process and all that it started; a group that is gone already is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _text(output: str | bytes | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""
