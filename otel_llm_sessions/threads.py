"""Carries ``session(...)`` into the jobs that are given to thread pools inside it, and keeps it out of forked workers.

Python's threads start with an empty context. A session belongs to a piece of work, and so does what is carried: a job
of a ``ThreadPoolExecutor`` or a ``ThreadPool`` takes the session of the place that gave it along, for as long as the
job takes, and nothing sticks to the pool's threads. ``THREADS=all`` does the same for threads started inside: each is
taken for one piece of work, whatever it goes on to do. Nothing is patched before the first ``session(...)`` of an
instrumented process.
"""

from __future__ import annotations

import contextvars
import functools
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import wrapt
from opentelemetry.context import Context, attach, detach, get_current

from otel_llm_sessions.guard import report
from otel_llm_sessions.patches import Patches
from otel_llm_sessions.sessions.blocks import OPEN, seen_from_here, within
from otel_llm_sessions.sessions.inside import Inside, inside_of, outside_of
from otel_llm_sessions.settings import ThreadsMode

POOL_MODULE = "multiprocessing.pool"

POOL_METHODS = ("apply_async", "map", "map_async", "starmap", "starmap_async", "imap", "imap_unordered")
"""The methods of ``ThreadPool`` that take a job; ``apply`` goes through ``apply_async`` (Python 3.10 to 3.13)."""

CONTEXT_CARRIER = "opentelemetry.instrumentation.threading"
"""OpenTelemetry's instrumentation of threads (0.66b1), which has a thread keep the context that it was started in."""

NOTHING = ("none", None)
"""Modes in which no job takes anything along."""

SERVING = frozenset(
    {
        "anyio",
        "asgiref",
        "concurrent",
        "gevent",
        "grpc",
        "joblib",
        "logging",
        "multiprocessing",
        "opentelemetry",
        "otel_llm_sessions",
        "redis",
        "socketserver",
        "trio",
        "uvicorn",
    }
)
"""Packages whose threads serve whoever comes: pools' workers, exporters. No session sticks to one."""

_patches = Patches()
_mode: ThreadsMode | None = None
"""None while nothing is carried: before the first session, and after ``stop_carrying``."""
_patched_for: ThreadsMode | None = None
_is_watching = False


def carry_sessions(mode: ThreadsMode) -> None:
    """Patch what takes work to other threads; does nothing the second time."""
    global _mode, _patched_for
    if mode == _patched_for:
        return
    _mode = mode
    if mode != "none":
        _patches.wrap(ThreadPoolExecutor, "submit", _give_job)
        _watch_for_pools()
    if mode == "all" or CONTEXT_CARRIER in sys.modules:
        for kind in (threading.Timer, threading.Thread):
            # The class that defines it: Timer does where OpenTelemetry's wrapper is there, gevent's Thread does not.
            _patches.wrap(next(owner for owner in kind.__mro__ if "start" in vars(owner)), "start", _start)
    _patched_for = mode  # last: another thread that is here at the same time does not go on before all is patched


def stop_carrying() -> None:
    """Take the patches off again; one that somebody has wrapped since stays, and passes on."""
    global _mode, _patched_for
    _mode = _patched_for = None
    _patches.undo()


def _watch_for_pools() -> None:
    """Patch ``ThreadPool`` now or when it is imported: few processes use it, and importing it takes time."""
    global _is_watching
    module = sys.modules.get(POOL_MODULE)
    if hasattr(module, "ThreadPool"):
        _patch_pools(module)
    elif not _is_watching:
        _is_watching = True
        wrapt.register_post_import_hook(_patch_pools, POOL_MODULE)


def _patch_pools(module: Any) -> None:
    if _mode not in NOTHING:
        for name in POOL_METHODS:
            _patches.wrap(module.ThreadPool, name, _give_job)


def _give_job(wrapped: Callable[..., Any], pool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if args:
        args = (as_job(args[0]), *args[1:])
    elif "func" in kwargs:
        kwargs = {**kwargs, "func": as_job(kwargs["func"])}
    return wrapped(*args, **kwargs)


def as_job(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` so that it runs inside the session of this place, whichever thread runs it."""
    inside = _session_here()
    if inside is None:
        return function
    if isinstance(function, functools.partial) and function.args and _runs_in_copy(function.func):
        # As asyncio.to_thread does it. A copy of the context has all but the block of a generator.
        job, *args = function.args
        return functools.partial(function.func, _within(inside, job), *args, **function.keywords)
    return _within(inside, function)


def _runs_in_copy(function: Callable[..., Any]) -> bool:
    """Whether a function runs others in a copy of the context that is current here."""
    copy = getattr(function, "__self__", None)
    return isinstance(copy, contextvars.Context) and function == copy.run and _current_in(copy) is get_current()


def _current_in(copy: contextvars.Context) -> Context | None:
    try:
        return copy.run(get_current)
    except RuntimeError:  # something runs in it
        return None


def _session_here() -> Inside | None:
    """Return the session that a job given here, or a thread started here, takes along."""
    if _mode in NOTHING:  # the latter where somebody has wrapped what we had patched
        return None
    try:
        return inside_of(seen_from_here(get_current()))
    except Exception as error:
        report("carry a session into a job", error)
        return None


def _within(inside: Inside, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        # On top of what the thread has: another instrumentation may have carried its own context there.
        token = attach(inside.into(get_current(), within()))
        try:
            return function(*args, **kwargs)
        finally:
            detach(token)

    return run


def _start(wrapped: Callable[[], None], thread: threading.Thread, args: Any, kwargs: Any) -> None:
    inside = None if _mode != "all" or _serves(thread) else _session_here()
    if inside is None:
        return _start_outside(wrapped)
    try:
        _run_within(inside, thread)
    except Exception as error:  # a thread of a class that takes no other `run`
        report("carry a session into a thread", error)
    return wrapped()


def _start_outside(wrapped: Callable[[], None]) -> None:
    """Start a thread outside of the session, whoever carries the context into it."""
    context = get_current()
    if _mode is None or inside_of(context) is None:
        return wrapped()
    token = attach(outside_of(context))
    try:
        return wrapped()
    finally:
        detach(token)


def _serves(thread: threading.Thread) -> bool:
    # A thread is its target's; without one it is of a class with a `run` of its own.
    target = getattr(thread, "_target", None)
    module = getattr(target, "__module__", None) if target is not None else type(thread).__module__
    return str(module).partition(".")[0] in SERVING


def _run_within(inside: Inside, thread: threading.Thread) -> None:
    run = thread.run

    def run_once(*args: Any, **kwargs: Any) -> Any:
        # As the thread found it, so that no reference cycle keeps it alive.
        thread.__dict__.pop("run", None)
        return _within(inside, run)(*args, **kwargs)

    thread.run = run_once  # type: ignore[method-assign]


def _leave_session_to_parent() -> None:
    """Begin a child process outside: a forked worker goes on to serve others, and its parent is still inside."""
    OPEN.clear()
    context = get_current()
    if inside_of(context) is not None:
        attach(outside_of(context))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_session_to_parent)
