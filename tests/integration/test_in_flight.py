"""A call that is made while another is in flight: by a gateway or a guardrail in the transport, or by a processor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from answered import async_client_of, client_of
from loopback_client import MESSAGES
from odd_kit import CHUNK
from opentelemetry.context import attach, detach, get_current, set_value
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind
from session_kit import named

from otel_llm_sessions import session
from otel_llm_sessions.telemetry.span import UTIL_GENAI_INFERENCE
from otel_llm_sessions.testing import capture_spans


@pytest.fixture
def provider() -> TracerProvider:
    return TracerProvider(shutdown_on_exit=False)


@pytest.fixture
def spans(provider):
    with capture_spans(tracer_provider=provider) as captured:
        yield captured


GUARD = {"x-session-id": "GUARD"}
USER = {"x-session-id": "USER"}


def reply(request: Any) -> Any:
    body = json.loads(request.content)
    if body.get("stream"):
        events = b"".join(b"data: %s\n\n" % data for data in (json.dumps(CHUNK).encode(), b"[DONE]"))
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=events)
    completion = {**CHUNK, "object": "chat.completion", "id": f"chatcmpl-{body['model']}"}
    return httpx2.Response(200, json=completion)


def guard(**arguments: Any) -> Any:
    """Asks another model."""
    arguments = {"extra_headers": GUARD, "model": "guard", **arguments}
    return client_of(reply).chat.completions.create(messages=MESSAGES, **arguments)


def gateway(inner: Callable[[], Any] = guard) -> Callable[[Any], Any]:
    def handle(request: Any) -> Any:
        inner()
        return reply(request)

    return handle


def ask(client: Any, **arguments: Any) -> Any:
    return client.chat.completions.create(**{"model": "user", "messages": MESSAGES, "extra_headers": USER, **arguments})


def root_of(spans: Any, session_id: str) -> Any:
    (root,) = [s for s in spans if s.attributes.get("llm_session.root") and s.attributes["session.id"] == session_id]
    return root


def check_apart(spans: Any) -> None:
    """Each call is a turn below the root of its own session, and nothing else is there."""
    for model, session_id in (("user", "USER"), ("guard", "GUARD")):
        turn, root = named(spans, f"chat {model}"), root_of(spans, session_id)
        assert turn.attributes["session.id"] == session_id
        assert turn.attributes["llm_session.turn"] == 1
        assert turn.attributes["gen_ai.request.model"] == model
        assert (turn.parent.span_id, turn.context.trace_id) == (root.context.span_id, root.context.trace_id)
    assert len(spans) == 4


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("inner", [False, True])
def test_a_call_in_the_transport_of_another_has_a_session_of_its_own(spans, outer, inner):
    answer = ask(client_of(gateway(lambda: list(guard(stream=True)) if inner else guard())), stream=outer)
    if outer:
        list(answer)
    check_apart(spans)
    assert not get_current()


@pytest.mark.parametrize("outer", [False, True])
async def test_an_async_call_in_the_transport_of_another(spans, outer):
    async def handle(request: Any) -> Any:
        await ask(async_client_of(reply), model="guard", extra_headers=GUARD)
        return reply(request)

    answer = await ask(async_client_of(handle), stream=outer)
    if outer:
        assert [chunk async for chunk in answer]
    check_apart(spans)
    assert not get_current()


def test_calls_in_flight_in_each_other_three_deep(spans):
    middle = client_of(gateway(lambda: guard(model="third", extra_headers={"x-session-id": "THIRD"})))
    ask(client_of(gateway(lambda: ask(middle, model="guard", extra_headers=GUARD))))
    third = named(spans, "chat third")
    assert third.parent.span_id == root_of(spans, "THIRD").context.span_id
    check_apart([span for span in spans if span.attributes["session.id"] != "THIRD"])


def test_a_chain_in_the_transport_of_another_opens_its_own_trace(spans):
    ask(client_of(gateway(lambda: guard(extra_headers={}))))
    inner, outer = named(spans, "chat guard"), named(spans, "chat user")
    assert inner.parent is None
    assert inner.context.trace_id != outer.context.trace_id


def test_both_stand_below_the_applications_own_span(spans, provider):
    with provider.get_tracer("app").start_as_current_span("web request") as request:
        ask(client_of(gateway()))
    inner, outer = named(spans, "chat guard"), named(spans, "chat user")
    assert inner.parent.span_id == outer.parent.span_id == request.get_span_context().span_id
    assert inner.attributes["session.id"] == "GUARD"


def test_a_span_of_the_transports_own_stays_around_the_inner_call(spans, provider):
    def in_a_span() -> None:
        with provider.get_tracer("http").start_as_current_span("POST", kind=SpanKind.CLIENT):
            guard()

    ask(client_of(gateway(in_a_span)))
    assert named(spans, "chat guard").parent.span_id == named(spans, "POST").context.span_id
    assert named(spans, "POST").parent.span_id == named(spans, "chat user").context.span_id


def test_a_session_entered_in_the_transport_has_a_trace_of_its_own(spans):
    def in_a_session() -> None:
        with session("GUARD"):
            guard(extra_headers={})

    ask(client_of(gateway(in_a_session)))
    check_apart(spans)


def test_a_call_left_behind_by_a_transport_is_nobodys_part(spans):
    """A task that was started in it has our span for its current one, long after that has ended."""

    async def main() -> None:
        tasks = []

        async def handle(request: Any) -> Any:
            async def later() -> None:
                await over.wait()
                await ask(async_client_of(reply), model="guard", extra_headers=GUARD)

            tasks.append(asyncio.create_task(later()))
            return reply(request)

        over = asyncio.Event()
        await ask(async_client_of(handle))
        over.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    check_apart(spans)


LLM_SPAN = {"openinference.span.kind": "LLM"}


def test_the_span_of_another_instrumentation_stands_for_one_call_at_a_time(spans, provider):
    with provider.get_tracer("other").start_as_current_span("LLM", attributes=LLM_SPAN) as theirs:
        ask(client_of(gateway()))
    assert named(spans, "LLM").attributes["session.id"] == "USER"
    inner = named(spans, "chat guard")
    assert inner.attributes["session.id"] == "GUARD"
    assert inner.parent.span_id == theirs.get_span_context().span_id


def test_util_genais_span_stands_for_one_call_at_a_time(spans):
    class Data:
        def __init__(self) -> None:
            self.attributes: dict[str, Any] = {}

    data = Data()
    token = attach(set_value(UTIL_GENAI_INFERENCE, data))
    try:
        ask(client_of(gateway()))
    finally:
        detach(token)
    assert data.attributes["session.id"] == "USER"
    assert named(spans, "chat guard").attributes["session.id"] == "GUARD"


class Asking(SpanProcessor):
    """Asks a model about each of the application's calls, as they start or end."""

    def __init__(self, at: str) -> None:
        self._at = at

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._ask("start", span)

    def on_end(self, span: Any) -> None:
        self._ask("end", span)

    def _ask(self, at: str, span: Any) -> None:
        if at == self._at and span.name == "chat user":
            guard()


@pytest.mark.parametrize("at", ["start", "end"])
def test_a_call_that_a_processor_makes_has_a_session_of_its_own(provider, spans, at):
    provider.add_span_processor(Asking(at))
    ask(client_of(reply))
    check_apart(spans)
