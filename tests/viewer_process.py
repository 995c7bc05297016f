"""The viewer as users start it: a process, its two lines, a signal that ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from waiting import until

TELLS_NOTHING = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "BROWSER"))}


class Viewer:
    """A viewer on free ports.

    Example:
        >>> with Viewer("--db", path) as viewer:
        ...     viewer.sessions()
    """

    def __init__(self, *flags: str | Path, **environ: str) -> None:
        given = [str(flag) for flag in flags]
        ports = [] if "--from" in given else ["--grpc-port", "0"]
        ports += [] if "--http-port" in given else ["--http-port", "0"]
        command = [sys.executable, "-m", "otel_llm_sessions.cli", "view", "--no-open", *ports, *given]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=TELLS_NOTHING | environ
        )
        self.lines = [self._line()]
        self.page = self.lines[0].removeprefix("page  ")
        self.url = self.page.partition("?")[0].rstrip("/")
        if "--from" not in given:
            self.lines.append(self._line())
            self.grpc = self.lines[1].removeprefix("OTLP  gRPC ").partition(",")[0]
        token = self.page.partition("?token=")[2]
        self.client = httpx.Client(
            base_url=self.url, timeout=60, headers={"Authorization": f"Bearer {token}"} if token else {}
        )

    def sessions(self, **query: Any) -> list[dict[str, Any]]:
        answer = self.client.get("/api/sessions", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["sessions"]

    def session(self, name: str) -> dict[str, Any]:
        answer = self.client.get(f"/api/sessions/{name}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_for(self, turns: int, **query: Any) -> None:
        """Wait until the list has so many turns."""
        until(lambda: sum(one["turns"] for one in self.sessions(limit=10_000, **query)) == turns)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.close()

    def end(self, kind: int = signal.SIGTERM) -> tuple[int, str]:
        """Have it end; its exit status, and what it said to stderr."""
        self.process.send_signal(kind)
        _, errors = self.process.communicate(timeout=60)
        self.close()
        return self.process.returncode, errors

    def close(self) -> None:
        self.client.close()
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()

    def _line(self) -> str:
        line = self.process.stdout.readline().rstrip("\n")
        if not line:
            _, errors = self.process.communicate(timeout=60)
            raise AssertionError(f"it ended with {self.process.returncode}: {errors}")
        return line

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            assert self.end() == (0, "")
