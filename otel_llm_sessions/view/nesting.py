"""Model calls of which several instrumentations tell, one inside another: each is counted once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import replace

from otel_llm_sessions import semconv
from otel_llm_sessions.view.index import Spans
from otel_llm_sessions.view.reading import SpanKey, is_call, key_of, response_id_of
from otel_llm_sessions.view.spans import ReceivedSpan


def calls_once(spans: Spans, marked: Container[SpanKey]) -> list[ReceivedSpan]:
    """Return the spans of model calls, without those that tell of a call which another one tells of.

    A model call makes no other one, so the innermost of several is the call; what only an outer one says is added to
    it. But where the outer one is a session's turn and no inner one is, it is the outer one.

    Args:
        spans: all that arrived.
        marked: the calls that markers stand for.
    """
    calls = [span for span in spans.all if is_call(span)]
    outer_of = {key_of(span): outer for span in calls if (outer := _outer(spans, span))}
    if not outer_of:
        return calls
    turns = {key_of(span) for span in calls if semconv.LLM_SESSION_SOURCE in span.attributes or key_of(span) in marked}
    kept = {key_of(span) for span in calls}
    inside = Counter(map(key_of, outer_of.values()))
    with_turns = {key_of(outer) for key, outer in outer_of.items() if key in turns}
    for key, outer in outer_of.items():
        kept.discard(key if key_of(outer) in turns and key_of(outer) not in with_turns else key_of(outer))
    return [_filled(span, outer_of, inside) for span in calls if key_of(span) in kept]


def _outer(spans: Spans, span: ReceivedSpan) -> ReceivedSpan | None:
    """The nearest model call around this one, if it may be the same."""
    outer = spans.nearest(span, _as_call)
    if outer is None:
        return None
    ids = {response_id_of(one) for one in (span, outer)} - {None}
    return outer if len(ids) < 2 else None


def _as_call(span: ReceivedSpan) -> ReceivedSpan | None:
    return span if is_call(span) else None


def _filled(span: ReceivedSpan, outer_of: dict[SpanKey, ReceivedSpan], inside: Counter[SpanKey]) -> ReceivedSpan:
    """The call with what only those around it say, where it is all that they tell of."""
    attributes, outer = span.attributes, outer_of.get(key_of(span))
    while outer is not None and inside[key_of(outer)] == 1:
        attributes, outer = {**outer.attributes, **attributes}, outer_of.get(key_of(outer))
    return span if attributes is span.attributes else replace(span, attributes=attributes)
