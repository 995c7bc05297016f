"""Sessions as JSON: the same for the API, ``list --json``, ``show --json`` and ``export``.

Times are RFC 3339 in UTC, what is unknown is null.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Final

from otel_llm_sessions.view.sessions import Session
from otel_llm_sessions.view.spans import Attributes
from otel_llm_sessions.view.summaries import Summary
from otel_llm_sessions.view.turns import Turn
from otel_llm_sessions.view.words import Message

SECOND: Final = 1_000_000_000
DEEPEST: Final = 100
TOO_DEEP: Final = "…"
"""In the place of what lies deeper than anybody looks."""

TraceUrl = Callable[[str, str], str | None]
"""The address of a trace, and of a span in it, on a backend's page; None if there is none."""


def summary_json(session: Summary) -> dict[str, Any]:
    """A session in one row."""
    return {
        "id": session.id,
        "name": session.name,
        "user": session.user,
        "tags": list(session.tags),
        "services": list(session.services),
        "turns": session.turns,
        "models": list(session.models),
        "input_tokens": session.input_tokens,
        "output_tokens": session.output_tokens,
        "cost": session.cost,
        "currency": session.currency,
        "errors": session.errors,
        "first": time_json(session.first),
        "last": time_json(session.last),
    }


def session_json(session: Session, trace_url: TraceUrl | None = None) -> dict[str, Any]:
    """A session with its turns; the number of turns is ``turn_count``.

    Args:
        session: the session.
        trace_url: gives each turn its ``trace_url``; without it they have none.
    """
    row = summary_json(session.summary())
    turns = [turn_json(turn) for turn in session.turns]
    if trace_url is not None:
        for told, turn in zip(turns, session.turns, strict=True):
            told["trace_url"] = trace_url(turn.trace_id, turn.span_id)
    return {**row, "turn_count": row["turns"], "turns": turns}


def turn_json(turn: Turn) -> dict[str, Any]:
    """A turn."""
    return {
        "turn": turn.number or None,
        "part": turn.part,
        "trace_id": turn.trace_id,
        "span_id": turn.span_id,
        "response_id": turn.response_id,
        "model": turn.model,
        "source": turn.source,
        "start": time_json(turn.start),
        "end": time_json(turn.end),
        "input_tokens": turn.input_tokens,
        "output_tokens": turn.output_tokens,
        "cost": turn.cost,
        "error": turn.error,
        "input": [message_json(message) for message in turn.input] or None,
        "output": [message_json(message) for message in turn.output] or None,
        "attributes": attributes_json(turn.attributes),
    }


def message_json(message: Message) -> dict[str, Any]:
    """A message, as the conventions have it: ``role``, ``parts`` as they were recorded, and ``finish_reason``."""
    parts = [attributes_json(part.fields or {"type": part.kind, "content": part.text}) for part in message.parts]
    said = {"role": message.role, "parts": parts}
    return {**said, "finish_reason": message.finish_reason} if message.finish_reason else said


def attributes_json(attributes: Attributes) -> dict[str, Any]:
    """A span's attributes, as JSON can say them."""
    return {str(name): _value(value) for name, value in attributes.items()}


def time_json(at: int) -> str | None:
    """Nanoseconds since the epoch, as RFC 3339 in UTC; None for none."""
    if at <= 0:
        return None
    seconds, nanoseconds = divmod(at, SECOND)
    try:
        whole = datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def _value(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return value
    if depth > DEEPEST:
        return TOO_DEEP
    if isinstance(value, dict):
        return {str(name): _value(each, depth + 1) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_value(each, depth + 1) for each in value]
    return value.hex() if isinstance(value, bytes) else str(value)
