"""Takes what calls leave behind to where turns are remembered, without waiting; ``flow`` has what may wait."""

from __future__ import annotations

import contextlib

from otel_llm_sessions.guard import is_applications, pass_on, report
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.claims import ask_put
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.sessions.link import Record


def take(call: Call) -> Record | None:
    """Take the next of what lies in a call's outbox; None if nothing does, or no store is there to record in."""
    outbox = call.outbox
    while outbox:
        try:
            record = outbox.pop(0)
        except IndexError as error:  # another thread was faster
            pass_on(error)
            return None
        if call.runtime.switch.records:
            return record
    return None


def deliver_soon(call: Call) -> None:
    """Record what a call has left behind, from where nothing may wait: a garbage collector, a cancelled task.

    The call's own thread may come to the outbox meanwhile. What it finds there no more has been recorded: else the next
    call, which it is about to make, would not find it.
    """
    outbox = call.outbox
    while outbox:
        try:
            record = outbox[0]
        except IndexError as error:  # another thread was faster
            return pass_on(error)
        if call.runtime.switch.records:
            _put(call, record)
        with contextlib.suppress(ValueError):  # the same
            outbox.remove(record)
    return None


def _put(call: Call, record: Record) -> None:
    if call.request.history is None:
        put_soon(call.runtime, record)
    else:
        _ask_put(call, record)


def _ask_put(call: Call, record: Record) -> None:
    try:
        ask_put(call, record)
    except Exception as error:
        not_recorded(call.runtime, error)


def put_soon(runtime: Runtime, record: Record) -> None:
    """Record something, and wait for nothing."""
    try:
        runtime.asked.put_soon(*record)
    except Exception as error:
        not_recorded(runtime, error)


def not_recorded(runtime: Runtime, error: Exception) -> None:
    """Report a failure to record."""
    # A stream may be read on after `uninstrument()`: nothing is said of this package any more.
    if runtime.switch.is_on or is_applications(error):
        report("record a turn", error)
