"""Contents on their way out: events over OTLP, and the completion hook of opentelemetry-util-genai."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import openai
import pytest
from content_kit import CONTENT, EXTENT, INPUT, OUTPUT, install_completion_hook, recorded, texts
from exported import Exported
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.util.genai import types
from programs import run_to_its_end
from spans_kit import modes

from otel_llm_sessions.demo.runner import environment_of, instrument_command
from otel_llm_sessions.openai import content as content_module
from otel_llm_sessions.openai.delta import News
from otel_llm_sessions.openai.new_content import NewContent
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.telemetry.content.capture import VARIABLE
from otel_llm_sessions.testing import capture_spans

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("nothing_reported")


@pytest.fixture
def client(server, shared_client):
    """One client for all tests, with a server that has forgotten the earlier ones: making a client takes 50 ms."""
    return shared_client


@pytest.fixture
def completed(tmp_path, monkeypatch) -> list[dict[str, Any]]:
    """The calls of a completion hook."""
    return install_completion_hook(tmp_path, monkeypatch)


def said_in(messages: list[Any]) -> list[str]:
    return [part.content for message in messages for part in message.parts]


# --- events -------------------------------------------------------------------------------------------------


def test_events_go_over_otlp_in_their_structure_and_belong_to_their_span(api, monkeypatch, exported: Exported):
    monkeypatch.setenv(VARIABLE, "SPAN_AND_EVENT")
    loggers = LoggerProvider(shutdown_on_exit=False)
    loggers.add_log_record_processor(
        BatchLogRecordProcessor(OTLPLogExporter(endpoint=f"{exported.receiver.endpoint}/v1/logs"))
    )
    with capture_spans(tracer_provider=exported.provider, logger_provider=loggers):
        api.chat("Hörst du \0 mich?", extra_headers={"x-session-id": "s-1"}, extra_body={"odd": 2**70})
        assert loggers.force_flush()
        (log,), (span,) = exported.receiver.logs, exported.named("chat")
    loggers.shutdown()
    assert log.event_name == "gen_ai.client.inference.operation.details"
    assert (log.trace_id, log.span_id) == (span.trace_id, span.span_id)
    for name in (INPUT, OUTPUT):
        assert json.loads(json.dumps(log.attributes[name])) == json.loads(span.attributes[name])
    assert texts(log.attributes[INPUT]) == ["Hörst du � mich?"]
    assert log.attributes["session.id"] == "s-1"
    assert log.attributes["gen_ai.request.model"] == "gpt-4o-mini"
    assert log.scope == "otel_llm_sessions"


def test_a_logger_that_nobody_listens_to_costs_nothing(api, monkeypatch):
    seen: list[Any] = []
    monkeypatch.setenv(VARIABLE, "EVENT_ONLY")
    with capture_spans(content_hook=seen.append):
        api.chat()
    assert not seen


# --- util-genai's hook --------------------------------------------------------------------------------------


def has_new(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """Have turns record their messages from one on, whatever they link to."""

    class New(NewContent):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.news = News("delta", first, False, False)

    monkeypatch.setattr(content_module, "NewContent", New)


@pytest.mark.parametrize("mode", [None, "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"])
def test_the_completion_hook_gets_whole_contents_whatever_is_recorded(api, monkeypatch, completed, mode):
    has_new(monkeypatch, 1)
    with recorded(monkeypatch, mode, content_limit=3) as told:
        messages = [{"role": "user", "content": text} for text in ("First", "Second")]
        api.chat(messages=messages, tools=[{"type": "function", "function": {"name": "f"}}])
        (span,) = told.calls
    (said,) = completed
    assert said_in(said["inputs"]) == ["First", "Second"]
    assert said_in(said["outputs"])[0]
    assert [tool.name for tool in said["tool_definitions"]] == ["f"]
    assert isinstance(said["inputs"][0].parts[0], types.TextPart)
    assert said["span"].get_span_context() == span.context
    assert span.attributes["their.reference"] == "s3://1"
    assert len(told.events) == (mode in ("EVENT_ONLY", "SPAN_AND_EVENT"))
    for event in told.events:
        assert event.attributes["their.reference"] == "s3://1"
        assert texts(event.attributes[INPUT]) == ["Sec"]
    if mode in ("SPAN_ONLY", "SPAN_AND_EVENT"):
        assert texts(span.attributes[INPUT]) == ["Sec"]
        assert span.attributes[EXTENT] == "delta"
    else:
        assert not [name for name in CONTENT if name in span.attributes]


@pytest.mark.parametrize("mode", [None, "SPAN_ONLY", "EVENT_ONLY"])
def test_what_only_the_completion_hook_is_told_leaves_nothing_to_go_on_from(api, monkeypatch, completed, mode):
    store = MemoryStore()
    with recorded(monkeypatch, mode, store=store):
        api.chat(extra_headers={"x-session-id": "s-1"})
    (link,) = store.get_all(["s:s-1"])
    assert completed
    assert (link is not None and link.told is not None) == (mode is not None)


def test_it_comes_after_the_applications_own_hook(api, monkeypatch, completed):
    has_new(monkeypatch, 1)

    def hook(content: dict[str, Any]) -> dict[str, Any]:
        return json.loads(json.dumps(content).replace("ec", "**"))

    with recorded(monkeypatch, content_hook=hook) as told:
        api.chat(messages=[{"role": "user", "content": text} for text in ("First", "Second")])
    assert said_in(completed[0]["inputs"]) == ["First", "S**ond"]
    assert texts(told.calls[0].attributes[INPUT]) == ["S**ond"]
    assert told.calls[0].attributes[EXTENT] == "delta"


def test_where_that_takes_messages_out_the_turn_is_recorded_in_full(api, monkeypatch, completed):
    has_new(monkeypatch, 2)
    with recorded(monkeypatch, content_hook=lambda content: {**content, "input": content["input"][1:]}) as told:
        api.chat(messages=[{"role": "user", "content": text} for text in ("First", "Second", "Third")])
    assert said_in(completed[0]["inputs"]) == ["Second", "Third"]
    assert texts(told.calls[0].attributes[INPUT]) == ["Second", "Third"]
    assert told.calls[0].attributes[EXTENT] == "full"


def test_where_that_fails_the_completion_hook_gets_nothing(api, monkeypatch, completed):
    with recorded(monkeypatch, None, content_hook=lambda content: 1 / 0):
        api.chat()
    assert not completed


def test_a_call_that_failed_and_a_stream_are_complete_too(api, monkeypatch, completed):
    with recorded(monkeypatch, None) as told:
        with pytest.raises(openai.RateLimitError):
            api.chat(extra_headers=modes("status=429"))
        api.read(api.respond(stream=True))
    assert [said_in(said["inputs"]) for said in completed] == [["Hello"], ["Hello"]]
    assert [len(said["outputs"]) for said in completed] == [0, 1]
    assert told.calls[0].status.description is None


def test_a_completion_hook_that_fails_leaves_the_rest_as_it_is(api, monkeypatch, completed, caplog):
    import their_hook

    def fail(self: Any, **said: Any) -> None:
        raise ValueError(said)

    monkeypatch.setattr(their_hook.Hook, "on_completion", fail)
    with recorded(monkeypatch) as told:
        api.chat()
    assert texts(told.calls[0].attributes[INPUT]) == ["Hello"]


# --- the example --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_example_shows_contents_in_one_line_of_configuration_without_their_numbers(server, _receiver):
    """As its description says."""
    _receiver.clear()
    text = (ROOT / "examples" / "streaming_chat.py").read_text()
    (line,) = re.findall(r"^    export (OTEL_INSTRUMENTATION\S+ \S+)$", text, re.M)
    provider = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "test"}
    environment = environment_of(os.environ, _receiver.endpoint, provider)
    environment.update(word.split("=", 1) for word in line.split())
    command = [*instrument_command(), str(ROOT / "examples" / "streaming_chat.py")]
    done = run_to_its_end(command, environment)
    assert (done.returncode, done.stderr) == (0, "")
    _receiver.wait_for(lambda received: sum(span.name.startswith("chat") for span in received.spans) == 3)
    spans = sorted((span for span in _receiver.spans if span.name.startswith("chat")), key=lambda span: span.start)
    said = [text for span in spans for name in (INPUT, OUTPUT) for text in texts(span.attributes[name])]
    assert "What is the capital of France?" in said
    assert [text for text in said if re.search(r"\d", text)] == []
    assert "Thanks! Call me at ***. Goodbye." in said
