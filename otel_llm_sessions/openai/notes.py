"""Ends of calls that were noted where no span may be ended, and are made up for at the next safe point.

A reply that is abandoned is found out by the garbage collector: anywhere, amid code of the application's that holds
the very lock which the end of a span waits for (its exporter's, its processor's). So a finalizer only leaves a note.
The begin and the end of a call settle what is noted, as do exit and ``capture_spans()``; else a thread does it.
"""

from __future__ import annotations

import _thread as _thread_module
import contextlib
import os
import time
from collections import deque
from typing import Final, NamedTuple

from otel_llm_sessions.guard import pass_on, report
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.ending import finish
from otel_llm_sessions.openai.outbox import deliver_soon
from otel_llm_sessions.stores.answer import Answer

LINGER: Final = 0.1
"""Seconds that the thread waits before it settles what is noted: much of it at once, after a collection."""

PATIENCE: Final = 1.0
"""Seconds after which a thread that should have settled is taken to be lost: with a fork, in a hub that stood still."""


class Note(NamedTuple):
    """The end of a call that is still to be told."""

    call: Call
    ended: int
    """When, in nanoseconds since the epoch."""
    cut_short: bool
    process: int
    """Whose call it is: in a forked child, the parent's calls are the parent's to end."""


class Reliance(NamedTuple):
    """The thread that is relied on to settle: of which process (a fork leaves it behind), and until when."""

    process: int
    until: float
    """In seconds of the monotonic clock."""


NO_THREAD: Final = Reliance(0, 0.0)

notes: deque[Note] = deque()

_settling: list[Answer[None]] = []
"""One for each thread that is just ending a call, answered when it has."""

_thread = NO_THREAD


def leave(call: Call, *, cut_short: bool) -> None:
    """Note that a call has ended now; takes no lock, and ends no span."""
    notes.append(Note(call, time.monotonic_ns() + call.to_epoch, cut_short, os.getpid()))
    _have_settled()


def _have_settled() -> None:
    global _thread
    now, process = time.monotonic(), os.getpid()
    if _thread.process == process and now < _thread.until:
        return
    before, _thread = _thread, Reliance(process, now + PATIENCE)
    # Not threading.Thread: its start() takes locks, and waits. Looked up in the modules now, so that it is a greenlet
    # where gevent or eventlet has patched them, however late.
    try:
        _thread_module.start_new_thread(_settle_soon, ())
    except Exception:  # none to spare, or the interpreter ends: the next call or exit settles
        _thread = before


def _settle_soon() -> None:
    global _thread
    time.sleep(LINGER)
    _thread = NO_THREAD  # what is noted from here on has another thread
    with contextlib.suppress(Exception):  # nobody hears of it: a thread's, and what is reported has been
        settle()


def settle() -> None:
    """End the calls that are noted; for where no lock is held that ending a span takes."""
    while notes:
        try:
            note = notes.popleft()
        except IndexError as error:  # another thread was faster
            pass_on(error)
            return
        if note.process == os.getpid():
            _end(note)


def _end(note: Note) -> None:
    ended: Answer[None] = Answer()
    _settling.append(ended)
    try:
        finish(note.call, cut_short=note.cut_short, ended=note.ended)
        deliver_soon(note.call)
    except Exception as error:
        report("end a span", error)
    finally:
        _settling.remove(ended)
        ended.settle(None)


def settle_at_exit() -> None:
    """As ``settle``; waits a moment for a thread that is amid it, which the end of the process would cut off."""
    settle()
    deadline = time.monotonic() + PATIENCE
    for ended in _settling.copy():
        ended.wait(deadline - time.monotonic())
