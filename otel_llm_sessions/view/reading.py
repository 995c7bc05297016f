"""What one span says about sessions, by the documented attributes alone: no span's name decides anything.

Any span may hold any value of any type in any attribute, so each is read by what it can be, or not at all.
"""

from __future__ import annotations

import hashlib
from typing import Final

from otel_llm_sessions import semconv
from otel_llm_sessions.view.spans import Attributes, ReceivedLink, ReceivedLog, ReceivedSpan

SpanKey = tuple[str, str]

TURN_OPERATIONS: Final = frozenset({"chat", "text_completion", "generate_content", "compact"})
"""Values of ``gen_ai.operation.name`` that say: a call that makes a model work; to fetch a response does not."""
LINKS_TO_OTHERS: Final = frozenset({"previous_turn", "session", "other_session", "parent_session"})
"""Values of ``llm_session.link`` on a marker's links that do not lead to the call it stands for."""
SPEAK_OF_MODELS: Final = (semconv.OPERATION_NAME, "openinference.span.kind", "traceloop.span.kind")
"""Attributes of spans around model calls (agents, chains, workflows), whose session is that of the calls, too."""
LONGEST_NAME: Final = 128
MOST: Final = 2**53
"""The greatest count that is one."""


def key_of(span: ReceivedSpan) -> SpanKey:
    """What identifies the span."""
    return span.trace_id, span.span_id


def target_of(link: ReceivedLink) -> SpanKey:
    """What identifies the span that the link leads to."""
    return link.trace_id, link.span_id


def kind_of(link: ReceivedLink) -> object:
    """What the link is (``llm_session.link``); None where that is not said."""
    return link.attributes.get(semconv.LLM_SESSION_LINK)


def text_in(attributes: Attributes, name: str) -> str | None:
    """An attribute that is a text (or a whole number, as some write ids); None if it is none, or empty."""
    value = attributes.get(name)
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def count_in(attributes: Attributes, name: str) -> int | None:
    """An attribute that is a whole number from 0 on; None if it is none."""
    value = attributes.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST else None


def number_in(attributes: Attributes, name: str) -> float | None:
    """An attribute that is a finite number; None if it is none."""
    value = attributes.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= MOST:
        return None
    return float(value)


def event_name_of(log: ReceivedLog) -> str:
    """What an event is called; empty for a line of a log."""
    return log.event_name or text_in(log.attributes, "event.name") or ""


def session_ids_of(span: ReceivedSpan) -> tuple[str, ...]:
    """The ids of the sessions that a span says it belongs to: ``session.id``, else the provider's conversation."""
    said = session_id_in(span.attributes)
    return (said,) if said else ()


def session_id_in(attributes: Attributes) -> str | None:
    """The id of the session that attributes name; None if they name none."""
    return text_in(attributes, semconv.SESSION_ID) or text_in(attributes, semconv.CONVERSATION_ID)


def response_id_of(span: ReceivedSpan) -> str | None:
    """The id of the response that the span's call was answered with; None if it does not say."""
    return text_in(span.attributes, semconv.RESPONSE_ID)


def previous_id_of(span: ReceivedSpan) -> str | None:
    """The id of the response that the span's call goes on from; None if it does not say."""
    return text_in(span.attributes, semconv.REQUEST_PREVIOUS_RESPONSE_ID)


def name_of_response(response_id: str) -> str:
    """What a session is called that a response names: its id, shortened where that has more than 128 characters."""
    if len(response_id) <= LONGEST_NAME:
        return response_id
    return f"{response_id[:24]}~{hashlib.sha256(response_id.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def number_of(span: ReceivedSpan) -> int:
    """The span's turn number; 0 when it has none."""
    return count_in(span.attributes, semconv.LLM_SESSION_TURN) or 0


def part_of(span: ReceivedSpan) -> int | None:
    """Which part of a session's trace the span is the root of, or stands in; None where it does not say."""
    return count_in(span.attributes, semconv.LLM_SESSION_PART) or None


def is_root(span: ReceivedSpan) -> bool:
    """Whether the span is the root of a session's trace, or of a part of one."""
    return span.attributes.get(semconv.LLM_SESSION_ROOT) in (True, "true")


def is_call(span: ReceivedSpan) -> bool:
    """Whether the span is a call that makes a model work."""
    operation = span.attributes.get(semconv.OPERATION_NAME)
    if isinstance(operation, str):
        return operation in TURN_OPERATIONS
    return semconv.LLM_SESSION_SOURCE in span.attributes and not is_root(span)


def is_marker(span: ReceivedSpan) -> bool:
    """Whether the span stands in a session's trace for a call that is made in another trace."""
    attributes = span.attributes
    return (
        semconv.LLM_SESSION_TURN in attributes
        and semconv.OPERATION_NAME not in attributes
        and semconv.LLM_SESSION_SOURCE not in attributes
        and not is_root(span)
    )


def speaks_of_models(span: ReceivedSpan) -> bool:
    """Whether the span is of an agent, a chain or a workflow that calls models, or of such a call."""
    return any(name in span.attributes for name in SPEAK_OF_MODELS)


def is_evaluation(span: ReceivedSpan) -> bool:
    """Whether the span is a judgement of what a model did."""
    return semconv.EVALUATION_NAME in span.attributes


def marked_by(marker: ReceivedSpan) -> SpanKey | None:
    """What identifies the call that a marker stands for, by its link; None if it has none."""
    return next((target_of(link) for link in marker.links if kind_of(link) not in LINKS_TO_OTHERS), None)
