"""Settings: from keywords and environment variables, with the errors that they promise."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llm_sessions.settings import PREFIX, Settings, settings_from

GOOD: list[tuple[str, str, Any]] = [
    ("store", "sqlite:///tmp/x.db", "sqlite:///tmp/x.db"),
    ("store", "redis://:secret@host:1/0", "redis://:secret@host:1/0"),
    ("traces", "TURN", "turn"),
    ("spans", " annotate ", "annotate"),
    ("headers", "X-Mine, x-other,", ("x-mine", "x-other")),
    ("headers", "X-*-Session-Id", ("x-*-session-id",)),
    ("body_keys", "Chat,session", ("Chat", "session")),
    ("metadata_keys", "a b", ("a b",)),
    ("threads", " All", "all"),
    ("provider_lookup", "True", True),
    ("provider_lookup", " false ", False),
    ("propagate", "metadata, Headers", frozenset({"metadata", "headers"})),
    ("propagate", "litellm,", frozenset({"litellm"})),
    ("propagate", "none", frozenset()),
    ("namespace", "shop", "shop"),
    ("max_turns", "7", 7),
    ("max_age", "90s", 90.0),
    ("max_age", "1.5h", 5400.0),
    ("max_age", "30", 30.0),
    ("root_repeat", "1m", 60.0),
    ("root_repeat", " None ", None),
    ("conversation_id", "always", "always"),
    ("cost", "Prices", "prices"),
    ("cost", "none", "none"),
    ("ttl", "7d", 7 * 86400.0),
    ("max_keys", "10", 10),
    ("content", "Full", "full"),
    ("content_limit", "100", 100),
    ("content_hook", " app.redaction:Hooks.redact", "app.redaction:Hooks.redact"),
]

BAD: list[tuple[str, str, str]] = [
    ("store", "mysql://x", "redis://"),
    ("store", "/var/lib/sessions.db", "sqlite:///file"),
    ("traces", "both", "session, turn"),
    ("spans", "never", "auto, always, annotate"),
    ("headers", "a\tb\x00", "comma-separated"),
    ("headers", "x-a, *", "at most one *"),
    ("headers", "x-*-session-*", "at most one *"),
    ("threads", "true", "one of jobs, all, none"),
    ("provider_lookup", "yes", "true or false"),
    ("propagate", "metadata,cookies", "metadata, headers, litellm"),
    ("namespace", "a\nb", "printable"),
    ("max_turns", "0", "greater than 0"),
    ("max_turns", "1.5", "greater than 0"),
    ("max_age", "soon", "24h"),
    ("max_age", "0", "greater than 0"),
    ("root_repeat", "true", "such as 90s, 30m, 24h or 7d, or none"),
    ("root_repeat", "0", "greater than 0"),
    ("max_age", "-1h", "greater than 0"),
    ("conversation_id", "never", "given, always"),
    ("cost", "true", "provider, prices, none"),
    ("ttl", "1y", "7d"),
    ("max_keys", "many", "greater than 0"),
    ("content", "new", "one of delta, full"),
    ("content_limit", "0", "greater than 0"),
]


def test_the_defaults_are_those_of_the_documentation():
    settings = settings_from(environ={})
    assert settings == Settings()
    assert (settings.store, settings.traces, settings.spans) == ("memory://", "session", "auto")
    assert (settings.max_turns, settings.max_age, settings.conversation_id) == (500, 86400.0, "given")
    assert settings.namespace is None
    assert (settings.provider_lookup, settings.propagate) == (False, frozenset())
    assert settings.cost == "provider"
    assert (settings.ttl, settings.max_keys) == (30 * 86400.0, 50_000)


@pytest.mark.parametrize(("name", "value", "expected"), GOOD)
def test_a_value_may_come_from_the_environment_or_a_keyword(name, value, expected):
    assert getattr(settings_from(environ={PREFIX + name.upper(): value}), name) == expected
    assert getattr(settings_from({name: value}, {}), name) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_turns", 7), ("max_age", 2.5), ("headers", ["x-a"]), ("provider_lookup", True)],
)
def test_a_keyword_may_be_of_its_own_type(name, value):
    assert getattr(settings_from({name: value}, {}), name) == (tuple(value) if name == "headers" else value)


@pytest.mark.parametrize(("name", "value", "allowed"), BAD)
def test_a_wrong_value_in_the_environment_is_reported_once_and_the_default_is_used(caplog, name, value, allowed):
    variable = PREFIX + name.upper()
    settings = settings_from(environ={variable: value})
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert variable in record.getMessage()
    assert allowed in record.getMessage()
    assert settings == Settings()


@pytest.mark.parametrize(("name", "value", "allowed"), BAD)
def test_a_wrong_keyword_is_refused_with_what_is_allowed(name, value, allowed):
    with pytest.raises(ValueError, match=f"^{name}=") as error:
        settings_from({name: value}, {})
    assert allowed in str(error.value)


class Unreadable:
    """What can be neither read nor shown."""

    def __str__(self) -> str:
        raise RuntimeError("not to be read")

    __repr__ = __str__


@pytest.mark.parametrize("name", sorted({field.name for field in fields(Settings)} - {"store"}))
def test_a_value_whose_own_methods_raise_is_refused_as_any_other(name):
    with pytest.raises(ValueError, match=r"^\w+=(Unreadable|\*\*\*) is not valid: expected "):
        settings_from({name: Unreadable()}, {})


def test_a_long_value_is_shown_in_short():
    with pytest.raises(ValueError, match=f"^traces='{'x' * 99}… is not valid: expected one of session, turn$"):
        settings_from({"traces": "x" * 10_000}, {})


def test_a_wrong_content_hook_keeps_contents_back(caplog):
    """The default would record what the hook is there to keep back."""
    settings = settings_from(environ={PREFIX + "CONTENT_HOOK": "app.redact"})
    assert settings.content_hook == "app.redact"
    (record,) = caplog.records
    assert "expected MODULE:FUNCTION" in record.getMessage()
    assert "no content is recorded" in record.getMessage()
    with pytest.raises(ValueError, match="^content_hook='app.redact'"):
        settings_from({"content_hook": "app.redact"}, {})


def test_a_content_hook_may_be_a_function():
    assert settings_from({"content_hook": len}, {}).content_hook is len


def test_a_keyword_wins_over_the_environment_which_wins_over_the_default():
    environ = {PREFIX + "TRACES": "turn", PREFIX + "MAX_TURNS": "9", PREFIX + "SPANS": "  "}
    settings = settings_from({"traces": "session", "max_turns": None}, environ)
    assert (settings.traces, settings.max_turns, settings.spans) == ("session", 9, "auto")


@pytest.mark.parametrize("name", ["headers", "body_keys", "metadata_keys"])
@pytest.mark.parametrize("value", ["", "  ", ","])
def test_an_empty_variable_switches_a_source_off(name, value):
    assert getattr(settings_from(environ={PREFIX + name.upper(): value}), name) == ()


def test_an_empty_variable_of_another_setting_is_not_set():
    others = {field.name for field in fields(Settings)} - {"headers", "body_keys", "metadata_keys"}
    assert settings_from(environ={PREFIX + name.upper(): "" for name in others}) == Settings()


def test_an_empty_keyword_switches_a_source_off():
    assert settings_from({"headers": ""}, {PREFIX + "HEADERS": "x-a"}).headers == ()


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h", "mysql://u:a/hunter2@h", "h?password=hunter2", "r:/:hunter2@h"])
def test_the_password_of_a_store_is_not_shown(url):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        settings_from({"store": url}, {})
    assert "hunter2" not in str(error.value)


NAMES = st.sampled_from([field.name for field in fields(Settings)])


@given(NAMES, st.text(max_size=20))
def test_whatever_the_environment_says_there_are_settings_of_the_right_types(name, value):
    settings = settings_from(environ={PREFIX + name.upper(): value})
    for field in fields(Settings):
        got, default = getattr(settings, field.name), getattr(Settings(), field.name)
        may_be = float if field.name == "root_repeat" else str
        assert isinstance(got, (may_be, type(None)) if default is None else type(default))


@given(NAMES, st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.none()))
def test_whatever_a_keyword_is_it_is_taken_or_refused_with_a_value_error(name, value):
    try:
        settings_from({name: value}, {})
    except ValueError as error:
        assert "expected" in str(error)


@given(st.lists(st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,10}", fullmatch=True), min_size=1, max_size=5))
def test_names_keep_their_order(names):
    assert settings_from({"metadata_keys": " , ".join(names)}, {}).metadata_keys == tuple(names)
    assert settings_from({"headers": names}, {}).headers == tuple(name.lower() for name in names)


@given(st.integers(1, 10**6), st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400), ("", 1)]))
def test_a_time_is_read_with_its_unit(number, unit):
    expected = min(number * unit[1], 36_500 * 86_400)
    assert settings_from({"max_age": f"{number}{unit[0]}"}, {}).max_age == pytest.approx(expected)


@pytest.mark.parametrize(
    "url", ["redis://user:hunter2@host/0", "redis://host/0?password=hunter2", "rediss://host/0?passwd=hunter2&x=1"]
)
def test_settings_are_shown_without_the_password_of_a_store(url):
    shown = repr(settings_from({"store": url, "key": "hunter2"}))
    assert "hunter2" not in shown
    assert "host" in shown
    assert "max_turns=500" in shown
