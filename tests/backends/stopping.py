"""Servers under opentelemetry-instrument that a test stops as systemd, Docker and Kubernetes do."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from otel_llm_sessions.demo.runner import instrument_command


@contextlib.contextmanager
def stopped(command: list[str], environment: dict[str, str], directory: Path) -> Iterator[None]:
    """Run a server, a Python module with its options; what it says is in the file `log`."""
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*instrument_command()[:-1], sys.executable, "-m", *command],
            env=environment,
            cwd=directory,
            stdout=log,
            stderr=log,
        )
    try:
        yield
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
