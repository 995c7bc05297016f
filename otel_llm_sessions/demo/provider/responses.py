"""Response objects of the Responses API, as they are when the model has finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_llm_sessions.demo.provider.call import Call
from otel_llm_sessions.demo.provider.charges import with_cost
from otel_llm_sessions.demo.provider.errors import ApiError
from otel_llm_sessions.demo.provider.reply import Json
from otel_llm_sessions.demo.provider.text import entries, last_user_text, tokens
from otel_llm_sessions.demo.provider.tools import ToolCall, wanted_calls

# Parameters that a response repeats, and what it says when the request leaves them out.
ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
EXCLUSIVE = ("conversation", "previous_response_id")
COMPACTION = "compaction"
FAILURE = {"code": "server_error", "message": "The model failed to generate a response."}
CUT = {"reason": "max_output_tokens"}


def check(body: Json) -> None:
    """Raise ApiError for parameters that do not go together."""
    if body.get("background") and body.get("store") is False:
        raise ApiError(400, "Background responses have to be stored.", param="background", code="invalid_value")
    if all(body.get(name) for name in EXCLUSIVE):
        message = "Mutually exclusive parameters: " + " and ".join(f"'{name}'" for name in EXCLUSIVE)
        raise ApiError(400, message, param=EXCLUSIVE[1], code="mutually_exclusive_parameters")


def response(call: Call, context: int, conversation: str | None) -> Json:
    """The finished `response` that answers the call; `context` counts the tokens of earlier turns."""
    status = call.manner.status
    output = [] if status == "failed" else [*compacted(call, context), *output_items(call, status)]
    made: Json = {
        "id": call.ids.response(),
        "object": "response",
        "created_at": call.now,
        "status": status,
        "background": bool(call.body.get("background")),
        "error": FAILURE if status == "failed" else None,
        "incomplete_details": CUT if status == "incomplete" else None,
        "model": call.model,
        "output": output,
        "service_tier": "default",
        "usage": usage(call, output, context) if call.manner.counts and status != "failed" else None,
    }
    made |= {key: default if call.body.get(key) is None else call.body[key] for key, default in ECHOED.items()}
    return made if conversation is None else {**made, "conversation": {"id": conversation}}


def output_items(call: Call, status: str) -> list[Json]:
    """What the model gives out: a message, or the functions to call."""
    given = call.body.get("input")
    text = last_user_text(given)
    called = wanted_calls(call.body, given, text)
    if called:
        return [function_call(call, wanted, status) for wanted in called]
    settings = call.body.get("text")
    form = settings.get("format") if isinstance(settings, Mapping) else None
    said = call.said(given, text, form)
    return [message(call, said[: len(said) // 2] if status == "incomplete" else said, status)]


def compacted(call: Call, context: int) -> list[Json]:
    """The item that takes the place of what was said before, where the request has a long context compacted."""
    total = context + tokens(call.body.get("input"))
    rules = [rule for rule in entries(call.body.get("context_management")) if rule.get("type") == COMPACTION]
    limits = [rule.get("compact_threshold") for rule in rules]
    return [compaction_item(call)] if any(isinstance(limit, int) and total >= limit for limit in limits) else []


def compaction_item(call: Call) -> Json:
    """An opaque item that stands for what was said before."""
    return {"id": call.ids.item("cmp"), "type": COMPACTION, "encrypted_content": "gAAAAAB" + call.ids.call()}


def message(call: Call, text: str, status: str) -> Json:
    """An assistant's message."""
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    identifier = call.ids.item("msg")
    return {"id": identifier, "type": "message", "status": status, "content": [part], "role": "assistant"}


def function_call(call: Call, wanted: ToolCall, status: str) -> Json:
    """A function to call."""
    return {
        "id": call.ids.item("fc"),
        "type": "function_call",
        "status": status,
        "arguments": wanted.arguments,
        "call_id": call.ids.call(),
        "name": wanted.name,
    }


def usage(call: Call, output: list[Json], context: int) -> Json:
    """Token counts by the length of the texts; all of the earlier turns counts as cached."""
    asked = sum(tokens(call.body.get(key)) for key in ("input", "instructions", "tools")) + context
    said = sum(tokens(text_of(item)) for item in output)
    thought = said if call.reasons else 0
    counts: Json = {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": context},
        "output_tokens": said + thought,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": asked + said + thought,
    }
    return with_cost(call, counts, asked, context, said + thought)


def text_of(item: Json) -> str:
    """What the model wrote to make an output item."""
    return str(item.get("arguments") or item.get("encrypted_content") or item["content"][0]["text"])


def unfinished(made: Json, status: str) -> Json:
    """The response as it was before the model had finished."""
    empty: Json = {"status": status, "output": [], "usage": None, "error": None, "incomplete_details": None}
    return {**made, **empty}


def compaction(call: Call, kept: list[Json], context: int) -> Json:
    """The `response.compaction` of a long input: the user's messages and one opaque item for the rest."""
    item = compaction_item(call)
    return {
        "id": call.ids.response(),
        "object": "response.compaction",
        "created_at": call.now,
        "output": [*kept, item],
        "usage": usage(call, [item], context),
    }
