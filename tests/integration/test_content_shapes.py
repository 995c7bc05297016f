"""What is recorded is in the conventions' form, and the same in whichever way the client hands a reply out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from content_kit import INPUT, INSTRUCTIONS, OUTPUT, TOOLS, recorded
from conventions_kit import assert_input, assert_instructions, assert_output, assert_tools
from odd_kit import EVENTS, JSON, chat, completed, response, sse

from otel_llm_sessions.demo.provider.events import events

pytestmark = pytest.mark.usefixtures("nothing_reported")

FUNCTION = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}
IMAGE = {"type": "blob", "modality": "image", "mime_type": "image/png", "size": 3}
PIXELS = "data:image/png;base64,YWJj"

ASKED = {
    "chat": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "Add."}, {"type": "image_url", "image_url": {"url": PIXELS}}]},
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
    },
    "responses": {
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": [
            {"type": "input_text", "text": "Add."}, {"type": "input_image", "image_url": PIXELS, "detail": "auto"}]}],
        "tools": [{"type": "function", "strict": None, **FUNCTION}],
    },
}  # fmt: skip

USER = {"role": "user", "parts": [{"type": "text", "content": "Add."}, IMAGE]}
SYSTEM = {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]}
REPLIED = [
    {"role": "assistant", "finish_reason": "tool_call", "parts": [
        {"type": "reasoning", "content": "Hm."},
        {"type": "text", "content": "I add them."},
        {"type": "tool_call", "id": "call_1", "name": "add", "arguments": {"a": [1, 2]}},
    ]}
]  # fmt: skip

CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": [1, 2]}'}}
ITEMS = [
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
    {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
        {"type": "output_text", "text": "I add them.", "annotations": []}]},
    {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "add", "arguments": '{"a": [1, 2]}',
     "status": "completed"},
]  # fmt: skip
DELTAS: list[dict[str, Any]] = [
    {"role": "assistant", "content": "", "reasoning_content": "H"},
    {"reasoning_content": "m."},
    {"content": "I add"},
    {"content": " them."},
    {"tool_calls": [{"index": 0, **CALL, "function": {"name": "add", "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": '}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": "[1, 2]}"}}]},
    {},
]


def answer(api: str, stream: bool) -> bytes:
    if api == "responses":
        whole = response(output=ITEMS)
        made = events({**whole, "background": False})[:-1] if stream else []
        return sse(*made, completed(output=ITEMS)) if stream else json.dumps(whole).encode()
    message = {"role": "assistant", "content": "I add them.", "reasoning_content": "Hm.", "tool_calls": [CALL]}
    if not stream:
        return json.dumps(chat(choices=[{"index": 0, "finish_reason": "tool_calls", "message": message}])).encode()
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    reasons = [None] * (len(DELTAS) - 1) + ["tool_calls"]
    choices = ({"index": 0, "delta": said, "finish_reason": end} for said, end in zip(DELTAS, reasons, strict=True))
    return sse(*({**head, "choices": [choice]} for choice in choices), b"[DONE]")


def assert_recorded(api: str, attributes: Any) -> None:
    said = {name: json.loads(attributes[name]) for name in (INPUT, OUTPUT, INSTRUCTIONS, TOOLS) if name in attributes}
    assert_input(said[INPUT])
    assert_output(said[OUTPUT])
    assert_instructions(said.get(INSTRUCTIONS, []))
    assert_tools(said[TOOLS])
    assert said == {
        INPUT: [SYSTEM, USER] if api == "chat" else [USER],
        OUTPUT: REPLIED,
        TOOLS: [{"type": "function", **FUNCTION}],
        **({} if api == "chat" else {INSTRUCTIONS: SYSTEM["parts"]}),
    }


@pytest.mark.parametrize("how", ["parsed", "raw", "bytes", "streaming"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_what_is_recorded_is_the_same_in_every_way(monkeypatch, wire, api, kind, stream, how):
    wire.answer(answer(api, stream), EVENTS if stream else JSON)
    with recorded(monkeypatch) as told:
        wire.call(api, how, stream, kind, **ASKED[api])
        (span,) = told.calls
    assert_recorded(api, span.attributes)


@pytest.mark.parametrize("how", ["parse", "stream"])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_the_clients_helpers_are_no_other_way(monkeypatch, wire, api, how):
    wire.answer(answer(api, how == "stream"), EVENTS if how == "stream" else JSON)
    resource = wire.client.chat.completions if api == "chat" else wire.client.responses
    with recorded(monkeypatch) as told:
        if how == "parse":
            resource.parse(model="m", **_strict(ASKED[api]))
        else:
            with resource.stream(model="m", **_strict(ASKED[api])) as stream:
                assert list(stream)
        (span,) = told.calls
    tools = json.loads(span.attributes[TOOLS])
    assert tools[0].pop("strict") is True
    assert_recorded(api, {**span.attributes, TOOLS: json.dumps(tools)})


def _strict(asked: dict[str, Any]) -> dict[str, Any]:
    """Return arguments whose tool is strict, as the helpers ask for."""
    (tool,) = asked["tools"]
    if "function" in tool:
        return {**asked, "tools": [{**tool, "function": {**FUNCTION, "strict": True}}]}
    return {**asked, "tools": [{**tool, "strict": True}]}
