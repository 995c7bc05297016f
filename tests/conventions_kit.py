"""What the conventions say of contents, as assertions (``tests/data/conventions``)."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parent / "data" / "conventions"

KINDS = {
    "text": "TextPart", "tool_call": "ToolCallRequestPart", "tool_call_response": "ToolCallResponsePart",
    "server_tool_call": "ServerToolCallPart", "server_tool_call_response": "ServerToolCallResponsePart",
    "file": "FilePart", "uri": "UriPart", "reasoning": "ReasoningPart", "compaction": "CompactionPart",
}  # fmt: skip


def assert_input(messages: Any) -> None:
    assert_valid("input-messages", messages)
    for message in messages:
        assert_parts(message["parts"])


def assert_output(messages: Any) -> None:
    assert_valid("output-messages", messages)
    for message in messages:
        assert_parts(message["parts"])


def assert_instructions(parts: Any) -> None:
    assert_valid("system-instructions", parts)
    assert_parts(parts)


def assert_tools(tools: Any) -> None:
    assert_valid("tool-definitions", tools)


def assert_parts(parts: Any) -> None:
    """The schemas let pass whatever has a type; a part of a kind that they know must be what they say of that."""
    for part in parts:
        if part["type"] in KINDS:
            validator("input-messages", KINDS[part["type"]]).validate(part)
        elif part["type"] == "blob":
            assert "content" not in part
            assert type(part["size"]) is int and part["size"] >= 0 and type(part["modality"]) is str


def assert_valid(name: str, value: Any) -> None:
    validator(name).validate(value)
    json.dumps(value, allow_nan=False)


@functools.cache
def validator(name: str, part: str = "") -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"gen-ai-{name}.json").read_text(encoding="utf-8"))
    return Draft202012Validator({**schema["$defs"][part], "$defs": schema["$defs"]} if part else schema)
