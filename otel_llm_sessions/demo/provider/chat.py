"""Chat completions: the object, and the chunks of its stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from otel_llm_sessions.demo.provider.call import Call
from otel_llm_sessions.demo.provider.charges import with_cost
from otel_llm_sessions.demo.provider.reply import Json
from otel_llm_sessions.demo.provider.text import entries, last_user_text, pieces, tokens
from otel_llm_sessions.demo.provider.tools import ToolCall, wanted_calls

FINGERPRINT = "fp_loopback"
HEAD_KEYS = ("id", "created", "model", "service_tier", "system_fingerprint")


def completion(call: Call) -> Json:
    """The `chat.completion` that answers the call."""
    model = call.model
    choices = [choice(call, index) for index in range(number_of_choices(call))]
    made: Json = {
        "id": call.ids.completion(),
        "object": "chat.completion",
        "created": call.now,
        "model": model,
        "choices": choices,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    return {**made, "usage": usage(call, choices)} if call.manner.counts else made


def number_of_choices(call: Call) -> int:
    """How many choices are asked for."""
    wanted = call.body.get("n")
    return wanted if isinstance(wanted, int) and 0 < wanted <= 128 else 1


def choice(call: Call, index: int) -> Json:
    """One choice: text, or the tools to call."""
    messages = call.body.get("messages")
    text = last_user_text(messages)
    called = [tool_call(call, wanted) for wanted in wanted_calls(call.body, messages, text)]
    said = None if called else call.said(messages, text, call.body.get("response_format"), index)
    message: Json = {"role": "assistant", "content": said, "refusal": None, "annotations": []}
    if called:
        message["tool_calls"] = called
    reason = "length" if call.manner.status == "incomplete" else "tool_calls" if called else "stop"
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}


def tool_call(call: Call, wanted: ToolCall) -> Json:
    """A tool call as it stands in a message."""
    function = {"name": wanted.name, "arguments": wanted.arguments}
    return {"id": call.ids.call(), "type": "function", "function": function}


def usage(call: Call, choices: list[Json]) -> Json:
    """Token counts by the length of the texts; what was said up to the last answer counts as cached."""
    messages = entries(call.body.get("messages"))
    answered = [place for place, message in enumerate(messages, 1) if message.get("role") == "assistant"]
    cached = sum(map(message_tokens, messages[: max(answered, default=0)]))
    asked = sum(map(message_tokens, messages)) + tokens(call.body.get("tools"))
    said = sum(message_tokens(made["message"]) for made in choices)
    thought = said if call.reasons else 0
    counts: Json = {
        "prompt_tokens": asked,
        "completion_tokens": said + thought,
        "total_tokens": asked + said + thought,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": thought, "audio_tokens": 0},
    }
    return with_cost(call, counts, asked, cached, said + thought)


def message_tokens(message: Any) -> int:
    """The tokens of a message's content and tool calls."""
    return tokens(message.get("content")) + tokens(message.get("tool_calls"))


def chunks(made: Json, include_usage: bool) -> list[Json]:
    """The chunks that stream the completion; with `include_usage`, a last one without choices carries the usage."""
    head = {key: made[key] for key in HEAD_KEYS} | {"object": "chat.completion.chunk"}
    shown = include_usage and "usage" in made
    unset: Json = {"usage": None} if shown else {}
    streamed = [{**head, "choices": [delta], **unset} for choice in made["choices"] for delta in choice_deltas(choice)]
    return [*streamed, {**head, "choices": [], "usage": made["usage"]}] if shown else streamed


def choice_deltas(made: Json) -> Iterator[Json]:
    """A choice in the pieces a stream sends."""
    for delta in message_deltas(made["message"]):
        yield {"index": made["index"], "delta": delta, "logprobs": None, "finish_reason": None}
    yield {"index": made["index"], "delta": {}, "logprobs": None, "finish_reason": made["finish_reason"]}


def message_deltas(message: Json) -> Iterator[Json]:
    """A message in the pieces a stream sends: the role, then words or arguments."""
    called = message.get("tool_calls", ())
    yield {"role": "assistant", "content": None if called else "", "refusal": None}
    for word in pieces(message["content"] or ""):
        yield {"content": word}
    for index, entry in enumerate(called):
        name, arguments = entry["function"]["name"], entry["function"]["arguments"]
        yield {"tool_calls": [{**entry, "index": index, "function": {"name": name, "arguments": ""}}]}
        for piece in pieces(arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
