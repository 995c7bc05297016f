"""Beside other instrumentations of the same client: one model span per call, theirs, with our session on it."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor as GenAIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.util.genai.handler import TelemetryHandler
from programs import run_code

from otel_llm_sessions.testing import capture_spans

SESSION = {"metadata": {"session_id": "X"}}


class SessionAtEnd(SpanProcessor):
    """Sees that a span has its session before its owner ends it."""

    def __init__(self) -> None:
        self.sessions: list[Any] = []

    def on_end(self, span: Any) -> None:
        self.sessions.append(span.attributes.get("session.id"))


@pytest.fixture(params=["theirs first", "ours first"])
def beside(request, monkeypatch):
    """Return a function that instruments with a peer and us on one provider, in either order."""
    peers: list[Any] = []
    stack: list[Any] = []

    def start(peer: Any, **settings: Any) -> Any:
        provider = TracerProvider(shutdown_on_exit=False)
        peers.append(peer)
        if request.param == "theirs first":
            peer.instrument(tracer_provider=provider)
        captured = capture_spans(tracer_provider=provider, traces="turn", **settings)
        spans = captured.__enter__()
        stack.append(captured)
        if request.param == "ours first":
            peer.instrument(tracer_provider=provider)
        return spans

    yield start
    for peer in peers:
        peer.uninstrument()
    for captured in stack:
        captured.__exit__(None, None, None)


def models(spans: Any) -> list[Any]:
    return [span for span in spans if span.name != "session"]


def test_one_span_per_call_beside_the_official_instrumentation(beside, api):
    spans = beside(GenAIInstrumentor())
    api.chat(extra_body=SESSION)
    first = api.respond()
    second = api.respond(previous_response_id=first.id)
    api.retrieve(second.id)
    assert [span.instrumentation_scope.name.split(".")[0] for span in spans] == ["opentelemetry"] * 4
    assert [span.attributes["session.id"] for span in spans] == ["X", first.id, first.id, first.id]
    assert [span.attributes["llm_session.source"] for span in spans] == ["metadata", "new", "chain", "chain"]
    links = [link.context.span_id for link in spans[2].links]
    assert links == [spans[1].context.span_id]


def test_streams_too(beside, api):
    spans = beside(GenAIInstrumentor())
    api.read(api.chat(stream=True, extra_body=SESSION))
    events = api.read(api.respond(stream=True))
    first = events[0].response.id
    api.read(api.respond(stream=True, previous_response_id=first))
    assert [span.attributes.get("session.id") for span in spans] == ["X", first, first]
    assert [span.attributes.get("llm_session.turn") for span in spans] == [1, 1, 2]


def test_stream_managers_too(beside, client):
    spans = beside(GenAIInstrumentor())
    with client.responses.stream(model="m", input="x") as stream:
        first = stream.get_final_response().id
    with client.chat.completions.stream(model="m", messages=[], extra_body=SESSION) as stream:
        stream.until_done()
    assert [span.attributes.get("session.id") for span in spans] == [first, "X"]


OPENLLMETRY = """
    import asyncio, sys
    from openai import AsyncOpenAI, OpenAI
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from otel_llm_sessions.testing import capture_spans

    provider = TracerProvider()
    asked = {"model": "m", "messages": [], "extra_body": {"metadata": {"session_id": "X"}}}

    def calls(client):
        client.chat.completions.create(**asked)
        list(client.chat.completions.create(stream=True, **asked))
        with client.chat.completions.stream(**asked) as stream:
            stream.until_done()

    async def async_calls(client):
        await client.chat.completions.create(**asked)
        async for _ in await client.chat.completions.create(stream=True, **asked):
            pass

    first = sys.argv[2] == "theirs first"
    if first:
        OpenAIInstrumentor().instrument(tracer_provider=provider)
    with capture_spans(tracer_provider=provider, traces="turn") as spans:
        if not first:
            OpenAIInstrumentor().instrument(tracer_provider=provider)
        calls(OpenAI(base_url=sys.argv[1], api_key="x"))
        asyncio.run(async_calls(AsyncOpenAI(base_url=sys.argv[1], api_key="x")))
        for span in spans:
            print(span.name, span.attributes["session.id"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("order", ["theirs first", "ours first"])
def test_chat_beside_openllmetry(server, order):
    # In a process of its own: its uninstrument() (0.62.4) leaves its wrappers on the client.
    done = run_code(OPENLLMETRY, server.base_url, order)
    assert done.stdout.splitlines() == ["openai.chat X"] * 5, done.stderr


def test_always_makes_a_span_of_our_own(beside, client):
    spans = beside(GenAIInstrumentor(), spans="always")
    client.chat.completions.create(model="m", messages=[], extra_body=SESSION)
    assert sorted(span.instrumentation_scope.name for span in spans) == [
        "opentelemetry.instrumentation.genai.openai",
        "otel_llm_sessions",
    ]


def test_annotate_makes_no_span_of_our_own(client):
    with capture_spans(spans="annotate") as spans:
        first = client.responses.create(model="m", input="x")
        client.responses.create(model="m", input="x", previous_response_id=first.id)
    assert [span for span in spans if span.name != "session"] == []


def test_no_second_model_span_inside_util_genais_even_when_another_span_lies_between(client):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, traces="turn") as spans:
        handler = TelemetryHandler(tracer_provider=provider)
        tracer = provider.get_tracer("framework")
        with handler.inference("openai", request_model="m"), tracer.start_as_current_span("between"):
            first = client.responses.create(model="m", input="x").id
        with handler.fetch_response("openai", response_id=first), tracer.start_as_current_span("between"):
            client.responses.retrieve(first)
    told = [(span.name, span.attributes["session.id"], span.attributes["llm_session.source"]) for span in spans]
    assert told == [
        ("between", first, "new"),
        ("chat m", first, "new"),
        ("between", first, "chain"),
        ("fetch_response", first, "chain"),
    ]


def test_the_session_is_there_before_the_owner_ends_its_span(client):
    provider = TracerProvider(shutdown_on_exit=False)
    seen = SessionAtEnd()
    provider.add_span_processor(seen)
    with capture_spans(tracer_provider=provider, traces="turn"):
        tracer = trace.get_tracer("owner", tracer_provider=provider)
        with tracer.start_as_current_span("chat m", attributes={"gen_ai.operation.name": "chat"}):
            first = client.responses.create(model="m", input="x")
    assert seen.sessions == [first.id]


def test_an_owner_that_ends_its_span_before_the_stream_is_read_costs_no_warning(client, caplog):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider) as spans:
        tracer = trace.get_tracer("owner", tracer_provider=provider)
        with tracer.start_as_current_span("theirs", attributes={"gen_ai.operation.name": "chat"}):
            stream = client.responses.create(model="m", input="x", stream=True)
        first = next(iter(stream)).response.id
        client.responses.create(model="m", input="x", previous_response_id=first)
        stream.close()
    assert caplog.records == []
    assert [span.name for span in spans] == ["theirs", "session", "turn", "chat m"]


