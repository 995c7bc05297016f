"""The ``turn`` markers: where a turn that stands in another trace appears in the session's own."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, Status, StatusCode

from otel_llm_sessions.guard import report
from otel_llm_sessions.semconv import (
    ERROR_TYPE,
    LLM_SESSION_INPUT_TOKENS,
    LLM_SESSION_OUTPUT_TOKENS,
    LLM_SESSION_PART,
    LLM_SESSION_TURN,
    MARKER_NAME,
    REQUEST_MODEL,
    RESPONSE_ID,
    SESSION_ID,
)
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.traces.below import below_root
from otel_llm_sessions.traces.ids import start_with_ids
from otel_llm_sessions.traces.links import link, span_context


def emit_marker(
    tracer: Any,
    turn: SessionLink,
    error_type: str | None = None,
    below: Context | None = None,
    of: SpanContext | None = None,
) -> None:
    """Emit the marker of a turn below its session's root: the turn's own times, and a link to its span.

    Args:
        tracer: the tracer of roots and markers.
        turn: the turn, which has ended; its ``trace`` says below which root the marker stands.
        error_type: ``error.type`` of a turn that failed.
        below: the context below that root, and nothing else, where it has been made before.
        of: the context of the turn's own span, where that is at hand.
    """
    # A plain tuple of all its fields is taken apart in a third of the time that it takes to read them one by one.
    session_id, _, number, span, start, end, model, tokens_in, tokens_out, response_id, trace, name = turn[:12]
    if trace is None:
        return
    try:
        attributes: dict[str, Any] = {SESSION_ID: session_id, LLM_SESSION_TURN: number}
        if part := trace.part:
            attributes[LLM_SESSION_PART] = part
        if name or turn.user or turn.tags:
            attributes.update(turn.about.attributes())
        if model:
            attributes[REQUEST_MODEL] = model
        if response_id:
            attributes[RESPONSE_ID] = response_id
        if tokens_in is not None:
            attributes[LLM_SESSION_INPUT_TOKENS] = tokens_in
        if tokens_out is not None:
            attributes[LLM_SESSION_OUTPUT_TOKENS] = tokens_out
        if error_type is not None:
            attributes[ERROR_TYPE] = error_type
        context, links = below_root(trace) if below is None else below, [link(span_context(span) if of is None else of)]
        marker = start_with_ids(tracer, None, MARKER_NAME, context, attributes, links, start)
        if error_type is not None:
            marker.set_status(Status(StatusCode.ERROR))
        # A clock that was set back meanwhile, or another machine's, does not make a turn end before it began.
        marker.end(end if end > start else start)
    except Exception as error:  # a sampler or a processor of the application's, which costs the turn nothing else
        report("emit a turn's marker", error)
