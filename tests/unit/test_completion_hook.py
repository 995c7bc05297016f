"""The completion hook of opentelemetry-util-genai: it gets whole contents, as that package's own values."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict

import pytest
from content_kit import install_completion_hook
from opentelemetry.util.genai import types

from otel_llm_sessions.telemetry.content import completion
from otel_llm_sessions.telemetry.content.completion import VARIABLE, completion_hook
from otel_llm_sessions.telemetry.content.values import Content

pytestmark = pytest.mark.usefixtures("nothing_reported")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A hook that is installed and named; the calls that it gets."""
    return install_completion_hook(tmp_path, monkeypatch)


PARTS = [
    ({"type": "text", "content": "Hi"}, types.TextPart("Hi")),
    ({"type": "reasoning", "content": "Hm"}, types.ReasoningPart("Hm")),
    ({"type": "tool_call", "name": "f", "arguments": {"x": 1}}, types.ToolCallRequestPart({"x": 1}, "f", None)),
    ({"type": "tool_call_response", "id": "c", "response": "r"}, types.ToolCallResponsePart("r", "c")),
    ({"type": "uri", "modality": "image", "mime_type": None, "uri": "u"}, types.UriPart(None, "image", "u")),
]


def test_messages_parts_and_tools_are_util_genais_own(installed):
    hook = completion_hook()
    assert hook is not None
    tool = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}
    asked = [{"role": "user", "parts": [part for part, _ in PARTS]}]
    answered = [{"role": "assistant", "parts": [{"type": "text", "content": "Ho"}], "finish_reason": "stop"}]
    hook(Content(asked, answered, [{"type": "text", "content": "Be brief"}], [tool]), None, None)
    (said,) = installed
    assert said["inputs"] == [types.InputMessage("user", [part for _, part in PARTS])]
    assert said["outputs"] == [types.OutputMessage("assistant", [types.TextPart("Ho")], "stop")]
    assert said["system_instruction"] == [types.TextPart("Be brief")]
    assert said["tool_definitions"] == [types.FunctionToolDefinition("f", "d", {"type": "object"})]
    assert (said["span"], said["log_record"]) == (None, None)


def test_what_util_genai_has_no_class_for_keeps_all_that_it_says(installed):
    blob = {"type": "blob", "modality": "image", "mime_type": "image/png", "size": 7}
    odd = {"type": "refusal", "content": "No", "class": "c", "not a name": 1}
    tool = {"type": "web_search", "name": "web_search", "depth": 3}
    hook = completion_hook()
    assert hook is not None
    hook(Content([{"role": "user", "parts": [blob, odd, "no part"]}], [], [], [tool]), None, None)
    (said,) = installed
    parts = said["inputs"][0].parts
    assert [asdict(part) for part in parts] == [blob, {"type": "refusal", "content": "No"}]
    assert all(isinstance(part, types.GenericPart) for part in parts)
    assert [asdict(each) for each in said["tool_definitions"]] == [tool]


@pytest.mark.parametrize("value", ["", " ", None])
def test_without_the_variable_nothing_is_looked_for(monkeypatch, value):
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    monkeypatch.setattr(completion.importlib, "import_module", None)
    assert completion_hook() is None


def test_a_hook_that_nobody_has_installed_is_none(monkeypatch):
    monkeypatch.setenv(VARIABLE, "nobodys")
    assert completion_hook() is None


def test_where_util_genai_is_not_installed_that_is_told(monkeypatch, caplog):
    monkeypatch.setenv(VARIABLE, "theirs")
    monkeypatch.setitem(sys.modules, "opentelemetry.util.genai.types", None)
    with caplog.at_level(logging.WARNING, logger="otel_llm_sessions"):
        assert completion_hook() is None
    assert "opentelemetry-util-genai is not installed" in caplog.text
