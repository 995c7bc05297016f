"""Messages of the chat API, as requests send them and replies bring them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from otel_llm_sessions.openai.fields import items_of
from otel_llm_sessions.openai.words.media import blob, filed
from otel_llm_sessions.openai.words.parts import parts_of, reasoning_part, refusal_part, response_of
from otel_llm_sessions.openai.words.plain import Json, arguments_of, fields_in, generic, plain, text_in

ANSWERING: Final = ("tool", "function")
"""Roles whose messages are what a tool answered; ``function`` is that of the API before there were tools."""

_READ: Final = frozenset(
    {
        "role",
        "content",
        "name",
        "reasoning_content",
        "reasoning",
        "reasoning_details",
        "refusal",
        "tool_calls",
        "tool_call_id",
        "function_call",
        "audio",
        "images",
        "annotations",
    }
)

_PASSING: Final = frozenset(
    {
        "parsed",  # what the client made of the text
        "type",
        "id",
        "index",
        "status",
        "phase",
        "cache_control",
        "prompt_cache_breakpoint",
        "provider_specific_fields",  # LiteLLM's, which stand in the message as well
        "thinking_blocks",
        "prefix",
        "weight",
    }
)
"""Fields that say nothing which the message does not say elsewhere, or nothing of what was said."""


def message_of(value: Any, role: str = "user") -> Json:
    """Return a chat message.

    Args:
        value: a dict, a model, or what stands in their place.
        role: whose it is if it does not say so.
    """
    said = fields_in(value)
    if said is None:
        return {"role": role, "parts": parts_of(value)}
    role = text_in(said.get("role")) or role
    message: Json = {"role": role, "parts": list(_answer_in(said) if role in ANSWERING else _parts_in(said))}
    message["parts"].extend(_odd_in(said))
    if name := text_in(said.get("name")):
        message["name"] = name
    return message


def odd_message(kind: str) -> Json:
    """Return what there is for a message that cannot be read, of which only the type is known."""
    return {"role": "user", "parts": [{"type": "generic", "content": kind}]}


def _answer_in(said: Mapping[Any, Any]) -> Iterator[Json]:
    yield {
        "type": "tool_call_response",
        "id": text_in(said.get("tool_call_id")),
        "response": response_of(said.get("content")),
    }


def _parts_in(said: Mapping[Any, Any]) -> Iterator[Json]:
    """Yield what a message says, in the order in which a model makes it."""
    get = said.get
    yield from _reasoning_in(said)
    parts = parts_of(get("content"))
    if parts and (annotations := items_of(get("annotations"))):
        parts[-1]["annotations"] = plain(annotations)
    yield from parts
    if refusal := get("refusal"):
        text = text_in(refusal)
        yield generic(refusal, "refusal") if text is None else refusal_part(text)
    for image in items_of(get("images")):
        yield from parts_of([image])
    if (audio := get("audio")) is not None:
        yield _audio_part(audio)
    for call in items_of(get("tool_calls")):
        yield call_part(call)
    if (called := get("function_call")) is not None:
        yield _called(None, called, "arguments") or generic(called, "function_call")


def _reasoning_in(said: Mapping[Any, Any]) -> Iterator[Json]:
    """Yield the reasoning beside a content, once: some servers write it twice, as a text and in details."""
    for name in ("reasoning_content", "reasoning"):
        if text := text_in(said.get(name)):
            yield {"type": "reasoning", "content": text}
            return
    for each in items_of(said.get("reasoning_details")):
        fields = fields_in(each)
        yield generic(each, "reasoning_details") if fields is None else reasoning_part(fields)


def call_part(call: Any) -> Json:
    """Return the part for one of the tool calls of a message."""
    said = fields_in(call)
    if said is None:
        return generic(call, "tool_calls")
    id_ = text_in(said.get("id"))
    for name, arguments in (("function", "arguments"), ("custom", "input")):
        if (called := said.get(name)) is not None and (part := _called(id_, called, arguments)):
            return part
    return generic(said, "tool_calls")


def _called(id_: str | None, called: Any, arguments: str) -> Json | None:
    said = fields_in(called)
    if said is None:
        return None
    name = text_in(said.get("name")) or ""
    return {"type": "tool_call", "id": id_, "name": name, "arguments": arguments_of(said.get(arguments))}


def _audio_part(audio: Any) -> Json:
    """Return the part for what a model speaks: in a reply as data, in later requests by its id."""
    said = fields_in(audio) or {}
    data, id_, transcript = (text_in(said.get(name)) for name in ("data", "id", "transcript"))
    if data:
        part = blob("audio", None, data)
    elif type(size := said.get("size")) is int:  # of a stream's, which is not kept
        part = {"type": "blob", "modality": "audio", "mime_type": None, "size": size}
    elif id_:
        part = filed(id_, "audio")
    else:
        return generic(audio, "audio")
    if transcript:
        part["transcript"] = transcript
    return part


def _odd_in(said: Mapping[Any, Any]) -> Iterator[Json]:
    """Yield what stands in fields of which nothing is known here."""
    if said.keys() <= _READ:
        return
    for name, value in said.items():
        if type(name) is str and name not in _READ and name not in _PASSING and value not in (None, "", [], {}):
            yield generic(value, name)
