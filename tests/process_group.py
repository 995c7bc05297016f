"""A program in a process group of its own, ended when it becomes too many processes or takes too long."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

MOST_PROCESSES = 40
MOST_SECONDS = 60.0


class ProcessGroup:
    """A running program; everything that it starts is ended with it."""

    def __init__(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        log: Path,
        directory: Path | None = None,
        seconds: float = MOST_SECONDS,
    ) -> None:
        self._log = log
        self._seconds = seconds
        self._started = time.monotonic()
        self.ended_for: str | None = None
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=environment,
                cwd=directory,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.id = self._process.pid
        self._is_over = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, daemon=True)
        self._watchdog.start()

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._watchdog.join()
        self._kill()
        self._process.wait()

    @property
    def printed(self) -> str:
        """All that its processes wrote."""
        return self._log.read_text(errors="replace")

    def until(self, happened: Callable[[], object], seconds: float = MOST_SECONDS) -> None:
        """Wait until something happens; fails with what was printed when it does not, or the program has ended."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert self.ended_for is None, f"{self.ended_for}\n{self.printed}"
            assert self._process.poll() is None, f"it ended\n{self.printed}"
            assert time.monotonic() < deadline, f"it did not happen in time\n{self.printed}"
            time.sleep(0.02)

    def stop(self, seconds: float) -> int:
        """Ask it to end, as a service manager does, and return its exit status; fails when it does not in time."""
        os.kill(self.id, signal.SIGTERM)
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it ignores SIGTERM\n{self.printed}") from None
        assert self.ended_for is None, f"{self.ended_for}\n{self.printed}"
        return status

    def _watch(self) -> None:
        while not self._is_over.wait(0.05):
            count = len(members_of(self.id))
            if count > MOST_PROCESSES:
                self.ended_for = f"ended, since it became {count} processes"
            elif time.monotonic() - self._started > self._seconds:
                self.ended_for = f"ended after {self._seconds:.0f} seconds"
            if self.ended_for is not None:
                self._kill()
                return

    def _kill(self) -> None:
        # Again and again: a process that forks without end makes another one while the group is being killed.
        for _ in range(50):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.id, signal.SIGKILL)
            if not members_of(self.id):
                return
            time.sleep(0.02)


def members_of(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _is_member(entry, group)]


def _is_member(pid: str, group: int) -> bool:
    try:
        state, _, found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    except (OSError, ValueError):
        return False
    return int(found) == group and state != "Z"
