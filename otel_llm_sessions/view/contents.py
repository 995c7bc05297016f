"""What was said, where it is recorded in events and not on spans: by the span that each event belongs to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from otel_llm_sessions import semconv
from otel_llm_sessions.view.reading import SpanKey, event_name_of
from otel_llm_sessions.view.spans import Attributes, ReceivedLog

ASKED: Final[dict[str, str]] = {
    f"gen_ai.{role}.message": role for role in ("system", "developer", "user", "assistant", "tool")
}
"""Events of one message each, by which older releases of others tell the input, and who says such a message."""
ANSWERED: Final = "gen_ai.choice"
"""The event by which these tell the output."""


def contents_of(logs: Iterable[ReceivedLog]) -> dict[SpanKey, Attributes]:
    """Return what events say, as attributes of the span that they belong to; an event that comes twice says it once."""
    found: dict[SpanKey, Attributes] = {}
    messages: defaultdict[SpanKey, dict[tuple[int, str, str], ReceivedLog]] = defaultdict(dict)
    for log in logs:
        name, key = event_name_of(log), (log.trace_id, log.span_id)
        if name == semconv.OPERATION_DETAILS and log.span_id:
            found[key] = max(found.get(key, {}), log.attributes, key=_size)
        elif (name in ASKED or name == ANSWERED) and isinstance(log.body, dict):
            messages[key].setdefault((log.time, name, repr(log.body)), log)
    for key, events in messages.items():
        if key[1] and key not in found:
            found[key] = _told([log for _, log in sorted(events.items())])
    return found


def _told(events: list[ReceivedLog]) -> Attributes:
    """Events of one message each, in the conventions' form."""
    asked = [_message(log.body, ASKED[event_name_of(log)]) for log in events if event_name_of(log) in ASKED]
    answered = [_choice(log.body) for log in events if event_name_of(log) == ANSWERED]
    said = {semconv.INPUT_MESSAGES: asked, semconv.OUTPUT_MESSAGES: answered}
    return {name: messages for name, messages in said.items() if messages}


def _choice(body: dict[str, Any]) -> dict[str, Any]:
    said = body.get("message")
    message = {**said, "tool_calls": body["tool_calls"]} if "tool_calls" in body and isinstance(said, dict) else said
    told = _message(message if isinstance(message, dict) else {"content": said}, "assistant")
    return {**told, "finish_reason": body.get("finish_reason")}


def _message(said: dict[str, Any], role: str) -> dict[str, Any]:
    content, id_, calls = said.get("content"), said.get("id"), said.get("tool_calls")
    parts: list[dict[str, Any]] = []
    if content not in (None, ""):
        answer = {"type": "tool_call_response", "id": id_, "response": content}
        parts.append(answer if role == "tool" else {"type": "text", "content": content})
    for call in calls if isinstance(calls, (list, tuple)) else ():
        if isinstance(call, dict):
            function = call.get("function")
            named = function if isinstance(function, dict) else {}
            parts.append({**named, "type": "tool_call", "id": call.get("id")})
    return {"role": said.get("role") or role, "parts": parts}


def _size(attributes: Attributes) -> tuple[int, str]:
    return len(attributes), repr(attributes)
