"""What is to be opened for a part of a session: the root span as its sampler sees it, and as it is told afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, TraceFlags

from otel_llm_sessions import semconv
from otel_llm_sessions.guard import report
from otel_llm_sessions.sessions.about import NOTHING_SAID, About
from otel_llm_sessions.sessions.link import SessionId, SessionTrace, Source
from otel_llm_sessions.sessions.root_names import ROOT_NAME, part_name
from otel_llm_sessions.sessions.tracestate import state_text
from otel_llm_sessions.traces.links import link_to, root_ref, trace_below

NOWHERE = Context({"otel_llm_sessions.nowhere": True})
"""A context without a current span: what is started in it is a root.

Not an empty one, which many take for none, and look at what is current then; nor one with the API's invalid span, about
which the SDK (1.45) has to ask twice what it is.
"""


class Opening(NamedTuple):
    """A part of a session's trace that this process has not met yet."""

    session_id: SessionId
    source: Source | None
    part: int
    first_turn: int
    start: int
    """When the part begins, in nanoseconds since the epoch."""
    trace_id: int
    root_span_id: int
    before: SessionTrace | None
    """The trace of the part before, which the root links to."""
    claim_key: str
    """The key that exactly one of all who open the part gets from the store."""
    about: About = NOTHING_SAID
    """What the application has said of the session."""
    is_again: bool = False
    """Whether it was opened here before, below a root that another caller claimed."""


def trace_of(opening: Opening, root: SpanContext) -> SessionTrace:
    """Return the trace whose root has been started."""
    return trace_below(root, opening.part, opening.start, opening.first_turn)


def asked(opening: Opening) -> tuple[str, dict[str, Any], list[Link]]:
    """Return the name, attributes and links of a root by which its sampler decides.

    Each process asks its own sampler, and all are to decide alike. So it sees only what all of them know: not what
    one process calls the session, nor how it found it.
    """
    attributes = {
        semconv.SESSION_ID: opening.session_id,
        semconv.LLM_SESSION_ROOT: True,
        semconv.LLM_SESSION_PART: opening.part,
    }
    links = [link_to(root_ref(opening.before), "session")] if opening.before is not None else []
    return part_name(ROOT_NAME, opening.part), attributes, links


def told(opening: Opening, root: Span) -> dict[str, Any]:
    """Return the attributes that a root still lacks: also of those that its sampler saw.

    Some samplers drop what they do not add (``composite_sampler`` of opentelemetry-sdk 1.45 does).
    """
    _, attributes, _ = asked(opening)
    has: Mapping[str, Any] = getattr(root, "attributes", None) or {}
    attributes = {name: value for name, value in attributes.items() if has.get(name) != value}
    if opening.source is not None:
        attributes[semconv.LLM_SESSION_SOURCE] = opening.source
    if opening.about is not NOTHING_SAID:
        attributes.update(opening.about.attributes())
    return attributes


def decided(opening: Opening, tracer: Any) -> SessionTrace:
    """Return the trace of a root that another caller emits: the same sampler, asked the same."""
    flags, state = int(TraceFlags.SAMPLED), ""
    sampler = getattr(tracer, "sampler", None)
    if sampler is not None:
        name, attributes, links = asked(opening)
        try:
            result = sampler.should_sample(NOWHERE, opening.trace_id, name, SpanKind.INTERNAL, attributes, links)
            flags = int(TraceFlags.SAMPLED if result.decision.is_sampled() else TraceFlags.DEFAULT)
            state = state_text(result.trace_state)
        except Exception as error:
            report("ask the sampler", error)
    ids = opening.trace_id, opening.root_span_id
    return SessionTrace(*ids, flags, opening.part, opening.start, opening.first_turn, state)
