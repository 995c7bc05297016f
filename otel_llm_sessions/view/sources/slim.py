"""Of a trace, what a session in one row is made from: no words, no spans that are neither turns nor above one."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from otel_llm_sessions import semconv
from otel_llm_sessions.view.index import Spans
from otel_llm_sessions.view.reading import SpanKey, is_call, is_evaluation, is_marker, is_root, key_of, session_ids_of
from otel_llm_sessions.view.spans import Attributes, ReceivedSpan

SERVICE_NAME: Final = "service.name"
KEPT: Final = (
    semconv.SESSION_ID,
    semconv.CONVERSATION_ID,
    semconv.USER_ID,
    semconv.LLM_SESSION_ROOT,
    semconv.LLM_SESSION_PART,
    semconv.LLM_SESSION_TURN,
    semconv.LLM_SESSION_SOURCE,
    semconv.LLM_SESSION_NAME,
    semconv.LLM_SESSION_TAGS,
    semconv.LLM_SESSION_INPUT_TOKENS,
    semconv.LLM_SESSION_OUTPUT_TOKENS,
    semconv.OPERATION_NAME,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.RESPONSE_ID,
    semconv.REQUEST_PREVIOUS_RESPONSE_ID,
    semconv.USAGE_INPUT_TOKENS,
    semconv.USAGE_OUTPUT_TOKENS,
    semconv.USAGE_COST_AMOUNT,
    semconv.USAGE_COST_CURRENCY,
    semconv.ERROR_TYPE,
    semconv.EVALUATION_NAME,
)
"""The attributes that a session in one row is made from, by the conventions' names."""
LONGEST: Final = 600
"""Characters of a text that may be an id, a name or a tag; LiteLLM's ids of responses have 470."""


def slim(trace: Iterable[ReceivedSpan]) -> list[ReceivedSpan]:
    """The spans of a trace that a session in one row is made from; none if the trace has nothing of a session."""
    spans = Spans(trace)
    kept: dict[SpanKey, ReceivedSpan] = {}
    named = False
    for span in spans.all:
        if is_root(span) or is_call(span) or is_marker(span) or is_evaluation(span):
            named = named or bool(session_ids_of(span))
            kept[key_of(span)] = span
            for one in spans.above(span):
                if key_of(one) in kept:  # what is above that is kept, too
                    break
                kept[key_of(one)] = one
    return [_slim(span) for span in kept.values()] if named else []


def _slim(span: ReceivedSpan) -> ReceivedSpan:
    service = span.resource.get(SERVICE_NAME)
    return replace(
        span,
        name=sys.intern(span.name[:LONGEST]),
        attributes=_short(span.attributes),
        events=(),
        status_message="",
        resource={SERVICE_NAME: sys.intern(service[:LONGEST])} if isinstance(service, str) else {},
    )


def _short(attributes: Attributes) -> dict[str, Any]:
    kept = ((name, attributes[name]) for name in KEPT if name in attributes)
    return {name: value for name, value in kept if not isinstance(value, (str, bytes, tuple)) or len(value) <= LONGEST}
