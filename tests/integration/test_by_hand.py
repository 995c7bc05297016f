"""The steps of a call, taken by hand: for a span that no HTTP request carries, and for evidence of a new kind."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from providers_kit import provider_to
from session_kit import calls

from otel_llm_sessions import semconv
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.ending import finish
from otel_llm_sessions.openai.evidence import LEFT, READERS, Asked, Left, Reader, evidence_of
from otel_llm_sessions.openai.flow import abegin, adeliver, begin, deliver
from otel_llm_sessions.openai.observing import see
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.routes import RESPONSES, Match
from otel_llm_sessions.openai.runtime import Runtime, make_runtime
from otel_llm_sessions.openai.server import Server
from otel_llm_sessions.sessions.resolver import Tie, tie_by
from otel_llm_sessions.settings import Settings
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.telemetry.metrics import MetricsSource
from otel_llm_sessions.testing import capture_spans
from otel_llm_sessions.traces.home import Homes

SERVER = Server("socket.test", 443, "openai", "socket.test:443", "socket.test", None, True)


FIRST, SECOND = "resp_9f8e7d6c5b4a39281706f5e4", "resp_0a1b2c3d4e5f60718293a4b5"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def runtime(exporter) -> Runtime:
    """What an instrumentation holds, without a client."""
    settings, store = Settings(), MemoryStore()
    provider = provider_to(exporter)
    return make_runtime(settings, store, Homes(provider, settings, store), MetricsSource(None))


def call_spans(exporter: InMemorySpanExporter) -> list[Any]:
    return calls(exporter.get_finished_spans())


def asked(previous: str | None) -> Request:
    """One ``response.create`` of a socket."""
    said = evidence_of("responses", None, previous, {}, SERVER)
    attributes: dict[str, Any] = {semconv.REQUEST_MODEL: "m"}
    return Request(Match(RESPONSES, None), SERVER, "chat m", "m", attributes, said, True, True)


def event(kind: str, response_id: str) -> dict[str, Any]:
    """What a socket says of a response."""
    status, usage = kind.removeprefix("response."), {"input_tokens": 11, "output_tokens": 7}
    return {"type": kind, "response": {"id": response_id, "model": "m-1", "status": status, "usage": usage}}


def by_hand(runtime: Runtime, previous: str | None, response_id: str) -> Call:
    """One call, from its request to what it leaves."""
    call = Call(runtime, asked(previous))
    begin(call)
    see(call, event("response.created", response_id))
    see(call, event("response.completed", response_id))
    finish(call)
    deliver(call)
    return call


def test_a_span_that_no_request_carries_goes_through_the_same_steps(runtime, exporter):
    turns = [by_hand(runtime, *ids).turn for ids in ((None, FIRST), (FIRST, SECOND))]
    assert [turn.session_id for turn in turns] == [FIRST] * 2
    assert [turn.resolution.turn for turn in turns] == [1, 2]
    assert turns[0].placement.trace == turns[1].placement.trace
    root, first, second = sorted(exporter.get_finished_spans(), key=lambda span: span.name == "chat m")
    assert root.attributes[semconv.LLM_SESSION_ROOT]
    for turn, span, response_id in ((1, first, FIRST), (2, second, SECOND)):
        assert span.attributes.items() >= {
            semconv.REQUEST_MODEL: "m", semconv.RESPONSE_MODEL: "m-1", semconv.RESPONSE_ID: response_id,
            semconv.USAGE_INPUT_TOKENS: 11, semconv.USAGE_OUTPUT_TOKENS: 7,
            semconv.SESSION_ID: FIRST, semconv.LLM_SESSION_TURN: turn,
        }.items()  # fmt: skip
        assert (span.parent.span_id, span.context.trace_id) == (root.context.span_id, root.context.trace_id)
        assert (span.kind, span.status.status_code) == (SpanKind.CLIENT, StatusCode.UNSET)
    before = [link.context for link in second.links if link.attributes[semconv.LLM_SESSION_LINK] == "previous_turn"]
    assert [(context.trace_id, context.span_id) for context in before] == [
        (first.context.trace_id, first.context.span_id)
    ]
    assert not first.links


def test_its_span_ends_once_and_as_it_ended_first(runtime, exporter, caplog):
    call = by_hand(runtime, None, FIRST)
    told = [(span.end_time, dict(span.attributes)) for span in call_spans(exporter)]
    finish(call, "ConnectionError", cut_short=True)
    deliver(call)
    assert [(span.end_time, dict(span.attributes)) for span in call_spans(exporter)] == told
    assert len(told) == 1
    assert caplog.messages == []  # the SDK says so where a span that has ended is told anything, or ended again


def test_one_that_fails_says_so(runtime, exporter):
    call = Call(runtime, asked(None))
    begin(call)
    see(call, event("response.created", FIRST))
    finish(call, "ConnectionClosed")
    deliver(call)
    (span,) = call_spans(exporter)
    assert (span.attributes["error.type"], span.status.status_code) == ("ConnectionClosed", StatusCode.ERROR)
    assert (span.attributes[semconv.SESSION_ID], span.attributes[semconv.LLM_SESSION_TURN]) == (FIRST, 1)


async def test_on_an_event_loop_too(runtime, exporter):
    for previous, response_id in ((None, FIRST), (FIRST, SECOND)):
        call = Call(runtime, asked(previous))
        await abegin(call)
        see(call, event("response.created", response_id))
        finish(call, cut_short=True)
        await adeliver(call)
        (link,) = runtime.store.get_all([f"r:{response_id}"])
        assert link is not None
        assert link.end
    first, second = call_spans(exporter)
    said = [
        (span.attributes[semconv.SESSION_ID], span.attributes[semconv.LLM_SESSION_TURN]) for span in (first, second)
    ]
    assert said == [(FIRST, 1), (FIRST, 2)]
    assert [link.context.span_id for link in second.links] == [first.context.span_id]


def test_a_new_kind_of_evidence_is_a_row_in_two_tables(api, server, monkeypatch):
    """A made-up one: what a server calls ``batch`` comes back in a later request."""

    def reads(asked: Asked) -> tuple[Tie, ...]:
        return (tie_by("item", f"x:{asked.body['batch']}"),)

    leaves = Left("batch", lambda batch, *_: (f"x:{batch}",))
    monkeypatch.setitem(READERS, "chat_completions", (Reader("batch", reads),))
    monkeypatch.setitem(LEFT, "responses", (*LEFT["responses"], leaves))
    with capture_spans() as spans:
        server.script({"id": "resp_9f8e7d6c5b4a39281706f5e4", "object": "response", "batch": "b-7"}, path="/responses")
        api.respond()
        api.chat(extra_body={"batch": "b-7"})
    first, second = calls(spans)
    assert second.attributes["session.id"] == first.attributes["session.id"] == "resp_9f8e7d6c5b4a39281706f5e4"
    assert (second.attributes["llm_session.source"], second.attributes["llm_session.turn"]) == ("item", 2)
