"""What was said in a turn, as its span's content attributes (or its event's) say it: messages, as values for people.

Contents come from anybody, and through backends that cut them off: what is no message is left out, what was cut off is
read as far as it goes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from otel_llm_sessions import semconv
from otel_llm_sessions.view.cut_json import read_beginning
from otel_llm_sessions.view.spans import Attributes

SAID_IN: Final[dict[str, tuple[str, ...]]] = {
    "text": ("content", "text"),
    "reasoning": ("content", "text"),
    "refusal": ("content", "refusal"),
    "tool_call": ("arguments",),
    "tool_call_response": ("response", "result", "content"),
    "uri": ("uri",),
    "file": ("file_id",),
    "blob": (),
}
"""Which fields of a part hold what it says, by its type: the first that it has."""
UNSAID: Final = frozenset({"type", "id", "name"})
"""Fields of a part of another type that are told apart from what it says."""
ENCODED: Final = 4 / 3
"""Characters of base64 for a byte."""


@dataclass(frozen=True, slots=True)
class MessagePart:
    """A part of a message.

    Args:
        kind: ``text``, ``reasoning``, ``tool_call``, ``tool_call_response``, ``blob``, ``uri``, ``refusal`` or whatever
            else its ``type`` says.
        text: what it says, for people: its words, a tool call's arguments, a tool's result, an address; JSON where it
            is no text; empty for a blob.
        name: the tool that is called.
        id: the id of a tool call, which its response repeats.
        media: the media type of a blob or what an address leads to; else what it is of (``image``).
        size: a blob's size in bytes; None if it is not known.
        fields: the part as it was recorded.
    """

    kind: str
    text: str = ""
    name: str = ""
    id: str = ""
    media: str = ""
    size: int | None = None
    fields: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Message:
    """A message.

    Args:
        role: who says it: ``user``, ``assistant``, ``system``, ``developer``, ``tool`` or whatever else.
        parts: what it says.
        finish_reason: why the model stopped, on a message of its own; empty where that is not said.
    """

    role: str
    parts: tuple[MessagePart, ...] = ()
    finish_reason: str = ""


class Words(NamedTuple):
    """Some messages, as far as they arrived."""

    messages: tuple[Message, ...] = ()
    is_cut: bool = False
    """Whether a backend cut them off: what is here is the beginning."""


def words_in(attributes: Attributes, name: str) -> Words:
    """Return the messages that an attribute holds, as JSON or as values; none where there is no such attribute."""
    value, is_cut = _read(attributes.get(name))
    if isinstance(value, str):  # which is no JSON, nor has been
        return Words((Message("", (MessagePart("text", value),)),)) if value.strip() else Words()
    messages = value if isinstance(value, (list, tuple)) else [value]
    return Words(tuple(_message(each) for each in messages if isinstance(each, dict) and each), is_cut)


def asked_in(attributes: Attributes) -> str:
    """Return the newest that a person says in a call's input, else the newest of its reply; empty if nothing is."""
    asked = words_in(attributes, semconv.INPUT_MESSAGES).messages
    said = [text for message in asked if message.role == "user" for text in _texts(message)]
    if not said:
        said = [text for message in words_in(attributes, semconv.OUTPUT_MESSAGES).messages for text in _texts(message)]
    return " ".join(said[-1].split()) if said else ""


def _read(value: Any) -> tuple[Any, bool]:
    """JSON as values, and whether it was cut off; anything else as it is."""
    if not isinstance(value, str):
        return value, False
    try:
        return json.loads(value), False
    except (ValueError, RecursionError):
        return (read_beginning(value), True) if value.lstrip()[:1] in ("[", "{") else (value, False)


def _texts(message: Message) -> Iterator[str]:
    return (part.text for part in message.parts if part.kind == "text" and part.text.strip())


def _message(message: dict[str, Any]) -> Message:
    parts = message.get("parts", message.get("content"))  # the latter as the API has it
    if isinstance(parts, str):
        parts = [{"type": "text", "content": parts}]
    found = [_part(part) for part in parts if isinstance(part, dict)] if isinstance(parts, (list, tuple)) else []
    return Message(_text(message.get("role")), tuple(found), _text(message.get("finish_reason")))


def _part(part: dict[str, Any]) -> MessagePart:
    kind = _text(part.get("type"))
    size = part.get("size")
    if size is None and isinstance(part.get("content"), str) and kind == "blob":
        size = int(len(part["content"]) / ENCODED)
    return MessagePart(
        kind,
        _said_in(kind, part),
        _text(part.get("name")),
        _text(part.get("id")),
        _text(part.get("mime_type")) or _text(part.get("modality")),
        size if isinstance(size, int) and not isinstance(size, bool) else None,
        part,
    )


def _said_in(kind: str, part: dict[str, Any]) -> str:
    names = SAID_IN.get(kind)
    if names is None:
        rest = {name: value for name, value in part.items() if name not in UNSAID and value is not None}
        return _written(rest.get(kind, rest.get("content", rest))) if rest else ""
    said = next((part[name] for name in names if part.get(name) is not None), "")
    return _text(said) if kind == "text" else _written(said)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _written(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, indent=2, default=str)
    except (ValueError, TypeError, RecursionError):
        return str(type(value))
