"""What is started below a call belongs to the call's session, whatever is named around it (docs/sessions.md)."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from answered import async_client_of, client_of
from opentelemetry import baggage
from opentelemetry.context import attach, detach, get_current, set_value
from opentelemetry.sdk.trace import TracerProvider
from session_kit import name_here

from otel_llm_sessions import session, session_trace_id
from otel_llm_sessions.testing import CapturedSpans, capture_spans

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
REPLY = {
    "id": "chatcmpl-a8Zb0Qv3Lk9TgW5xN2pR7sYd1fHj4",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
}


class Wire:
    """A transport that traces, as an instrumented HTTP client does, and works in a pool."""

    def __init__(self, provider: TracerProvider, pool: ThreadPoolExecutor) -> None:
        self._tracer = provider.get_tracer("http")
        self._pool = pool
        self.seen: list[Any] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        with self._tracer.start_as_current_span("POST"):
            job = self._pool.submit(self._work).result()
            self.seen.append((name_here(), job, baggage.get_baggage("session.id")))
        return httpx2.Response(200, json=REPLY)

    def _work(self) -> str | None:
        self._tracer.start_span("job").end()
        return name_here()


@pytest.fixture
def wired():
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider) as spans, ThreadPoolExecutor(1) as pool:
        yield spans, Wire(provider, pool), provider.get_tracer("the application's")


@pytest.fixture(params=["sync", "async"])
def ask(request, wired):
    """Make a call through the wire."""
    if request.param == "sync":
        with client_of(wired[1]) as client:
            yield lambda **more: client.chat.completions.create(**ASK, **more)
        return
    async_client = async_client_of(wired[1])

    async def acall(more: Any) -> Any:
        return await async_client.chat.completions.create(**ASK, **more)

    loop = asyncio.new_event_loop()
    yield lambda **more: loop.run_until_complete(acall(more))
    loop.run_until_complete(async_client.close())
    loop.close()


def stamps(spans: CapturedSpans) -> dict[str, Any]:
    return {span.name: span.attributes.get("session.id") for span in spans if span.name != "session"}


def test_spans_and_jobs_below_a_call_of_another_session_are_that_ones(wired, ask):
    spans, wire, _ = wired
    with session("A", propagate=True):
        ask(extra_headers={"x-session-id": "B"})
        assert name_here() == "A"
    assert stamps(spans) == {"POST": "B", "job": "B", "chat m": "B"}
    assert wire.seen == [("B", "B", None)]
    by_name = {span.name: span for span in spans}
    assert f"{by_name['POST'].context.trace_id:032x}" == session_trace_id("B")
    assert by_name["job"].parent is None, "it stands in no trace of another session"
    assert dict(get_current()) == {}


def test_where_a_call_names_its_place_s_session_everything_is_that_ones(wired, ask):
    spans, wire, _ = wired
    with session("A", propagate=True):
        ask()
        ask(extra_headers={"x-session-id": "A"})
    assert stamps(spans) == {"POST": "A", "job": "A", "chat m": "A"}
    assert wire.seen == [("A", "A", "A")] * 2


def test_a_nested_call_s_marker_and_spans_are_the_call_s_session_s(wired, ask):
    spans, _, tracer = wired
    with session("A"), tracer.start_as_current_span("tool"):
        ask(extra_body={"session_id": "B"})
    assert stamps(spans) == {"POST": "B", "job": "B", "chat m": "B", "tool": "A", "turn": "B"}


def test_so_it_is_in_a_generator_s_block(wired, ask):
    def talk():
        with session("A"):
            ask(extra_headers={"x-session-id": "B"})
            yield
            ask()
            yield

    spans, wire, _ = wired
    for _ in talk():
        pass
    assert [seen[:2] for seen in wire.seen] == [("B", "B"), ("A", "A")]
    assert [span.attributes["session.id"] for span in spans if span.name == "POST"] == ["B", "A"]


def test_so_it_is_where_another_mechanism_names_the_place(wired, ask):
    spans, wire, _ = wired
    token = attach(set_value("session.id", "A"))  # OpenInference's using_session
    ask(extra_headers={"x-session-id": "B"})
    detach(token)
    assert [seen[0] for seen in wire.seen] == ["B"]
    assert stamps(spans)["POST"] == "B"


def test_another_instrumentations_span_of_the_call_and_what_is_below_it_are_the_calls(wired, ask):
    spans, _, tracer = wired
    with session("A"), tracer.start_as_current_span("chat", attributes={"gen_ai.operation.name": "chat"}):
        ask(extra_headers={"x-session-id": "B"})
    assert stamps(spans) == {"POST": "B", "job": "B", "chat": "B", "turn": "B"}


def test_while_a_session_is_looked_up_it_is_the_calls_too():
    def transport(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            seen.append(name_here())
        return httpx2.Response(200, json=REPLY) if request.method == "POST" else httpx2.Response(404)

    seen: list[Any] = []
    with capture_spans(provider_lookup=True), session("A"):
        with client_of(transport) as client:
            unknown = "resp_68af4030592c81938ec0a5fbab4a3e9f05438e46b5f69a3b"
            client.post("/responses", cast_to=object, body={"previous_response_id": unknown, "session_id": "B"})
    assert seen == ["B"]
