"""Contexts in which a session's root is the current span: what is started there stands below it."""

from __future__ import annotations

import functools

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, get_current_span, set_span_in_context

from otel_llm_sessions.sessions.link import SessionTrace, SpanRef
from otel_llm_sessions.traces.links import root_context, span_context


def below(trace: SessionTrace, context: Context) -> Context:
    """Return ``context`` with a session's root as the current span."""
    nowhere = below_root(trace)
    return set_span_in_context(get_current_span(nowhere), context) if context else nowhere


def below_span(span: SpanRef) -> Context:
    """Return a context in which a span known by its ids is current, and nothing else; without one if there is none."""
    return set_span_in_context(NonRecordingSpan(span_context(span)), Context())


@functools.lru_cache(maxsize=64)
def below_root(trace: SessionTrace) -> Context:
    """Return a context in which there is a session's root as the current span, and nothing else."""
    # Contexts do not change, so that all turns of a session which nothing surrounds share this one.
    return set_span_in_context(NonRecordingSpan(root_context(trace)), Context())
