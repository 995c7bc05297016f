"""What this package reported of its own failures, read from its log: also the repetitions, which it logs at DEBUG."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

Failure = tuple[str, BaseException]


class Failures(logging.Handler):
    """Keeps the step and the error of each report."""

    def __init__(self) -> None:
        super().__init__()
        self.reported: list[Failure] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.reported.append((str(record.args[0]) if record.args else "", record.exc_info[1]))


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
