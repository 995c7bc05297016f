"""Items of the Responses API: of a request's ``input`` and of a response's ``output``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from otel_llm_sessions.openai.fields import items_of
from otel_llm_sessions.openai.words.messages import message_of
from otel_llm_sessions.openai.words.parts import media_in, parts_of, reasoning_part, response_of, texts_of
from otel_llm_sessions.openai.words.plain import (
    Json,
    arguments_of,
    decoded_size,
    fields_in,
    generic,
    plain,
    rest_of,
    text_in,
)

Fields = Mapping[Any, Any]

ASSISTANT: Final = "assistant"
TOOL: Final = "tool"


def item_of(value: Any, role: str = "user") -> Json:
    """Return an item as a message.

    Args:
        value: a dict, a model, or what stands in their place.
        role: whose it is if neither it nor its kind says so.
    """
    said = fields_in(value)
    if said is None:
        return {"role": role, "parts": parts_of(value)}
    kind = said.get("type")
    reader = READERS.get(kind) if type(kind) is str else None
    if reader is None and (kind == "message" or "content" in said or "role" in said):
        return message_of(said, role)
    whose = text_in(said.get("role")) or (_whose(kind) if type(kind) is str else None) or role
    return {"role": whose, "parts": [generic(said)] if reader is None else reader(said)}


def _whose(kind: str) -> str | None:
    """Return whose an item is that says no role, by its kind."""
    if kind in _MODELS or kind.endswith("_call"):
        return ASSISTANT
    return TOOL if kind.endswith("_output") else None


_MODELS: Final = ("reasoning", "compaction", "program", "mcp_list_tools", "mcp_approval_request")


# --- tools that the application runs --------------------------------------------------------------------------


def _called(name: str | None, arguments: str) -> Callable[[Fields], list[Json]]:
    """Return a reader of calls of a tool; without a name it is the item's own."""

    def read(said: Fields) -> list[Json]:
        named = name or text_in(said.get("name")) or ""
        id_ = text_in(said.get("call_id")) or text_in(said.get("id"))
        said_to_it = said.get(arguments)
        if said_to_it is None and arguments == "action":  # of several at once, since computer use is out of preview
            said_to_it = said.get("actions")
        return [{"type": "tool_call", "id": id_, "name": named, "arguments": arguments_of(said_to_it)}]

    return read


def _answered(said: Fields) -> list[Json]:
    id_ = text_in(said.get("call_id")) or text_in(said.get("id"))
    return [{"type": "tool_call_response", "id": id_, "response": response_of(said.get("output"))}]


# --- tools that the server runs -------------------------------------------------------------------------------


def _served(name: str, *answers: str) -> Callable[[Fields], list[Json]]:
    """Return a reader of items that are a server tool's call, and its answer in the fields ``answers`` if it is there.

    Example::

        _served("web_search")({"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "x"}})
        # [{"type": "server_tool_call", "id": "ws_1", "name": "web_search",
        #   "server_tool_call": {"type": "web_search", "action": {...}}}]
    """
    told = frozenset({"type", "id", "name", *answers})

    def read(said: Fields) -> list[Json]:
        id_ = text_in(said.get("id"))
        call = {**_unless_done(rest_of(said, told)), "type": name}
        if "arguments" in call:
            call["arguments"] = arguments_of(said["arguments"])
        named = text_in(said.get("name")) or name
        parts: list[Json] = [{"type": "server_tool_call", "id": id_, "name": named, "server_tool_call": call}]
        answer = {each: _answer_of(said[each]) for each in answers if said.get(each) is not None}
        if answer:
            parts.append(_response(id_, name, answer))
        return parts

    return read


def _answer_of(answer: Any) -> Any:
    """Return what a server's tool answered; of images in it where they lie, or their size."""
    if not isinstance(answer, (list, tuple)):
        return plain(answer)
    return [media_in(fields_in(each)) or plain(each) for each in answer]


