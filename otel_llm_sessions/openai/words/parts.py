"""The contents of messages as parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from otel_llm_sessions.openai.words.media import KINDS, media_part
from otel_llm_sessions.openai.words.plain import Json, decoded_size, fields_in, generic, plain, text_in

TEXTS: Final = (None, "text", "input_text", "output_text", "summary_text")

REASONS: Final = (
    "thinking",
    "redacted_thinking",
    "reasoning",
    "reasoning_text",
    "reasoning.text",
    "reasoning.summary",
    "reasoning.encrypted",
)
"""Kinds of parts that say how a model came to its answer: Mistral's, Anthropic's dialect, OpenAI's, OpenRouter's."""

_REASON_TEXTS: Final = ("thinking", "text", "reasoning", "summary", "content")
_ENCRYPTED: Final = ("encrypted_content", "data")


def text_part(content: str, annotations: Any = None) -> Json:
    """Return a part of text, with what a server notes of it: its sources, for one."""
    part: Json = {"type": "text", "content": content}
    if annotations and isinstance(annotations, (list, tuple)):
        part["annotations"] = plain(annotations)
    return part


def refusal_part(content: str) -> Json:
    """Return the part for what a model refuses with."""
    return {"type": "refusal", "content": content}


def parts_of(content: Any) -> list[Json]:
    """Return the parts of a message's content: a text, a list of parts, or whatever stands there."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [text_part(str.__str__(content))]
    return [part_of(each) for each in content] if isinstance(content, (list, tuple)) else [part_of(content)]


def part_of(value: Any) -> Json:
    """Return one part of a content that is a list of them."""
    if isinstance(value, str):
        return text_part(str.__str__(value))
    said = fields_in(value)
    if said is None:
        return generic(value)
    kind = said.get("type")
    if kind in TEXTS and (text := text_in(said.get("text"))) is not None:
        return text_part(text, said.get("annotations"))
    if kind == "refusal" and (text := text_in(said.get("refusal"))) is not None:
        return refusal_part(text)
    if kind in REASONS:
        return reasoning_part(said)
    return media_in(said) or generic(said)


def media_in(said: Mapping[Any, Any] | None) -> Json | None:
    """Return the part for an image, a sound, a film or a file, None if fields say of none."""
    kind = None if said is None else said.get("type")
    return media_part(kind, said) if said is not None and type(kind) is str and kind in KINDS else None


def reasoning_part(said: Mapping[Any, Any]) -> Json:
    """Return the part for a piece of reasoning: its text, and how much of it is encrypted, in bytes."""
    texts = (text for name in _REASON_TEXTS for text in _texts_in(said.get(name)))
    part: Json = {"type": "reasoning", "content": next(texts, "")}
    encrypted = next((text for name in _ENCRYPTED if (text := text_in(said.get(name)))), None)
    if encrypted:
        part["encrypted_size"] = decoded_size(encrypted)
    return part


def _texts_in(value: Any) -> Iterator[str]:
    """Yield the text that a value is, or that its parts are together; nothing if it is none."""
    if isinstance(value, (list, tuple)):
        value = "".join(texts_of(value))
    if text := text_in(value):
        yield text


def texts_of(parts: Iterable[Any]) -> Iterator[str]:
    """Yield the texts among parts, written as texts or as objects."""
    for part in parts:
        text = text_in(part) if isinstance(part, str) else text_in((fields_in(part) or {}).get("text"))
        if text:
            yield text


def response_of(output: Any) -> Any:
    """Return what a tool answered: a text, or parts where it is a list of more than one."""
    if isinstance(output, str):
        return str.__str__(output)
    if not isinstance(output, (list, tuple)):
        return media_in(fields_in(output)) or plain(output)
    parts = parts_of(output)
    return parts[0]["content"] if len(parts) == 1 and parts[0]["type"] == "text" else parts
