"""How roots are named: the setting ``ROOT_NAME``."""

from __future__ import annotations

import logging

import pytest

from otel_llm_sessions.sessions.root_names import RootNames
from otel_llm_sessions.settings import settings_from

NAMES = {
    ("session {name}", "", 1): "session",
    ("session {name}", "refund", 1): "session refund",
    ("session {name}", "refund", 2): "session refund continued",
    ("session {name}", "", 3): "session continued",
    ("{name}", "refund", 1): "refund",
    ("{name}", "", 1): "session",
    ("{name}", "", 2): "session continued",
    ("", "refund", 1): "session",
    ("   ", "refund", 1): "session",
    ("{id}", "", 1): "chat-42",
    ("{id} {name}", "", 1): "chat-42",
    ("{id}   {name}", "", 2): "chat-42 continued",
    ("{name} {id}", "", 1): "chat-42",
    ("talk {name} {id}", "", 1): "talk chat-42",
    ("talk {name} {id}", "refund", 1): "talk refund chat-42",
    ("{name}: {id}", "", 1): ": chat-42",
    ("{name}{id}", "a", 1): "achat-42",
    ("talk", "refund", 1): "talk",
    ("session {name}", "{id} {name}", 1): "session {id} {name}",
}


@pytest.mark.parametrize(("case", "name"), NAMES.items(), ids=str)
def test_a_root_is_named_by_the_template(case, name):
    template, given, part = case
    settings = settings_from({"root_name": template})
    assert RootNames(settings.root_name).name_of("chat-42", given, part) == name


WRONG = ["{user}", "{", "}", "{}", "{name", "name}", "{{name}}", "{id!r}", "{name:>9}", "a\nb", "x" * 257, "\ud800"]


@pytest.mark.parametrize("value", WRONG, ids=ascii)
def test_a_template_with_another_placeholder_is_refused_with_what_is_allowed(value):
    with pytest.raises(ValueError, match=r"root_name=.* is not valid: expected .*\{name\} and \{id\}"):
        settings_from({"root_name": value})


@pytest.mark.parametrize("value", [7, b"session", ["session"]])
def test_a_template_that_is_no_text_is_refused(value):
    with pytest.raises(ValueError, match="root_name"):
        settings_from({"root_name": value})


def test_a_wrong_value_in_the_environment_is_logged_once_and_the_default_is_used(caplog):
    settings = settings_from({}, {"OTEL_LLM_SESSIONS_ROOT_NAME": "session {user}"})
    assert settings.root_name == "session {name}"
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "OTEL_LLM_SESSIONS_ROOT_NAME='session {user}' is not valid" in record.getMessage()


def test_the_environment_names_roots():
    settings = settings_from({}, {"OTEL_LLM_SESSIONS_ROOT_NAME": "talk {name}"})
    assert RootNames(settings.root_name).name_of("x", "refund", 1) == "talk refund"
