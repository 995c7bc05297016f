"""The one place where failures of this package end, so that none reaches the application."""

from __future__ import annotations

import logging
import opcode
import signal
import sys
from collections.abc import Iterator
from itertools import pairwise
from types import CodeType, FrameType, TracebackType
from typing import Any, Final

logger = logging.getLogger("otel_llm_sessions")
"""Only ``say`` and what is below it log to it: a logging handler may raise."""

QUIET: Final = sys.stdlib_module_names | {
    "otel_llm_sessions",
    "opentelemetry",
    "redis",
    "wrapt",
    "gevent",
    "eventlet",
    "greenlet",
}
"""Packages in which nothing raises an exception of the application's, but by a ``raise`` of their own."""

_RAISES: Final = frozenset({opcode.opmap["RAISE_VARARGS"], opcode.opmap["RERAISE"]})

MAX_KINDS: Final = 1000
MAX_KIND: Final = 256
"""Kinds of failures that are told apart, and characters of each: classes may be made while the process runs."""

_reported: dict[str, object] = {}


def report(where: str, error: BaseException) -> None:
    """Log a failure of this package: one warning per kind of failure, not one per call.

    Args:
        where: the step that failed (a fixed name: it is half of what makes up the kind).
        error: what it failed with; its type is the other half.

    Raises:
        BaseException: ``error`` itself, if it is the application's; see ``is_applications``.
    """
    if is_applications(error):
        raise error
    kind = f"{where}:{type(error).__qualname__}"
    level = logging.WARNING if _is_first(kind) else logging.DEBUG
    say(
        level,
        "otel-llm-sessions failed to %s; the application is not affected. Further failures of this kind are "
        "logged at DEBUG.",
        where,
        error=error,
    )


def report_unquoted(where: str, error: BaseException) -> None:
    """As ``report``, of an error whose text may quote what no log is to hold: only its type and place are told."""
    if is_applications(error):
        raise error
    kind = type(error).__qualname__
    *_, (frame, _) = _frames(error.__traceback__)
    level = logging.WARNING if _is_first(f"{where}:{kind}") else logging.DEBUG
    say(
        level,
        "otel-llm-sessions failed to %s: %s in %s, line %d; nothing of that call's content is recorded, and the "
        "application is not affected. Further failures of this kind are logged at DEBUG.",
        where,
        kind,
        frame.f_code.co_filename,
        frame.f_lineno,
    )


def note_once(kind: str, message: str, *values: object) -> None:
    """Log ``message`` at DEBUG, once per ``kind`` in the life of the process."""
    if _is_first(kind):
        say(logging.DEBUG, message, *values)


def say(level: int, message: str, *values: object, error: BaseException | None = None) -> None:
    """Log ``message``. A logging handler or filter that raises is no failure of what the application does."""
    try:
        logger.log(level, message, *values, exc_info=error)
    except Exception as failure:
        if is_applications(failure):
            raise


def pass_on(error: Exception) -> None:
    """Raise an exception again that is the application's; for where one kind of ours is expected and caught.

    What a signal handler raises may be of any kind: a ``ValueError`` of its own, a ``TimeoutError``.

    Raises:
        Exception: ``error`` itself, if it is the application's; see ``is_applications``.
    """
    if is_applications(error):
        raise error


def is_applications(error: BaseException) -> bool:
    """Whether an exception that comes out of code of ours is none of that code's.

    A signal handler's is the application's (the time limit of a task queue), and so is one that another thread or a
    greenlet's timer has set (``PyThreadState_SetAsyncExc``, ``gevent.Timeout(1, TooLate)``). All those may be raised
    anywhere, and who catches one must raise it again.
    """
    if not isinstance(error, Exception):
        return True
    frames = [frame for frame, _ in _frames(error.__traceback__)]
    return _is_of_a_handler(frames) or _is_set_from_outside(error, frames)


def _frames(traceback: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lasti
        traceback = traceback.tb_next


def _is_of_a_handler(frames: list[FrameType]) -> bool:
    """Whether one of the frames is a signal handler's: it is called with the frame that it interrupts."""
    codes = _codes_of_handlers() if len(frames) > 1 else frozenset()
    return any(inner.f_code in codes or _is_given(inner, outer) for outer, inner in pairwise(frames))


def _codes_of_handlers() -> frozenset[CodeType]:
    handlers: list[Any] = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = (getattr(handler, "__code__", None) for handler in handlers)
    return frozenset(code for code in codes if isinstance(code, CodeType))


def _is_given(inner: FrameType, outer: FrameType) -> bool:
    """Whether ``outer`` is among the arguments of ``inner``."""
    code = inner.f_code
    count = code.co_argcount + code.co_kwonlyargcount + 1  # *args come next
    values = inner.f_locals
    for name in code.co_varnames[:count]:
        value = values.get(name)
        if value is outer or (isinstance(value, tuple) and any(item is outer for item in value)):
            return True
    return False


def _is_set_from_outside(error: Exception, frames: list[FrameType]) -> bool:
    """Whether an exception of a class that only the application knows came up in code that cannot have raised it."""
    if not frames or _package(type(error).__module__) in QUIET:
        return False
    *_, (frame, position) = _frames(error.__traceback__)
    return _package(frame.f_globals.get("__name__")) in QUIET and not _raises(frame.f_code, position)


def _package(module: Any) -> str:
    return module.partition(".")[0] if isinstance(module, str) else ""


def _raises(code: CodeType, position: int) -> bool:
    """Whether the instruction at ``position`` is a ``raise``."""
    instructions = code.co_code
    return 0 <= position < len(instructions) and instructions[position] in _RAISES


def _is_first(kind: str) -> bool:
    # One step, and no lock: a child process could find that locked by a thread which it does not have.
    mine = object()
    if len(_reported) >= MAX_KINDS:
        return False
    return _reported.setdefault(kind[:MAX_KIND], mine) is mine
