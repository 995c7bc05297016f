"""The ``turn`` markers: where a turn that stands in another trace appears in the session's own."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import Link, Status, StatusCode

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
from otel_llm_sessions.sessions.link import SessionLink, SessionTrace
from otel_llm_sessions.traces.below import below_root
from otel_llm_sessions.traces.ids import start_with_ids
from otel_llm_sessions.traces.links import span_context


def emit_marker(tracer: Any, turn: SessionLink, error_type: str | None = None) -> None:
    """Emit the marker of a turn below its session's root: the turn's own times, and a link to its span.

    Args:
        tracer: the tracer of roots and markers.
        turn: the turn, which has ended; its ``trace`` says below which root the marker stands.
        error_type: ``error.type`` of a turn that failed.
    """
    trace = turn.trace
    if trace is None:
        return
    try:
        marker = start_with_ids(
            tracer,
            None,
            MARKER_NAME,
            context=below_root(trace),
            attributes=_attributes(turn, trace, error_type),
            links=[Link(span_context(turn.span))],
            start_time=turn.start,
        )
        if error_type is not None:
            marker.set_status(Status(StatusCode.ERROR))
        # A clock that was set back meanwhile, or another machine's, does not make a turn end before it began.
        marker.end(max(turn.end, turn.start))
    except Exception as error:  # a sampler or a processor of the application's, which costs the turn nothing else
        report("emit a turn's marker", error)


def _attributes(turn: SessionLink, trace: SessionTrace, error_type: str | None) -> dict[str, Any]:
    attributes: dict[str, Any] = {SESSION_ID: turn.session_id, LLM_SESSION_TURN: turn.turn}
    if part := trace.part:
        attributes[LLM_SESSION_PART] = part
    if turn.name or turn.user or turn.tags:
        attributes.update(turn.about.attributes())
    if model := turn.model:
        attributes[REQUEST_MODEL] = model
    if response_id := turn.response_id:
        attributes[RESPONSE_ID] = response_id
    if (tokens := turn.input_tokens) is not None:
        attributes[LLM_SESSION_INPUT_TOKENS] = tokens
    if (tokens := turn.output_tokens) is not None:
        attributes[LLM_SESSION_OUTPUT_TOKENS] = tokens
    if error_type is not None:
        attributes[ERROR_TYPE] = error_type
    return attributes
