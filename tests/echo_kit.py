"""Replies that leave ids, and what agents send back of them."""

from __future__ import annotations

import random
import string
from collections.abc import Iterable, Iterator
from typing import Any

from session_kit import calls, linked_to

from otel_llm_sessions.demo.provider.reply import DONE, chat_event, typed_event

Json = dict[str, Any]

_random = random.Random(7)


def hexadecimal(prefix: str) -> str:
    """An id as OpenAI makes them."""
    return f"{prefix}_{_random.getrandbits(192):048x}"


def call_id(prefix: str = "call_", length: int = 24) -> str:
    """A tool call's id of so many letters and digits, a third of them digits: none looks made of words."""
    digits = _random.choices(string.digits, k=length // 3)
    drawn = digits + _random.choices(string.ascii_letters + string.digits, k=length - length // 3)
    return prefix + "".join(_random.sample(drawn, length))


def user(text: str = "Hello") -> Json:
    return {"role": "user", "content": text}


# --- responses --------------------------------------------------------------------------------------------------


def message(text: str = "Hi") -> Json:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": hexadecimal("msg"), "role": "assistant", "status": "completed", "content": content}


def function_call(arguments: str = '{"a": 1}', **fields: Any) -> Json:
    made = {
        "type": "function_call",
        "id": hexadecimal("fc"),
        "call_id": call_id(),
        "name": "add",
        "status": "completed",
    }
    return {**made, "arguments": arguments, **fields}


def reasoning() -> Json:
    return {"type": "reasoning", "id": hexadecimal("rs"), "summary": [], "encrypted_content": "gAAA"}


def output_of(called: Json, output: str = "3") -> Json:
    return {"type": "function_call_output", "call_id": called["call_id"], "output": output}


def without_ids(*items: Json) -> list[Json]:
    """The items as frameworks send them that drop what is optional."""
    return [{name: value for name, value in item.items() if name != "id"} for item in items]


def response(*items: Json, **fields: Any) -> Json:
    made = {"id": hexadecimal("resp"), "object": "response", "created_at": 1.0, "model": "m", "status": "completed"}
    return {**made, "background": False, "output": list(items), "tools": [], **fields}


def events(made: Json) -> list[bytes]:
    """The events of a stream that brings this response: its items as they begin and as they are done."""
    sent = [{"type": "response.created", "response": {**made, "status": "in_progress", "output": []}}]
    for place, item in enumerate(made["output"]):
        begun = {**item, "content": []} if item["type"] == "message" else {**item, "arguments": ""}
        sent.append({"type": "response.output_item.added", "output_index": place, "item": begun})
        sent.append({"type": "response.output_item.done", "output_index": place, "item": item})
    return [typed_event(event) for event in (*sent, {"type": "response.completed", "response": made})]


# --- chat -------------------------------------------------------------------------------------------------------


def tool_call(id_: str | None = None, name: str = "add", arguments: str = '{"a": 1}') -> Json:
    id_ = call_id() if id_ is None else id_
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def called(*tools: Json) -> Json:
    """An assistant's message that calls tools."""
    return {"role": "assistant", "content": None, "tool_calls": list(tools)}


def said(text: str = "Hi") -> Json:
    return {"role": "assistant", "content": text}


def gave_back(*tools: Json) -> list[Json]:
    """What the tools gave back."""
    return [{"role": "tool", "tool_call_id": tool["id"], "content": "3"} for tool in tools]


def completion(answer: Json, **fields: Any) -> Json:
    reason = "tool_calls" if answer.get("tool_calls") else "stop"
    choice = {"index": 0, "finish_reason": reason, "message": answer}
    made = {"id": "chatcmpl-" + call_id("", 29), "object": "chat.completion", "created": 1, "model": "m"}
    return {**made, "choices": [choice], **fields}


def chunks(made: Json, deltas: Iterable[Json], reason: str | None = "tool_calls") -> list[bytes]:
    """The chunks of a stream that brings these deltas."""
    made = {**made, "object": "chat.completion.chunk"}
    brought = [{"index": 0, "delta": delta, "finish_reason": None} for delta in ({"role": "assistant"}, *deltas)]
    last = [{"index": 0, "delta": {}, "finish_reason": reason}] if reason else []
    sent = [chat_event({**made, "choices": [choice]}) for choice in (*brought, *last)]
    return [*sent, DONE] if reason else sent


def in_pieces(tools: Iterable[Json], *, indexed: bool = True) -> list[Json]:
    """The deltas of tool calls: each its id and name, then its arguments in two pieces; whole where not indexed."""
    deltas: list[Json] = []
    for index, tool in enumerate(tools):
        if not indexed:
            deltas.append({"tool_calls": [tool]})
            continue
        name, arguments = tool["function"]["name"], tool["function"]["arguments"]
        deltas.append({"tool_calls": [{**tool, "index": index, "function": {"name": name, "arguments": ""}}]})
        for piece in (arguments[:3], arguments[3:]):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    return deltas


def iterated(api: Any, stream: Any) -> Iterator[Any]:
    """The pieces of a stream by either client, without an end of its own: it is as the client's iterator."""
    while True:
        yield api.finish(anext(stream)) if hasattr(stream, "__anext__") else next(stream)


# --- what is seen -----------------------------------------------------------------------------------------------


def places(spans: Any) -> list[tuple[Any, ...]]:
    """The session, source and turn of each call, in order; sessions by the order in which they come."""
    names: dict[Any, int] = {}
    found = []
    for span in calls(spans):
        session = span.attributes.get("session.id")
        number = None if session is None else names.setdefault(session, len(names) + 1)
        found.append((number, span.attributes.get("llm_session.source"), span.attributes.get("llm_session.turn")))
    return found


def previous_turns(spans: Any) -> list[int | None]:
    """Which call each call links to as the turn before, by their order; None for none."""
    made = calls(spans)
    ids = [span.get_span_context().span_id for span in made]
    before = [linked_to(span, "previous_turn") for span in made]
    return [ids.index(linked[0]) if linked else None for linked in before]
