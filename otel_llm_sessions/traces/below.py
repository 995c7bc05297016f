"""Contexts in which a session's root is the current span: what is started there stands below it."""

from __future__ import annotations

import functools

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, get_current_span, set_span_in_context

from otel_llm_sessions.sessions.link import SessionTrace, SpanRef
from otel_llm_sessions.traces.links import root_context, span_context

(SPAN_KEY,) = set_span_in_context(INVALID_SPAN, Context())
"""Context key of the current span."""


def below(trace: SessionTrace, context: Context) -> Context:
    """Return ``context`` with a session's root as the current span."""
    return with_span_of(below_root(trace), context)


def with_span_of(alone: Context, context: Context) -> Context:
    """Return ``context`` with the current span of ``alone``, in which there is nothing else."""
    return set_span_in_context(get_current_span(alone), context) if context else alone


def below_alone(span: SpanContext) -> Context:
    """Return a context in which a span known by its context is current, and nothing else."""
    return Context({SPAN_KEY: NonRecordingSpan(span)})  # at once: what is set in a context copies it


def below_span(span: SpanRef) -> Context:
    """Return a context in which a span known by its ids is current, and nothing else; without one if there is none."""
    return below_alone(span_context(span))


@functools.lru_cache(maxsize=64)
def below_root(trace: SessionTrace) -> Context:
    """Return a context in which there is a session's root as the current span, and nothing else."""
    # Contexts do not change, so that all turns of a session which nothing surrounds share this one.
    return below_alone(root_context(trace))