def test_an_agents_span_is_no_model_call(client):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, traces="turn") as spans:
        tracer = trace.get_tracer("agent", tracer_provider=provider)
        with tracer.start_as_current_span("invoke_agent", attributes={"gen_ai.operation.name": "invoke_agent"}):
            client.responses.create(model="m", input="x")
    assert [span.name for span in spans] == ["chat m", "invoke_agent"]


def test_annotated_spans_count_as_nested_turns(beside, client):
    provider_spans = beside(GenAIInstrumentor())
    first = client.responses.create(model="m", input="x")
    client.responses.create(model="m", input="x", previous_response_id=first.id)
    assert len(models(provider_spans)) == 2


async def test_stream_managers_of_the_asynchronous_client_too(beside, async_client):
    spans = beside(GenAIInstrumentor())
    async with async_client.responses.stream(model="m", input="x") as stream:
        first = (await stream.get_final_response()).id
    async with async_client.responses.stream(model="m", input="x", previous_response_id=first) as stream:
        await stream.until_done()
    async with async_client.chat.completions.stream(model="m", messages=[], extra_body=SESSION) as stream:
        await stream.until_done()
    assert [span.attributes.get("session.id") for span in spans] == [first, first, "X"]
    assert [link.context.span_id for link in spans[1].links] == [spans[0].context.span_id]


