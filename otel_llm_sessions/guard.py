"""The one place where failures of this package end, so that none reaches the application."""

from __future__ import annotations

import logging

logger = logging.getLogger("otel_llm_sessions")

_reported: dict[str, object] = {}


def report(where: str, error: BaseException) -> None:
    """Log a failure of this package: one warning per kind of failure, not one per call.

    Args:
        where: the step that failed (a fixed name: it is half of what makes up the kind).
        error: what it failed with; its type is the other half.
    """
    kind = f"{where}:{type(error).__qualname__}"
    level = logging.WARNING if _is_first(kind) else logging.DEBUG
    logger.log(
        level,
        "otel-llm-sessions failed to %s; the application is not affected. Further failures of this kind are "
        "logged at DEBUG.",
        where,
        exc_info=error,
    )


def note_once(kind: str, message: str, *values: object) -> None:
    """Log ``message`` at DEBUG, once per ``kind`` in the life of the process."""
    if _is_first(kind):
        logger.debug(message, *values)


def _is_first(kind: str) -> bool:
    # One step, and no lock: a child process could find that locked by a thread which it does not have.
    mine = object()
    return _reported.setdefault(kind, mine) is mine
