"""The steps of a call, taken by hand: for a span that no HTTP request carries, and for evidence of a new kind."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from session_kit import calls

from otel_llm_sessions import semconv
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.evidence import LEFT, READERS, Asked, Left, Reader, evidence_of
from otel_llm_sessions.openai.flow import abegin, adeliver, begin, deliver
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.routes import RESPONSES, Match
from otel_llm_sessions.openai.runtime import Runtime, make_runtime
from otel_llm_sessions.openai.server import Server
from otel_llm_sessions.sessions.resolver import Tie
from otel_llm_sessions.settings import Settings
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.telemetry.metrics import MetricsSource
from otel_llm_sessions.testing import capture_spans
from otel_llm_sessions.traces.home import Homes

SERVER = Server("socket.test", 443, "openai", "socket.test:443", "socket.test", None, True)


@pytest.fixture
def runtime() -> Runtime:
    """What an instrumentation holds, without a client."""
    settings, store = Settings(), MemoryStore()
    provider = TracerProvider(shutdown_on_exit=False)
    return make_runtime(settings, store, Homes(provider, settings, store), MetricsSource(None))


def asked(previous: str | None) -> Request:
    """One ``response.create`` of a socket."""
    said = evidence_of("responses", None, previous, {}, SERVER)
    attributes: dict[str, Any] = {semconv.REQUEST_MODEL: "m"}
    return Request(Match(RESPONSES, None), SERVER, "chat m", "m", attributes, said, True, True)


def event(kind: str, response_id: str) -> dict[str, Any]:
    return {"type": kind, "response": {"id": response_id, "model": "m", "status": kind.removeprefix("response.")}}


def test_a_span_that_no_request_carries_goes_through_the_same_steps(runtime):
    turns = []
    for previous, response_id in ((None, "resp_9f8e7d6c5b4a39281706f5e4"), ("resp_9f8e7d6c5b4a39281706f5e4", "resp_2")):
        call = Call(runtime, asked(previous))
        begin(call)
        call.see(event("response.created", response_id))
        call.see(event("response.completed", response_id))
        call.finish()
        deliver(call)
        turns.append(call.turn)
    assert [turn.session_id for turn in turns] == ["resp_9f8e7d6c5b4a39281706f5e4"] * 2
    assert [turn.resolution.turn for turn in turns] == [1, 2]
    assert turns[0].placement.trace == turns[1].placement.trace


async def test_on_an_event_loop_too(runtime):
    call = Call(runtime, asked(None))
    await abegin(call)
    call.see(event("response.created", "resp_9f8e7d6c5b4a39281706f5e4"))
    call.finish(cut_short=True)
    await adeliver(call)
    (link,) = runtime.store.get_all(["r:resp_9f8e7d6c5b4a39281706f5e4"])
    assert link is not None
    assert link.end


def test_a_new_kind_of_evidence_is_a_row_in_two_tables(api, server, monkeypatch):
    """A made-up one: what a server calls ``batch`` comes back in a later request."""

    def reads(asked: Asked) -> tuple[Tie, ...]:
        return (Tie("item", f"x:{asked.body['batch']}"),)

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
