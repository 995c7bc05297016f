"""What was said in a turn, as its span's content attributes say it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from otel_llm_sessions import semconv
from otel_llm_sessions.view.spans import Attributes


def asked_in(attributes: Attributes) -> str:
    """Return the newest that a person says in a call's input, else the newest of its reply; empty if neither is told.

    Args:
        attributes: a span's; what is no JSON of the conventions' (a backend may have cut it) counts as not told.
    """
    people = (text for role, text in _texts(attributes.get(semconv.INPUT_MESSAGES)) if role == "user")
    said = list(people) or [text for _, text in _texts(attributes.get(semconv.OUTPUT_MESSAGES))]
    return " ".join(said[-1].split()) if said else ""


def _texts(messages: Any) -> Iterator[tuple[object, str]]:
    """Each text in some messages, in order, with the role of who says it."""
    try:
        messages = json.loads(messages) if isinstance(messages, str) else messages
    except ValueError:
        return
    for message in _dicts(messages):
        for part in _dicts(message.get("parts")):
            text = part.get("content")
            if part.get("type") == "text" and isinstance(text, str) and text.strip():
                yield message.get("role"), text


def _dicts(values: Any) -> Iterator[dict[str, Any]]:
    if isinstance(values, (list, tuple)):
        yield from (value for value in values if isinstance(value, dict))
