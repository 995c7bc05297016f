"""What a flush by the application also does: it ends the spans whose end is kept back, and has them exported."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final

from otel_llm_sessions.guard import report

if TYPE_CHECKING:
    from otel_llm_sessions.openai.held import Held

ENDING: Final = 5.0
"""Seconds for which a flush waits at most until what was kept back has ended: half a second where nothing is wrong."""

_flushes_again: ContextVar[bool] = ContextVar("flushes_again", default=False)
"""Whether a flush is this package's own, amid the application's."""


def flush_held(provider: Callable[[], Any], write_out: Callable[[float], object], timeout_millis: int) -> None:
    """End what is kept back, and have what calls left behind written: the process may be frozen, or end, after this.

    Exporters that come before this package's processor have been flushed: once more.

    Args:
        provider: returns the tracer provider that is being flushed, or None when it is gone.
        write_out: waits until the store has what calls left behind, for so many seconds at most.
        timeout_millis: how long the flush may take.
    """
    held = sys.modules.get("otel_llm_sessions.openai.held")
    if held is None or _flushes_again.get():  # else it would never end where calls keep coming
        return
    if len(held.HELD):
        _end_beside(held.HELD, provider, timeout_millis)
    write_out(min(timeout_millis / 1000, held.AT_EXIT))


def _end_beside(courses: Held, provider: Callable[[], Any], timeout_millis: int) -> None:
    """Have a thread of its own end them, and wait for it, unless it may be waiting for this one.

    ``ConcurrentMultiSpanProcessor`` (opentelemetry-sdk 1.45) has a few threads do both: flush, and hand on what ends.
    The main thread is none of them.
    """
    ended = threading.Event()

    def end() -> None:
        try:
            has_ended = courses.settle()
            ended.set()
            if has_ended and (flushed := provider()) is not None:
                _flushes_again.set(True)
                flushed.force_flush(timeout_millis)
        except Exception as error:
            report("end a span", error)
        finally:
            ended.set()

    if threading.current_thread() is threading.main_thread():
        return copy_context().run(end)  # perhaps for a signal's handler: what that interrupted may hold a lock of ours
    thread = threading.Thread(target=copy_context().run, args=(end,), name="otel_llm_sessions flush", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is ending, or has no thread left
        return copy_context().run(end)
    if ended.wait(min(timeout_millis / 1000, ENDING)):
        thread.join(timeout_millis / 1000)
    return None
