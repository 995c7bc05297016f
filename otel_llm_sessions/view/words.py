"""What was said in a turn, as its span's content attributes (or its event's) say it: messages, as values for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from otel_llm_sessions import semconv
from otel_llm_sessions.view.spans import Attributes

KINDS: Final = ("text", "reasoning", "tool_call", "tool_call_response", "blob", "uri", "refusal")


@dataclass(frozen=True, slots=True)
class MessagePart:
    """A part of a message.

    Args:
        kind: ``text``, ``reasoning``, ``tool_call``, ``tool_call_response``, ``blob``, ``uri`` or ``refusal``, as the
            conventions call them; or whatever else it calls itself.
        text: what it says: its words, a tool call's arguments, a tool's result, an address; JSON where it is no text.
        name: the tool that is called.
        id: the id of a tool call, which its response repeats.
        media: a blob's or address's media type, or what of (``image``).
        size: a blob's size in bytes; None if it is not known.
    """

    kind: str
    text: str = ""
    name: str = ""
    id: str = ""
    media: str = ""
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message: who says it, and its parts."""

    role: str
    parts: tuple[MessagePart, ...] = ()
    finish_reason: str = ""
    """Why the model stopped, on a message of its own; empty if it is not said."""


class Words(NamedTuple):
    """Some messages, as far as they arrived."""

    messages: tuple[Message, ...] = ()
    is_cut: bool = False
    """Whether a backend cut them off: what is here is the beginning."""


def words_in(attributes: Attributes, name: str) -> Words:
    """The messages that an attribute holds, as JSON of the conventions' or as values."""
    value, is_cut = read(attributes.get(name))
    return Words(tuple(map(_message, _dicts(value))), is_cut)


def read(value: Any) -> tuple[Any, bool]:
    """Some JSON as values, and whether it was cut off; values as they are."""
    if not isinstance(value, str):
        return value, False
    try:
        return json.loads(value), False
    except (ValueError, RecursionError):
        return None, True


def asked_in(attributes: Attributes) -> str:
    """Return the newest that a person says in a call's input, else the newest of its reply; empty if nothing is."""
    asked = words_in(attributes, semconv.INPUT_MESSAGES).messages
    said = [text for message in asked if message.role == "user" for text in _texts(message)]
    if not said:
        said = [text for message in words_in(attributes, semconv.OUTPUT_MESSAGES).messages for text in _texts(message)]
    return " ".join(said[-1].split()) if said else ""


def _texts(message: Message) -> Iterator[str]:
    return (part.text for part in message.parts if part.kind == "text" and part.text.strip())


def _message(message: dict[str, Any]) -> Message:
    parts = tuple(map(_part, _dicts(message.get("parts"))))
    return Message(_text(message.get("role")), parts, _text(message.get("finish_reason")))


def _part(part: dict[str, Any]) -> MessagePart:
    kind = _text(part.get("type"))
    if kind == "text":
        return MessagePart(kind, _text(part.get("content")))
    said = next((part[key] for key in ("content", "response", "result", "arguments", "uri") if part.get(key)), "")
    size = part.get("size")
    return MessagePart(
        kind,
        _written(said),
        _text(part.get("name")),
        _text(part.get("id")),
        _text(part.get("mime_type") or part.get("modality")),
        size if isinstance(size, int) and not isinstance(size, bool) else None,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _written(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, indent=2, default=str)
    except (ValueError, TypeError, RecursionError):
        return str(value)


def _dicts(values: Any) -> Iterator[dict[str, Any]]:
    if isinstance(values, (list, tuple)):
        yield from (value for value in values if isinstance(value, dict))
