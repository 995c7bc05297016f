"""The links between spans of a session; always given when a span is created."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import Link, SpanContext, TraceFlags

from otel_llm_sessions.cheap import new
from otel_llm_sessions.semconv import LLM_SESSION_LINK
from otel_llm_sessions.sessions.link import SessionTrace, SpanRef
from otel_llm_sessions.sessions.resolver import Resolution
from otel_llm_sessions.sessions.tracestate import state_of, state_text

ALL_FLAGS = 0xFF
SOME_FLAGS = {flags: TraceFlags(flags) for flags in (1, 3)}
"""Those of most spans, made once: sampled, with an id that is random or may not be."""

NO_STATE = SpanContext(1, 1, False).trace_state
"""The one that contexts have where nobody gives them another (opentelemetry-api 1.45)."""

MAX_TRACE_ID, MAX_SPAN_ID = 2**128 - 1, 2**64 - 1

IS_PLAIN = tuple(SpanContext(1, 1, False, SOME_FLAGS[1], NO_STATE)) == (1, 1, False, SOME_FLAGS[1], NO_STATE, True)
"""Whether a context is a tuple of these fields, the last of which says that it is valid (opentelemetry-api 1.45)."""

IS_VALID = 5

PREVIOUS_TURN: Final = {LLM_SESSION_LINK: "previous_turn"}
TO_ROOT: Final = {LLM_SESSION_LINK: "session"}
"""Not to be changed: the SDK (1.45) copies them into each span."""

IS_BARE = vars(Link(SpanContext(1, 1, False), TO_ROOT)) == {
    "_context": SpanContext(1, 1, False),
    "_attributes": TO_ROOT,
}
"""Whether a link is an object of these two attributes and nothing else (opentelemetry-api 1.45)."""

_bare: Final = object.__new__


def ref_of(context: SpanContext) -> SpanRef:
    """Return the identity of a span."""
    if type(context) is SpanContext:  # a tuple (opentelemetry-api 1.45), of which each property is a Python function
        return new(SpanRef, (context[0], context[1], context[3] & ALL_FLAGS))
    return SpanRef(context.trace_id, context.span_id, int(context.trace_flags))


def span_context(ref: SpanRef) -> SpanContext:
    """Return the context of a span known by its ids; never remote, so that samplers keep their root rule."""
    trace_id, span_id, flags = ref[0], ref[1], ref[2]  # a named tuple is unpacked as any object that can be iterated
    known = SOME_FLAGS.get(flags)
    if known is not None and IS_PLAIN and 0 < trace_id <= MAX_TRACE_ID and 0 < span_id <= MAX_SPAN_ID:
        return new(SpanContext, (trace_id, span_id, False, known, NO_STATE, True))
    return SpanContext(trace_id, span_id, False, known or TraceFlags(flags))


def trace_below(root: SpanContext, part: int, start: int, first_turn: int) -> SessionTrace:
    """Return the trace of a session's part whose root has been started."""
    if type(root) is SpanContext and IS_PLAIN:  # taken apart in a quarter of the time
        trace_id, span_id, _, flags, state, _ = root[:]
    else:
        trace_id, span_id, flags, state = root.trace_id, root.span_id, root.trace_flags, root.trace_state
    text = "" if state is NO_STATE else state_text(state)
    return new(SessionTrace, (trace_id, span_id, flags & ALL_FLAGS, part, start, first_turn, text))


def root_context(trace: SessionTrace) -> SpanContext:
    """Return the context of a session trace's root span, by which its children stand: with its ``tracestate``."""
    return SpanContext(trace.trace_id, trace.root_span_id, False, TraceFlags(trace.flags), state_of(trace.state))


def root_ref(trace: SessionTrace) -> SpanRef:
    """Return the identity of a session trace's root span."""
    return SpanRef(trace.trace_id, trace.root_span_id, trace.flags)


@functools.lru_cache(maxsize=64)
def root_target(trace: SessionTrace) -> SpanContext:
    """Return the context by which links name a session trace's root; kept a while, since all its turns name it."""
    return span_context(root_ref(trace))


def link(context: SpanContext, attributes: Mapping[str, str] | None = None) -> Link:
    """Return a link as its class makes it: in half of the time, since that passes through two functions of Python."""
    if not IS_BARE:
        return Link(context, attributes)
    made: Any = _bare(Link)
    made._context, made._attributes = context, attributes
    return made  # type: ignore[no-any-return]  # a cast is a call


def link_to(ref: SpanRef, kind: str) -> Link:
    """Return a link that says what it is: ``previous_turn``, ``session`` or ``other_session``."""
    return link(span_context(ref), {LLM_SESSION_LINK: kind})


def turn_links(resolution: Resolution) -> list[Link]:
    """Return the links of a turn to the previous turn, and to the other session that its evidence names."""
    links: list[Link] = []
    previous, other = resolution.previous, resolution.other
    if previous is not None:
        context = span_context(previous.span)
        if context[IS_VALID] if IS_PLAIN else context.is_valid:
            links = [link(context, PREVIOUS_TURN)]
    if other is not None:
        context = root_target(other.trace) if other.trace is not None else span_context(other.span)
        if context.is_valid:
            links.append(link(context, {LLM_SESSION_LINK: "other_session"}))
    return links
