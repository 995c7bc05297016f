"""Carries ``session(...)`` into the threads that are started inside it.

Python's threads start with an empty context. While a session is active, a thread started inside it, and a function
submitted to a ``ThreadPoolExecutor``, gets the OpenTelemetry context of the place that started it. Nothing is patched
before the first ``session(...)`` of an instrumented process, and threads started outside a session are left alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import wrapt
from opentelemetry.context import Context, attach, detach, get_current

from otel_llm_sessions.sessions.sources import SESSION_CONTEXT_KEY

_lock = threading.Lock()
_originals: dict[tuple[type, str], Any] = {}


def carry_sessions() -> None:
    """Patch thread starts; does nothing the second time."""
    with _lock:
        if _originals:
            return
        for owner, name, wrapper in (
            (threading.Thread, "start", _start),
            (ThreadPoolExecutor, "submit", _submit),
        ):
            _originals[owner, name] = owner.__dict__[name]
            wrapt.wrap_function_wrapper(owner, name, wrapper)


def stop_carrying() -> None:
    """Take the patches off again."""
    with _lock:
        for (owner, name), original in _originals.items():
            setattr(owner, name, original)
        _originals.clear()


def _within(context: Context, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        token = attach(context)
        try:
            return function(*args, **kwargs)
        finally:
            detach(token)

    return run


def _start(wrapped: Callable[[], None], thread: threading.Thread, args: Any, kwargs: Any) -> None:
    context = get_current()
    if SESSION_CONTEXT_KEY in context:
        run = thread.run

        def run_once(*args: Any, **kwargs: Any) -> Any:
            # As the thread found it, so that no reference cycle keeps it alive.
            thread.__dict__.pop("run", None)
            return _within(context, run)(*args, **kwargs)

        thread.run = run_once  # type: ignore[method-assign]
    return wrapped(*args, **kwargs)


def _submit(wrapped: Callable[..., Any], executor: ThreadPoolExecutor, args: tuple[Any, ...], kwargs: Any) -> Any:
    context = get_current()
    if SESSION_CONTEXT_KEY in context and args:
        return wrapped(_within(context, args[0]), *args[1:], **kwargs)
    return wrapped(*args, **kwargs)