def test_a_call_made_while_a_stream_is_open_is_a_call_of_its_own(beside, client):
    spans = beside(GenAIInstrumentor())
    with client.responses.create(model="m", input="x", stream=True) as stream:
        outer = next(iter(stream)).response.id
        inner = client.responses.create(model="m", input="y").id
        list(stream)
    assert [span.attributes["session.id"] for span in spans] == [inner, outer]


def test_a_streamed_fetch_is_annotated_too(beside, api):
    spans = beside(GenAIInstrumentor())
    first = api.respond().id
    api.read(api.retrieve(first, stream=True))
    assert [(span.name, span.attributes["session.id"]) for span in spans] == [
        ("chat gpt-4o-mini", first),
        ("fetch_response", first),
    ]


def test_a_call_that_fails_is_annotated_and_its_owner_says_what_failed(beside, api):
    spans = beside(GenAIInstrumentor())
    with pytest.raises(openai.BadRequestError):
        api.chat(extra_body=SESSION, extra_headers={"x-loopback-mode": "status=400"})
    (span,) = spans
    assert span.attributes["session.id"] == "X"
    assert span.attributes["error.type"]


def test_what_the_other_instrumentation_does_not_know_is_a_span_of_ours(beside, client):
    spans = beside(GenAIInstrumentor())
    first = client.responses.create(model="m", input="x").id
    client.responses.compact(model="m", input="y", previous_response_id=first)
    assert [(span.name, span.instrumentation_scope.name, span.attributes["session.id"]) for span in spans] == [
        ("chat m", "opentelemetry.instrumentation.genai.openai", first),
        ("compact m", "otel_llm_sessions", first),
    ]
    assert [link.context.span_id for link in spans[1].links] == [spans[0].context.span_id]


def test_an_annotated_call_is_measured_once_by_its_owner(client):
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, meter_provider=meters, traces="turn"):
        handler = TelemetryHandler(tracer_provider=provider, meter_provider=meters)
        with handler.inference("openai", request_model="m"):
            client.chat.completions.create(model="m", messages=[])
    scopes = [
        scope.scope.name for resource in reader.get_metrics_data().resource_metrics for scope in resource.scope_metrics
    ]
    assert scopes == ["opentelemetry.util.genai.handler"]
    meters.shutdown()


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "chat"},
        {"gen_ai.operation.name": "generate_content"},
        {"openinference.span.kind": "LLM"},
        {"llm.request.type": "chat"},
    ],
    ids=str,
)
def test_any_span_that_is_a_model_call_by_its_attributes_is_annotated(client, attributes):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, traces="turn") as spans:
        with provider.get_tracer("owner").start_as_current_span("theirs", attributes=attributes):
            client.chat.completions.create(model="m", messages=[], extra_body=SESSION)
    assert [(span.name, span.attributes["session.id"]) for span in spans] == [("theirs", "X")]


def test_only_annotating_opens_no_session_trace_for_calls_without_a_span(client):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, spans="annotate", traces="session") as spans:
        first = client.responses.create(model="m", input="x").id
        client.chat.completions.create(model="m", messages=[], extra_body=SESSION)
        assert not spans
        with provider.get_tracer("owner").start_as_current_span("theirs", attributes={"gen_ai.operation.name": "chat"}):
            client.responses.create(model="m", input="y", previous_response_id=first)
    assert {span.name for span in spans} == {"session", "turn", "theirs"}
    assert {span.attributes["session.id"] for span in spans} == {first}
