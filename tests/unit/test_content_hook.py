"""The application's hook: what it returns is recorded, and where it fails nothing is."""

from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import Any

import pytest

from otel_llm_sessions.telemetry.content.capture import MODES, NO_CONTENT, VARIABLE, capture_asked
from otel_llm_sessions.telemetry.content.hook import ContentHook
from otel_llm_sessions.telemetry.content.values import PARTS, Content

SECRET = "correct horse battery staple"

pytestmark = pytest.mark.usefixtures("nothing_reported")


def said() -> Content:
    return Content([{"role": "user", "parts": [{"type": "text", "content": SECRET}]}], [], [], [], SECRET)


def test_a_hook_gets_all_there_is_and_says_what_is_recorded():
    seen: list[dict[str, Any]] = []

    def hook(content: dict[str, Any]) -> dict[str, Any]:
        seen.append({**content})
        content["input"][0]["parts"][0]["content"] = "***"
        return {**content, "error": None}

    made = ContentHook(hook).applied(said())
    assert made is not None
    assert made.input == [{"role": "user", "parts": [{"type": "text", "content": "***"}]}]
    assert made.error is None
    assert tuple(seen[0]) == PARTS


def test_what_a_hook_leaves_out_is_not_recorded():
    assert ContentHook(lambda content: {"output": content["output"]}).applied(said()) == Content([], [], [], [], None)


def raises(content: dict[str, Any]) -> None:
    raise ValueError(f"cannot redact {content}")


async def coroutine(content: dict[str, Any]) -> dict[str, Any]:
    return content


def holds_itself(content: dict[str, Any]) -> dict[str, Any]:
    content["input"].append(content["input"])
    return content


WRONG = [
    raises,
    holds_itself,
    lambda content: "a text",
    lambda content: [],
    lambda content: {**content, "input": "a text"},
    lambda content: {**content, "input": ["a text"]},
    lambda content: {**content, "error": 5},
    lambda: None,
    "not a name",
    "no_such_module:hook",
    "os:no_such_function",
    "os:name",
    "os",
]


@pytest.mark.parametrize("hook", WRONG, ids=[str(number) for number, _ in enumerate(WRONG)])
def test_a_hook_that_fails_in_any_way_keeps_all_back_and_is_told_of_once(hook, caplog):
    made = ContentHook(hook)
    with caplog.at_level(logging.DEBUG, logger="otel_llm_sessions"):
        assert [made.applied(said()) for _ in range(3)] == [None] * 3
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert SECRET not in caplog.text


@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_coroutine_is_no_content():
    assert ContentHook(coroutine).applied(said()) is None


def test_none_keeps_a_call_back_without_a_word(caplog):
    with caplog.at_level(logging.DEBUG, logger="otel_llm_sessions"):
        assert ContentHook(lambda content: None).applied(said()) is None
    assert not caplog.records


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_application_goes_on_to_it(error):
    def hook(content: dict[str, Any]) -> None:
        raise error

    with pytest.raises(error):
        ContentHook(hook).applied(said())


def test_a_module_is_imported_when_its_hook_is_needed(monkeypatch):
    hook = ContentHook("applications_own:redact.everything")
    module: Any = ModuleType("applications_own")
    module.redact = type("Redact", (), {"everything": staticmethod(lambda content: {})})
    monkeypatch.setitem(sys.modules, "applications_own", module)
    assert hook.applied(said()) == Content([], [], [], [], None)


# --- where contents go --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "mode"), [*MODES.items(), ("", NO_CONTENT), (" Span_Only ", MODES["span_only"])])
def test_opentelemetrys_variable_says_where_contents_go(value, mode):
    assert capture_asked({VARIABLE: value}) == mode


def test_a_wrong_value_is_told_and_means_no_content(caplog):
    with caplog.at_level(logging.WARNING, logger="otel_llm_sessions"):
        assert capture_asked({VARIABLE: "everything"}) == NO_CONTENT
    (record,) = caplog.records
    assert "'everything' is not valid" in record.getMessage()
    assert "SPAN_AND_EVENT" in record.getMessage()
