"""What this package reported of its own failures, read from its log: also the repetitions, which it logs at DEBUG."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import pytest

Failure = tuple[str, BaseException]


class Failures(logging.Handler):
    """Keeps the step and the error of each report."""

    def __init__(self) -> None:
        super().__init__()
        self.reported: list[Failure] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.reported.append((str(record.args[0]) if record.args else "", record.exc_info[1]))


def warnings_of(caplog: pytest.LogCaptureFixture, name: str | None = "otel_llm_sessions") -> list[str]:
    """The warnings so far of a logger, our own if no other is named; of every logger for None."""
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    return [record.getMessage() for record in records if name is None or record.name == name]


@contextlib.contextmanager
def failures_of_ours() -> Iterator[list[Failure]]:
    """The list that failures are added to inside."""
    logger, failures = logging.getLogger("otel_llm_sessions"), Failures()
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(failures)
    try:
        yield failures.reported
    finally:
        logger.removeHandler(failures)
        logger.setLevel(level)
