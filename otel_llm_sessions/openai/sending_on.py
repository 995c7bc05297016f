"""Sends a call's session on with its request, where ``PROPAGATE`` says so."""

from __future__ import annotations

from typing import Any, Final

from otel_llm_sessions.guard import report
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.carried import Carried
from otel_llm_sessions.openai.routes import CONVERSATIONS
from otel_llm_sessions.sessions.tracestate import state_text

NOTHING: Final = Carried(None, None)


def sent_on(call: Call, client: Any, options: Any) -> Any:
    """Return the options to send, with what is to be sent on of the session."""
    try:
        propagation = call.runtime.propagation
        return propagation.applied(options, client, call.request, carried_by(call)) if propagation else options
    except Exception as error:
        report("send a session on", error)
        return options


def carried_by(call: Call) -> Carried:
    """Return what a request may tell of its session and its span."""
    if call.request.match.route is CONVERSATIONS:
        return NOTHING
    turn, ref = call.turn, call.span_ref()
    span = ref if ref.span_id else None
    if turn.is_pending:
        return Carried(None, span)
    said, state = turn.resolution, state_text(call.span.context.trace_state)
    return Carried(turn.session_id, span, said.origin, said.turn, call.started, turn.placement.trace, state)
