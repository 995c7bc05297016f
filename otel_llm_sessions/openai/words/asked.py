"""What a request says: its messages, its instructions, its tools."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from otel_llm_sessions.openai.fields import items_of
from otel_llm_sessions.openai.words.items import item_of
from otel_llm_sessions.openai.words.messages import message_of, odd_message
from otel_llm_sessions.openai.words.plain import Json, safely
from otel_llm_sessions.openai.words.tools import function_of, tool_of

_LISTS: Final = ("messages", "input", "tools", "functions", "instructions")


def held(body: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what a request is about to send, as the client merges it, with lists of its own.

    To be called before the request goes out where contents are recorded: it costs a copy of the lists, of pointers.

    Args:
        body: its ``json_data``.
        extra: its ``extra_json``.
    """
    sent = {**body, **extra} if extra else dict(body)
    for name in _LISTS:
        if type(items := sent.get(name)) is list:
            sent[name] = items.copy()
    return sent


def said_in(api: str, body: Mapping[str, Any], start: int = 0) -> list[Json]:
    """Return the input messages of a request, one for each of its messages or items, in order.

    When it is to be read: after the application has its answer's bytes. What ``create``, ``parse`` and ``stream`` send
    is the client's own: its ``maybe_transform`` (openai 1.66 to 3.57) makes new lists and dicts of what the application
    passed, down to the parts of contents, and reads generators into lists. ``extra_body``, and what ``client.post`` is
    given, are the application's own objects, to which it may add the reply while it reads a stream: ``held`` keeps the
    lists as they were sent.

    Args:
        api: the API that is called (``openai.api.type``).
        body: what is sent, with ``extra_body`` merged into it.
        start: how many messages or items are left out at the beginning; all others are where they were.
    """
    if api != "responses":
        return [safely(message_of, each, odd_message) for each in islice(items_of(body.get("messages")), start, None)]
    said = body.get("input")
    if said is None:
        return []
    items = said if isinstance(said, (list, tuple)) else (said,)
    return [safely(item_of, each, odd_message) for each in islice(items, start, None)]


def instructions_in(api: str, body: Mapping[str, Any]) -> list[Json]:
    """Return the parts of a request's system instructions: of ``instructions``, which Responses alone have.

    Args:
        api: the API that is called.
        body: what is sent.
    """
    said = body.get("instructions") if api == "responses" else None
    if said is None or said == "":
        return []
    items = said if isinstance(said, (list, tuple)) else (said,)
    return [part for each in items for part in safely(item_of, each, odd_message)["parts"]]


def tools_in(api: str, body: Mapping[str, Any]) -> list[Json]:
    """Return the definitions of the tools that a request brings, without credentials.

    Args:
        api: the API that is called.
        body: what is sent.
    """
    tools = [safely(tool_of, each, _odd_tool) for each in items_of(body.get("tools"))]
    if api != "responses":
        tools += [safely(function_of, each, _odd_tool) for each in items_of(body.get("functions"))]
    return tools


def _odd_tool(kind: str) -> Json:
    return {"type": "generic", "name": kind}