def _response(id_: str | None, name: str, answer: Json) -> Json:
    return {"type": "server_tool_call_response", "id": id_, "server_tool_call_response": {**answer, "type": name}}


def _unless_done(call: Json) -> Json:
    """Return a call without its status, unless it is another than the usual one."""
    if call.get("status") == "completed":
        del call["status"]
    return call


def _image_made(said: Fields) -> list[Json]:
    """Return the parts for an image that the server made; of the image itself its type and size."""
    data = text_in(said.get("result"))
    call, *_ = _served("image_generation", "result", "error")(said)
    parts = [call]
    if data:
        kind = text_in(said.get("output_format")) or "png"
        mime_type = "image/svg+xml" if kind == "svg" else f"image/{kind}"
        image = {"type": "blob", "modality": "image", "mime_type": mime_type, "size": decoded_size(data)}
        parts.append(_response(call["id"], "image_generation", {"result": image}))
    elif said.get("error") is not None:
        parts.append(_response(call["id"], "image_generation", {"error": plain(said["error"])}))
    return parts


def _tools_sought(said: Fields) -> list[Json]:
    if said.get("execution") == "client":
        return _called("tool_search", "arguments")(said)
    return _served("tool_search")(said)


def _tools_found(said: Fields) -> list[Json]:
    if said.get("execution") == "client":
        id_ = text_in(said.get("call_id"))
        return [{"type": "tool_call_response", "id": id_, "response": plain(said.get("tools"))}]
    return _ended("tool_search", "tools")(said)


def _ended(name: str, answer: str) -> Callable[[Fields], list[Json]]:
    """Return a reader of items that are the answer of a server's tool, apart from its call."""

    def read(said: Fields) -> list[Json]:
        id_ = text_in(said.get("call_id")) or text_in(said.get("id"))
        return [_response(id_, name, {answer: plain(said.get(answer))})]

    return read


# --- what is no tool's ----------------------------------------------------------------------------------------


def _reasoned(said: Fields) -> list[Json]:
    """Return the parts for reasoning: one for each text, in full where it is there, else of the summary."""
    texts = [*texts_of(items_of(said.get("content")))] or [*texts_of(items_of(said.get("summary")))]
    part = reasoning_part({"encrypted_content": said.get("encrypted_content"), "text": texts[0] if texts else ""})
    return [part, *({"type": "reasoning", "content": text} for text in texts[1:])]


def _compacted(said: Fields) -> list[Json]:
    part: Json = {"type": "compaction", "id": text_in(said.get("id"))}
    for name in ("content", "summary"):
        if text := text_in(said.get(name)):
            part["content"] = text
    if encrypted := text_in(said.get("encrypted_content")):
        part["encrypted_size"] = decoded_size(encrypted)
    return [part]


READERS: Final[dict[str, Callable[[Fields], list[Json]]]] = {
    "function_call": _called(None, "arguments"),
    "custom_tool_call": _called(None, "input"),
    "computer_call": _called("computer", "action"),
    "local_shell_call": _called("local_shell", "action"),
    "shell_call": _called("shell", "action"),
    "apply_patch_call": _called("apply_patch", "operation"),
    "function_call_output": _answered,
    "custom_tool_call_output": _answered,
    "computer_call_output": _answered,
    "local_shell_call_output": _answered,
    "shell_call_output": _answered,
    "apply_patch_call_output": _answered,
    "web_search_call": _served("web_search"),
    "file_search_call": _served("file_search", "results"),
    "code_interpreter_call": _served("code_interpreter", "outputs"),
    "mcp_call": _served("mcp", "output", "error"),
    "image_generation_call": _image_made,
    "program": _served("program"),
    "program_output": _ended("program", "result"),
    "tool_search_call": _tools_sought,
    "tool_search_output": _tools_found,
    "reasoning": _reasoned,
    "compaction": _compacted,
    "compaction_summary": _compacted,
}
"""How an item of a kind becomes parts; items of other kinds are ``generic``."""
