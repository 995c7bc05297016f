"""Beside other instrumentations of the same client: one model span per call, theirs, with our session on it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor as GenAIInstrumentor
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.util.genai.handler import TelemetryHandler

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


def test_chat_beside_openllmetry(server):
    # In a process of its own: its uninstrument() (0.62.4) leaves its wrappers on the client.
    program = textwrap.dedent(
        """
        import sys
        from openai import OpenAI
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor
        from opentelemetry.sdk.trace import TracerProvider
        from otel_llm_sessions.testing import capture_spans
        provider = TracerProvider()
        client = OpenAI(base_url=sys.argv[1], api_key="x")
        first = sys.argv[2] == "theirs first"
        if first:
            OpenAIInstrumentor().instrument(tracer_provider=provider)
        with capture_spans(tracer_provider=provider, traces="turn") as spans:
            if not first:
                OpenAIInstrumentor().instrument(tracer_provider=provider)
            session = {"extra_body": {"metadata": {"session_id": "X"}}}
            client.chat.completions.create(model="m", messages=[], **session)
            list(client.chat.completions.create(model="m", messages=[], stream=True, **session))
            print([(span.name, span.attributes["session.id"]) for span in spans])
        """
    )
    for order in ("theirs first", "ours first"):
        done = subprocess.run(
            [sys.executable, "-c", program, server.base_url, order], capture_output=True, text=True, timeout=60
        )
        assert done.stdout == "[('openai.chat', 'X'), ('openai.chat', 'X')]\n", done.stderr


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
