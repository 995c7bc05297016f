"""What calls say, where that is asked for: on spans and in events, whole, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from typing import Any

import openai
import pydantic
import pytest
from content_kit import CONTENT, CUT, EXTENT, INPUT, INSTRUCTIONS, OUTPUT, TOOLS, recorded, texts
from failures import warnings_of
from held_backend import HeldBackend
from loopback.modes import STREAM_ERROR
from loopback_client import MODEL
from odd_kit import EVENTS, JSON, body, completed, sse
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode, TraceFlags
from spans_kit import modes
from waiting import auntil, until

from otel_llm_sessions.openai import content as content_module
from otel_llm_sessions.openai.held import HELD
from otel_llm_sessions.stores.guarded import GuardedStore

ANSWER = "Hello, what can I do for you today?"
"""What the loopback server says."""

WEATHER = {"name": "weather", "description": "Tells the weather", "parameters": {"type": "object", "properties": {}}}

pytestmark = pytest.mark.usefixtures("nothing_reported")


@pytest.fixture
def client(server, shared_client):
    """One client for all tests, with a server that has forgotten the earlier ones: making a client takes 50 ms."""
    return shared_client


def answered(api: Any, call: str, stream: bool, **arguments: Any) -> None:
    """Make a call, and read all of its reply."""
    reply = getattr(api, call)(stream=stream, **arguments)
    if stream:
        api.read(reply)


# --- where it stands ----------------------------------------------------------------------------------------

MODES = [("SPAN_ONLY", True, False), ("true", True, False), ("EVENT_ONLY", False, True), ("span_and_event", True, True)]


@pytest.mark.parametrize(("mode", "on_span", "in_event"), MODES, ids=[row[0] for row in MODES])
@pytest.mark.parametrize("call", ["chat", "respond"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_what_was_said_stands_where_it_is_asked_for(api, monkeypatch, mode, on_span, in_event, call, stream):
    with recorded(monkeypatch, mode) as told:
        answered(api, call, stream)
        (span,) = told.calls
    if on_span:
        assert texts(span.attributes[INPUT]) == ["Hello"]
        assert texts(span.attributes[OUTPUT]) == [ANSWER]
        assert span.attributes[EXTENT] == "full"
    else:
        assert not [name for name in CONTENT if name in span.attributes]
    assert len(told.events) == in_event
    for event in told.events:
        assert texts(event.attributes[INPUT]) == ["Hello"]
        assert texts(event.attributes[OUTPUT]) == [ANSWER]
        assert event.attributes[EXTENT] == "full"
        assert (event.trace_id, event.span_id) == (span.context.trace_id, span.context.span_id)
        assert event.timestamp == span.end_time
        shared = {name: value for name, value in span.attributes.items() if name not in CONTENT}
        assert shared.items() <= dict(event.attributes).items()


def test_instructions_and_tools_are_recorded_too(api, monkeypatch):
    with recorded(monkeypatch) as told:
        api.respond(instructions="Be brief.", tools=[{"type": "function", **WEATHER, "strict": True}])
        (span,) = told.calls
    assert texts(span.attributes[INSTRUCTIONS]) == ["Be brief."]
    (tool,) = json.loads(span.attributes[TOOLS])
    assert WEATHER.items() <= tool.items()


@pytest.mark.parametrize("how", ["raw", "bytes", "streaming"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("call", ["chat", "responses"])
def test_raw_and_streaming_responses_are_recorded_as_others_are(monkeypatch, wire, how, stream, kind, call):
    said = {"output": [{"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [
        {"type": "output_text", "text": "Hi", "annotations": []}]}]}  # fmt: skip
    wire.answer(body(call, stream, **(said if call == "responses" else {})), EVENTS if stream else JSON)
    asked = {"messages": [{"role": "user", "content": "Ho"}]} if call == "chat" else {"input": "Ho"}
    with recorded(monkeypatch) as told:
        wire.call(call, how, stream, kind, **asked)
        (span,) = told.calls
    assert (texts(span.attributes[INPUT]), texts(span.attributes[OUTPUT])) == (["Ho"], ["Hi"])


@pytest.mark.parametrize("call", ["chat", "respond"])
def test_of_a_stream_that_is_left_there_is_what_was_read(api, monkeypatch, call):
    with recorded(monkeypatch) as told:
        api.read(getattr(api, call)(stream=True), at_most=6)
        (span,) = told.calls
    (text,) = texts(span.attributes[OUTPUT])
    assert ANSWER.startswith(text)
    assert 0 < len(text) < len(ANSWER)


class Weather(pydantic.BaseModel):
    """What a parsed reply is made into."""

    degrees: int


@pytest.mark.parametrize("call", ["chat", "responses"])
def test_parsed_replies_and_the_clients_own_stream_helpers_are_recorded(monkeypatch, wire, call):
    said = '{"degrees": 20}'
    message = {"role": "assistant", "content": said}
    output = {"output": [{"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [
        {"type": "output_text", "text": said, "annotations": []}]}]}  # fmt: skip
    fields = output if call == "responses" else {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    resource, asked = (
        (wire.client.chat.completions, {"messages": [{"role": "user", "content": "Warm?"}], "response_format": Weather})
        if call == "chat"
        else (wire.client.responses, {"input": "Warm?", "text_format": Weather})
    )
    with recorded(monkeypatch) as told:
        wire.answer(body(call, False, **fields))
        resource.parse(model=MODEL, **asked)
        streamed = {"choices": [{"index": 0, "finish_reason": "stop", "delta": message}]} if call == "chat" else output
        events = sse(completed(**streamed)) if call == "responses" else body(call, True, **streamed)
        wire.answer(events, EVENTS)
        with contextlib.suppress(Exception), resource.stream(model=MODEL, **asked) as stream:
            for _ in stream:
                pass
    assert [texts(span.attributes[INPUT]) for span in told.calls] == [["Warm?"]] * 2
    assert [texts(span.attributes[OUTPUT]) for span in told.calls] == [[said]] * 2


async def test_of_a_call_that_is_cancelled_there_is_what_was_asked(async_client, server, monkeypatch):
    with recorded(monkeypatch, "SPAN_AND_EVENT") as told:
        messages = [{"role": "user", "content": "Hello"}]
        task = asyncio.ensure_future(
            async_client.chat.completions.create(model=MODEL, messages=messages, extra_headers=modes("delay=5"))
        )
        await auntil(lambda: server.requests)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        (span,), (event,) = told.calls, told.events
    assert texts(span.attributes[INPUT]) == texts(event.attributes[INPUT]) == ["Hello"]
    assert OUTPUT not in span.attributes
    assert span.status.description is None


def test_what_the_application_adds_while_it_reads_was_not_said(server, client, monkeypatch):
    messages: list[Any] = [{"role": "user", "content": "First"}]
    with recorded(monkeypatch) as told:
        body = {"model": MODEL, "messages": messages, "stream": True}
        stream_cls = openai.Stream[Any]
        for _ in client.post("/chat/completions", cast_to=object, body=body, stream=True, stream_cls=stream_cls):
            messages.append({"role": "user", "content": "Later"})
        (span,) = told.calls
    assert texts(span.attributes[INPUT]) == ["First"]


@pytest.mark.parametrize("mode", [None, "SPAN_AND_EVENT"])
def test_generators_reach_the_server_whole(api, server, monkeypatch, mode):
    with recorded(monkeypatch, mode) as told:
        api.finish(
            api.client.chat.completions.create(
                model=MODEL,
                messages=({"role": "user", "content": text} for text in ("a", "b", "c")),
                tools=({"type": "function", "function": WEATHER} for _ in range(2)),
            )
        )
    (request,) = server.requests
    assert [message["content"] for message in request.body["messages"]] == ["a", "b", "c"]
    assert len(request.body["tools"]) == 2
    if mode:
        assert texts(told.calls[0].attributes[INPUT]) == ["a", "b", "c"]


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["chat", "respond"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_the_servers_words_of_an_error_are_content(api, monkeypatch, call, stream):
    with recorded(monkeypatch, "SPAN_AND_EVENT") as told, pytest.raises(openai.RateLimitError):
        answered(api, call, stream, extra_headers=modes("status=429"))
    (span,), (event,) = told.calls, told.events
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "Rate limit reached for requests."
    assert "error.message" not in span.attributes
    assert event.attributes["error.message"] == "Rate limit reached for requests."
    assert event.attributes["error.type"] == "openai.RateLimitError"
    assert texts(span.attributes[INPUT]) == ["Hello"]
    assert OUTPUT not in span.attributes


def test_an_event_alone_leaves_the_span_without_them(api, monkeypatch):
    with recorded(monkeypatch, "EVENT_ONLY") as told, pytest.raises(openai.RateLimitError):
        api.chat(extra_headers=modes("status=429"))
    assert told.calls[0].status.description is None
    assert told.events[0].attributes["error.message"]


@pytest.mark.parametrize(("call", "error"), [("chat", "error_event=2"), ("respond", "error_event=3")])
def test_an_error_amid_a_stream_has_its_words_too(api, monkeypatch, call, error):
    with recorded(monkeypatch) as told, contextlib.suppress(openai.APIError):  # of responses it is one more event
        answered(api, call, True, extra_headers=modes(error))
    assert told.calls[0].status.description == STREAM_ERROR


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_response_that_failed_has_them_too(api, monkeypatch, stream):
    with recorded(monkeypatch) as told:
        answered(api, "respond", stream, extra_headers=modes("failed"))
    assert told.calls[0].status.description.startswith("The model failed")


# --- nowhere else -------------------------------------------------------------------------------------------

SECRETS = ("PROMPTWORD", "TOOLWORD", "ARGUMENTWORD", "INSTRUCTIONWORD", "REPLYWORD", "ERRORWORD")


def tell_all_secrets(wire: Any) -> None:
    """Calls in which every secret is said, in every place where there may be one."""
    history = [
        {"role": "system", "content": SECRETS[3]},
        {"role": "user", "content": SECRETS[0]},
        {"role": "assistant", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"x": SECRETS[2]})}},
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": SECRETS[2]},
    ]  # fmt: skip
    tools = [{"type": "function", "function": {"name": "f", "description": SECRETS[1]}}]
    message = {"role": "assistant", "content": SECRETS[4]}
    for stream in (False, True):
        choice = {"index": 0, "finish_reason": "stop", "delta" if stream else "message": message}
        wire.answer(body("chat", stream, choices=[choice]), EVENTS if stream else JSON)
        wire.outcome("chat", stream=stream, messages=history, tools=tools)
        output = [{"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [
            {"type": "output_text", "text": SECRETS[4], "annotations": []}]}]  # fmt: skip
        failed = {"status": "failed", "error": {"code": "server_error", "message": SECRETS[5]}}
        for answer in ({"output": output}, {"output": output, **failed}):
            wire.answer(body("responses", stream, **answer), EVENTS if stream else JSON)
            wire.outcome("responses", stream=stream, input=SECRETS[0], instructions=SECRETS[3])
        wire.answer(b'{"error": {"message": "ERRORWORD", "code": "c"}}')
        wire.outcome("chat", stream=stream, messages=history)


@pytest.mark.parametrize("mode", [None, "NO_CONTENT", "false", "everything"])
def test_without_being_asked_for_no_word_is_told_anywhere(monkeypatch, wire, caplog, mode):
    with caplog.at_level(logging.DEBUG), recorded(monkeypatch, mode) as told:
        tell_all_secrets(wire)
        everything = told.all() + "".join(record.getMessage() for record in caplog.records if is_ours(record))
    assert len(told.calls) == 8
    assert [secret for secret in SECRETS if secret in everything] == []
    assert not told.events


def is_ours(record: logging.LogRecord) -> bool:
    """Whether a log line is this package's or OpenTelemetry's: the client's own are the application's to switch off."""
    return record.name.startswith(("otel_llm_sessions", "opentelemetry"))


def test_where_it_is_asked_for_it_is_in_no_metric_and_no_log_line(monkeypatch, wire, caplog):
    with caplog.at_level(logging.DEBUG), recorded(monkeypatch, "EVENT_ONLY") as told:
        tell_all_secrets(wire)
        elsewhere = "".join(span.to_json() for span in told.spans) + told.metrics.get_metrics_data().to_json()
        elsewhere += "".join(record.getMessage() for record in caplog.records if is_ours(record))
    assert [secret for secret in SECRETS if secret not in told.all()] == []
    assert [secret for secret in SECRETS if secret in elsewhere] == []


def test_what_fails_of_ours_is_told_without_quoting_anything(api, monkeypatch, caplog):
    def fail(*arguments: Any) -> None:
        raise ValueError(f"cannot read {arguments}")

    monkeypatch.setattr(content_module, "said_in", fail)
    with caplog.at_level(logging.DEBUG, logger="otel_llm_sessions"), recorded(monkeypatch) as told:
        for _ in range(3):
            assert api.chat("PROMPTWORD").choices
    assert len(told.calls) == 3
    assert not [name for span in told.calls for name in CONTENT if name in span.attributes]
    (warning,) = warnings_of(caplog)
    assert "ValueError" in warning
    assert "PROMPTWORD" not in caplog.text


# --- whose, and when ----------------------------------------------------------------------------------------


def test_who_owns_the_span_records_its_content(api, monkeypatch):
    with recorded(monkeypatch, "SPAN_AND_EVENT") as told:
        tracer = trace.get_tracer("another", tracer_provider=told.provider)
        with tracer.start_as_current_span("chat", attributes={"gen_ai.operation.name": "chat"}):
            api.chat()
        (span,) = told.calls
    assert span.instrumentation_scope.name == "another"
    assert not [name for name in CONTENT if name in span.attributes]
    assert not told.events


def test_without_a_span_of_ours_there_is_no_content(api, monkeypatch):
    with recorded(monkeypatch, "SPAN_AND_EVENT", spans="annotate") as told:
        api.chat()
    assert not told.events


def test_of_an_unsampled_call_nothing_is_computed(api, monkeypatch):
    seen: list[Any] = []
    monkeypatch.setattr(content_module, "said_in", lambda *arguments: seen.append(arguments) or [])
    with recorded(monkeypatch, "SPAN_ONLY", sampler=ALWAYS_OFF, content_hook=seen.append):
        api.chat()
        api.read(api.respond(stream=True))
    assert not seen


def test_of_an_unsampled_call_there_is_an_event(api, monkeypatch):
    with recorded(monkeypatch, "SPAN_AND_EVENT", sampler=ALWAYS_OFF) as told:
        api.chat()
        api.read(api.respond(stream=True))
    assert [texts(event.attributes[INPUT]) for event in told.events] == [["Hello"], ["Hello"]]
    assert [texts(event.attributes[OUTPUT]) for event in told.events] == [[ANSWER], [ANSWER]]
    assert not [event for event in told.events if event.trace_flags & TraceFlags.SAMPLED]


def test_a_call_whose_session_is_heard_of_late_has_its_content(api, monkeypatch):
    backend = HeldBackend()
    store = GuardedStore(backend)
    with recorded(monkeypatch, "SPAN_AND_EVENT", store=store) as told:
        with backend.held(store):
            api.chat(extra_headers={"x-session-id": "late"})
            assert len(HELD) == 1
            assert not told.events
        until(lambda: told.calls)
    (span,), (event,) = told.calls, told.events
    assert span.attributes["session.id"] == event.attributes["session.id"] == "late"
    assert texts(span.attributes[INPUT]) == texts(event.attributes[INPUT]) == ["Hello"]
    assert texts(span.attributes[OUTPUT]) == [ANSWER]


# --- limits -------------------------------------------------------------------------------------------------


def test_a_long_text_is_cut_and_that_is_told(api, monkeypatch):
    with recorded(monkeypatch, content_limit=100) as told:
        asked = [{"role": "user", "content": "Hello"}, {"role": "user", "content": "x" * 250}]
        answer = api.chat(messages=asked).choices[0].message.content
        (span,) = told.calls
    assert texts(span.attributes[INPUT]) == ["Hello", "x" * 100]
    assert texts(span.attributes[OUTPUT])[0] in answer
    assert span.attributes[CUT] == 150 + max(0, len(answer) - 100)


@pytest.mark.parametrize("longest", [50, 200, 1000])
def test_the_json_is_whole_whatever_the_sdk_would_cut(api, monkeypatch, longest):
    limits = SpanLimits(max_span_attribute_length=longest)
    with recorded(monkeypatch, "SPAN_AND_EVENT", limits=limits) as told:
        api.chat(messages=[{"role": "user", "content": f"{number} {'x' * 300}"} for number in range(20)])
        (span,) = told.calls
    for name in (INPUT, OUTPUT):
        if name in span.attributes:
            assert json.loads(span.attributes[name])
    assert span.attributes[CUT] > 5000
    assert longest < 200 or texts(span.attributes[INPUT])[-1].startswith("19 x")


# --- the hook -----------------------------------------------------------------------------------------------


def redacted(content: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(content).replace("Hello", "***").replace("Rate", "***"))


def test_what_the_hook_returns_is_recorded(api, monkeypatch):
    with recorded(monkeypatch, "SPAN_AND_EVENT", content_hook=redacted) as told:
        api.chat()
        with pytest.raises(openai.RateLimitError, match="Rate"):
            api.chat(extra_headers=modes("status=429"))
    assert texts(told.calls[0].attributes[INPUT]) == ["***"]
    assert texts(told.calls[0].attributes[OUTPUT]) == [ANSWER.replace("Hello", "***")]
    assert told.calls[1].status.description == "*** limit reached for requests."
    assert "Hello" not in told.all()
    assert "Rate limit" not in told.all()


@pytest.mark.parametrize("hook", [lambda content: None, lambda content: 1 / 0, lambda content: "Hello", "nowhere:hook"])
def test_where_a_hook_fails_nothing_is_recorded(api, monkeypatch, hook, caplog):
    with recorded(monkeypatch, "SPAN_AND_EVENT", content_hook=hook) as told:
        for stream in (False, True):
            answered(api, "chat", stream)
        with pytest.raises(openai.RateLimitError):
            api.chat(extra_headers=modes("status=429"))
    assert len(told.calls) == 3
    assert not [name for span in told.calls for name in CONTENT if name in span.attributes]
    assert told.calls[2].status.description is None
    assert not told.events
    assert "Hello" not in told.all()
    assert len(warnings_of(caplog)) <= 1


def test_a_wrong_hook_in_the_environment_keeps_all_back(api, monkeypatch):
    monkeypatch.setenv("OTEL_LLM_SESSIONS_CONTENT_HOOK", "redact_everything")
    with recorded(monkeypatch, "SPAN_AND_EVENT") as told:
        api.chat()
    assert "Hello" not in told.all()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_the_hook_is_called_once_when_the_reply_is_complete_by_who_ended_the_call(api, monkeypatch, stream):
    seen: list[Any] = []

    def hook(content: dict[str, Any]) -> None:
        seen.append((threading.get_ident(), texts(content["output"])))

    with recorded(monkeypatch, "SPAN_AND_EVENT", content_hook=hook):
        answered(api, "chat", stream)
    assert seen == [(threading.get_ident(), [ANSWER])]


def test_a_hook_that_changes_what_it_gets_changes_nothing_of_the_applications(api, server, monkeypatch):
    tools = [{"type": "function", "function": json.loads(json.dumps(WEATHER))}]

    def hook(content: dict[str, Any]) -> dict[str, Any]:
        content["tool_definitions"][0]["parameters"]["type"] = "***"
        content["input"][0]["parts"][0]["content"] = "***"
        return content

    with recorded(monkeypatch, content_hook=hook) as told:
        api.chat(tools=tools)
    assert tools == [{"type": "function", "function": WEATHER}]
    assert texts(told.calls[0].attributes[INPUT]) == ["***"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_ctrl_c_in_a_hook_is_the_applications_and_the_span_ends_once(api, monkeypatch, stream):
    def hook(content: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with recorded(monkeypatch, "SPAN_AND_EVENT", content_hook=hook) as told:
        with pytest.raises(KeyboardInterrupt):
            answered(api, "chat", stream)
        (span,) = told.calls
    assert not [name for name in CONTENT if name in span.attributes]
    assert not told.events
