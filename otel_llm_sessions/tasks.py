"""Carries the block of a generator into the tasks that are started from it.

A task takes a copy of the context along in which it is started; the block of a generator is in no context. From the
first such block of an instrumented process on, what starts tasks puts the session of a generator that runs into the
copy, as if it had been there: the event loop's ``create_task``, trio's nurseries, and anyio's worker threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Any

from opentelemetry.context import attach, detach, get_current

from otel_llm_sessions.patches import Patches
from otel_llm_sessions.sessions.blocks import OPEN, seen_from_here
from otel_llm_sessions.threads import as_job

_patches = Patches()


def carry_sessions() -> None:
    """Patch what starts tasks in this thread, if something does; does nothing the second time."""
    loop = asyncio._get_running_loop()
    if loop is not None:
        _patches.wrap(type(loop), "create_task", _create_task)
    if (to_thread := sys.modules.get("anyio.to_thread")) is not None:
        _patches.wrap(to_thread, "run_sync", _run_sync)
    if loop is None and (trio := sys.modules.get("trio")) is not None:
        with contextlib.suppress(RuntimeError):  # it does not run in this thread
            trio.lowlevel.add_instrument(_TRIO_TASKS)


def stop_carrying() -> None:
    """Take the patches off again; one that somebody has wrapped since stays, and passes on."""
    _patches.undo()


def _create_task(wrapped: Callable[..., Any], loop: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # Who hands over a context (Python 3.11) has chosen one.
    if not OPEN or not _patches or kwargs.get("context") is not None:
        return wrapped(*args, **kwargs)
    context = get_current()
    seen = seen_from_here(context)
    if seen is context:
        return wrapped(*args, **kwargs)
    token = attach(seen)
    try:
        return wrapped(*args, **kwargs)
    finally:
        detach(token)


def _run_sync(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if OPEN and args:
        args = (as_job(args[0]), *args[1:])
    return wrapped(*args, **kwargs)


class _TrioTasks:
    """An instrument of trio's (``trio.abc.Instrument``); one cannot be taken away where trio does not run."""

    def task_spawned(self, task: Any) -> None:
        """Put the session of a generator that starts a task into the task's context, which is a copy of the current."""
        if not OPEN or not _patches:
            return
        context = get_current()
        seen = seen_from_here(context)
        if seen is not context and task.context.run(get_current) is context:
            task.context.run(attach, seen)


_TRIO_TASKS = _TrioTasks()
