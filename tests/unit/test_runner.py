"""What the demo sets up before it runs anything."""

import pytest

from otel_llm_sessions.demo import runner
from otel_llm_sessions.demo.expectations import EXAMPLES
from otel_llm_sessions.demo.runner import DemoError, Run, environment_of, examples_folder, outcomes_of

OUTER = {
    "PATH": "/bin",
    "NO_PROXY": "example.org",
    "OTEL_TRACES_SAMPLER": "always_off",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://elsewhere",
    "OTEL_LLM_SESSIONS_TRACES": "turn",
}


def test_examples_get_the_receiver_and_the_server_and_no_foreign_telemetry_settings():
    environment = environment_of(OUTER, "http://127.0.0.1:1", {"OPENAI_API_KEY": "k"})
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:1"
    assert environment["OTEL_EXPORTER_OTLP_PROTOCOL"] == "http/protobuf"
    assert environment["OPENAI_API_KEY"] == "k"
    assert environment["PATH"] == "/bin"
    assert environment["NO_PROXY"] == "example.org,127.0.0.1"
    assert environment["OTEL_LLM_SESSIONS_TRACES"] == "turn"
    assert "OTEL_TRACES_SAMPLER" not in environment


def test_no_instrumentation_but_ours_and_the_web_frameworks_runs(monkeypatch):
    class Point:
        def __init__(self, name):
            self.name = name

    names = ("openai", "openai_sessions", "fastapi", "httpx")
    monkeypatch.setattr(runner, "entry_points", lambda group: [Point(name) for name in names])
    environment = environment_of({}, "http://127.0.0.1:1", {})
    assert environment["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] == "httpx,openai"


def test_every_example_is_there():
    assert {example.file for example in EXAMPLES} <= {path.name for path in examples_folder().iterdir()}


def test_what_is_not_installed_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(runner, "NEEDED", ("openai", "surely_not.installed"))
    with pytest.raises(DemoError, match=r"surely_not.installed not installed; pip install '\.\[demo\]' in a checkout"):
        runner.instrument_command()


def test_a_failed_program_is_a_problem_even_when_all_sessions_are_there(monkeypatch):
    monkeypatch.setattr(runner, "problems", lambda example, sessions: [])
    fine, failed = Run(EXAMPLES[0], (), ""), Run(EXAMPLES[1], ("ended with exit code 3",), "")
    assert [outcome.problems for outcome in outcomes_of([fine, failed], [])] == [[], ["ended with exit code 3"]]
