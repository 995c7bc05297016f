"""``otel-llm-sessions trace-id``."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from programs import run_code

from otel_llm_sessions import session_trace_id
from otel_llm_sessions.cli import main
from otel_llm_sessions.settings import settings_from
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.traces.roots import Roots


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["chat-42"], session_trace_id("chat-42")),
        (["chat-42", "--part", "2"], session_trace_id("chat-42", part=2)),
        (["--namespace", "shop", "chat-42"], session_trace_id("chat-42", namespace="shop")),
        (["--namespace=shop", "--part=3", "--", "-x"], session_trace_id("-x", namespace="shop", part=3)),
    ],
)
def test_it_prints_the_derived_trace_id(capsys, arguments, expected):
    assert main(["trace-id", *arguments]) == 0
    assert capsys.readouterr().out == expected + "\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trace-id"], "ID"),
        (["trace-id", "x", "--part", "0"], "greater than 0"),
        (["trace-id", "x", "--part", "two"], "'two' is not valid"),
        (["trace-id", "x", "--part", "²"], "'²' is not valid"),
        (["trace-id", "x", "--part", "1" * 5000], "greater than 0"),
        (["trace-id", ""], "'' is not valid: expected a printable string"),
        (["trace-id", "a\nb"], "expected a printable string"),
        (["trace-id", "x", "--parts", "2", "y"], "unrecognized arguments: "),
        (["no-such-command"], "invalid choice"),
        ([], "required"),
    ],
)
def test_wrong_arguments_are_refused_with_a_reason(capsys, arguments, said):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert said in capsys.readouterr().err


def test_it_runs_as_a_module_without_importing_the_client():
    program = "import sys; from otel_llm_sessions.cli import main; main(); assert 'openai' not in sys.modules"
    done = run_code(program, "trace-id", "X")
    assert (done.returncode, done.stdout.strip()) == (0, session_trace_id("X"))


OTHER_SETTINGS = (
    "OTEL_LLM_SESSIONS_NAMESPACE",
    "OTEL_LLM_SESSIONS_KEY",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SERVICE_NAME",
)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in OTHER_SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "namespace"),
    [
        ({"OTEL_LLM_SESSIONS_NAMESPACE": "shop"}, "shop"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.namespace=my%20shop,service.name=x"}, "my shop"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b, service.namespace = shop "}, "shop"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.namespace=other", "OTEL_LLM_SESSIONS_NAMESPACE": "shop"}, "shop"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=x", "OTEL_SERVICE_NAME": "shop/cart"}, ""),
        ({"OTEL_RESOURCE_ATTRIBUTES": "nonsense"}, ""),
    ],
    ids=str,
)
def test_the_namespace_is_the_one_that_the_application_has(capsys, monkeypatch, environment, namespace):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings, provider = settings_from(), TracerProvider(shutdown_on_exit=False)
    assert Roots(provider, MemoryStore(), settings.namespace).namespace == namespace
    assert main(["trace-id", "chat-42"]) == 0
    assert capsys.readouterr().out.strip() == session_trace_id("chat-42", namespace=namespace)
    assert main(["trace-id", "chat-42", "--namespace", "mine"]) == 0
    assert capsys.readouterr().out.strip() == session_trace_id("chat-42", namespace="mine")


def test_the_key_is_taken_from_the_environment_and_never_shown(capsys, monkeypatch):
    monkeypatch.setenv("OTEL_LLM_SESSIONS_KEY", "s3cret-of-ours")
    assert main(["trace-id", "chat-42"]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == session_trace_id("chat-42", key="s3cret-of-ours") != session_trace_id("chat-42")
    assert "s3cret" not in said.out + said.err


@pytest.mark.parametrize(
    "id_",
    [
        "resp_68a0c5f1e2d3c4b5a69788796a5b4c3d2e1f0",
        "resp_1@a.test:8080~0a1b2c3d",
        "resp_bGl0ZWxsbTpjdXN0b2~" + "0f" * 16,
    ],
)
def test_of_a_responses_id_it_says_that_the_trace_may_be_another_and_how_to_find_it(capsys, id_):
    assert main(["trace-id", id_]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == session_trace_id(id_)
    assert "session.id" in said.err
    assert said.err.count("\n") == 1


def test_of_another_id_it_says_nothing_more(capsys):
    assert main(["trace-id", "chat-42~7"]) == 0
    assert capsys.readouterr().err == ""
