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

from otel_llm_sessions import forks
from otel_llm_sessions.guard import report
from otel_llm_sessions.sessions.sources import SESSION_CONTEXT_KEY

_lock = forks.Lock()
_patched: list[tuple[type, str, Any, Any]] = []


def carry_sessions() -> None:
    """Patch thread starts; does nothing the second time."""
    with _lock:
        if _patched:
            return
        for owner, name, wrapper in (
            (threading.Thread, "start", _start),
            (ThreadPoolExecutor, "submit", _submit),
        ):
            original = owner.__dict__[name]
            wrapt.wrap_function_wrapper(owner, name, wrapper)
            _patched.append((owner, name, original, owner.__dict__[name]))


def stop_carrying() -> None:
    """Take the patches off again; one that somebody has wrapped since stays."""
    with _lock:
        for owner, name, original, wrapper in _patched:
            if owner.__dict__[name] is wrapper:
                setattr(owner, name, original)
        _patched.clear()


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
        try:
            _run_within(context, thread)
        except Exception as error:  # a thread of a class that takes no other `run`
            report("carry a session into a thread", error)
    return wrapped(*args, **kwargs)


def _run_within(context: Context, thread: threading.Thread) -> None:
    run = thread.run

    def run_once(*args: Any, **kwargs: Any) -> Any:
        # As the thread found it, so that no reference cycle keeps it alive.
        thread.__dict__.pop("run", None)
        return _within(context, run)(*args, **kwargs)

    thread.run = run_once  # type: ignore[method-assign]


def _submit(wrapped: Callable[..., Any], executor: ThreadPoolExecutor, args: tuple[Any, ...], kwargs: Any) -> Any:
    context = get_current()
    if SESSION_CONTEXT_KEY not in context or not args:
        return wrapped(*args, **kwargs)
    # Submitting may start a thread of the pool, which outlives the session and serves others.
    token = attach(Context())
    try:
        return wrapped(_within(context, args[0]), *args[1:], **kwargs)
    finally:
        detach(token)
