"""The one place where failures of this package end, so that none reaches the application."""

from __future__ import annotations

import logging
import threading

logger = logging.getLogger("otel_llm_sessions")

_reported: set[str] = set()
_lock = threading.RLock()


def report(where: str, error: BaseException) -> None:
    """Log a failure of this package: one warning per kind of failure, not one per call.

    Args:
        where: the step that failed (a fixed name: it is half of what makes up the kind).
        error: what it failed with; its type is the other half.
    """
    kind = f"{where}:{type(error).__qualname__}"
    with _lock:
        first = kind not in _reported
        _reported.add(kind)
    level = logging.WARNING if first else logging.DEBUG
    logger.log(
        level,
        "otel-llm-sessions failed to %s; the application is not affected. Further failures of this kind are "
        "logged at DEBUG.",
        where,
        exc_info=error,
    )


def note_once(kind: str, message: str, *values: object) -> None:
    """Log ``message`` at DEBUG, once per ``kind`` in the life of the process."""
    with _lock:
        if kind in _reported:
            return
        _reported.add(kind)
    logger.debug(message, *values)
