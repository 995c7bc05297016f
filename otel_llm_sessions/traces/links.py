"""The links between spans of a session; always given when a span is created."""

from __future__ import annotations

from opentelemetry.trace import Link, SpanContext, TraceFlags

from otel_llm_sessions.sessions.link import SessionTrace, SpanRef
from otel_llm_sessions.sessions.resolver import Resolution
from otel_llm_sessions.sessions.tracestate import state_of

LINK = "llm_session.link"


def span_context(ref: SpanRef) -> SpanContext:
    """Return the context of a span known by its ids; never remote, so that samplers keep their root rule."""
    return SpanContext(ref.trace_id, ref.span_id, False, TraceFlags(ref.flags))


def root_context(trace: SessionTrace) -> SpanContext:
    """Return the context of a session trace's root span, by which its children stand: with its ``tracestate``."""
    return SpanContext(trace.trace_id, trace.root_span_id, False, TraceFlags(trace.flags), state_of(trace.state))


def root_ref(trace: SessionTrace) -> SpanRef:
    """Return the identity of a session trace's root span."""
    return SpanRef(trace.trace_id, trace.root_span_id, trace.flags)


def link_to(ref: SpanRef, kind: str) -> Link:
    """Return a link that says what it is: ``previous_turn``, ``session`` or ``other_session``."""
    return Link(span_context(ref), {LINK: kind})


def turn_links(resolution: Resolution) -> list[Link]:
    """Return the links of a turn to the previous turn, and to the other session that its evidence names."""
    if resolution.previous is None and resolution.other is None:
        return []
    links = []
    if resolution.previous is not None:
        links.append(link_to(resolution.previous.span, "previous_turn"))
    if resolution.other is not None:
        other = resolution.other
        target = root_ref(other.trace) if other.trace is not None else other.span
        links.append(link_to(target, "other_session"))
    return [link for link in links if link.context.is_valid]
