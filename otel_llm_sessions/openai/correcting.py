"""Puts right what a call has left behind, where its session was found after its span had ended."""

from __future__ import annotations

from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.describe import with_user
from otel_llm_sessions.openai.standing import know
from otel_llm_sessions.openai.turn import Turn
from otel_llm_sessions.sessions.resolver import Resolution
from otel_llm_sessions.traces.plan import Placement


def correct(call: Call, resolution: Resolution, ended: int) -> None:
    """Have what a call has left behind say its session, where that was found after its span had ended.

    Args:
        call: the call.
        resolution: the session.
        ended: when the call ended, in nanoseconds since the epoch.
    """
    previous, was_marked = resolution.previous, call.turn.placement.is_marked
    if previous is not None and previous.start == call.started:
        return  # it ended with what was known, and that is now found as the newest turn of its session
    trace = previous.trace if previous is not None and call.runtime.is_by_session else None
    is_marked = trace is not None and trace.is_sampled
    know(call, Turn(resolution, resolution.session_id, Placement(trace, is_marked)))
    if (record := call.leave(ended)) is not None and is_marked and not was_marked:
        call.home.placer.mark(with_user(record[1], call.request))
