"""What is broken around us (stores, samplers, processors, exporters) never reaches the application."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from broken_kit import BrokenExporter, BrokenSampler
from loopback_client import MESSAGES, MODEL
from openai import OpenAI
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from promises_kit import CHAT, STREAM, outcome, same_with_and_without, seen
from providers_kit import provider_with

from otel_llm_sessions import OpenAISessionsInstrumentor, guard, session
from otel_llm_sessions.testing import capture_spans

# --- what fails around us -----------------------------------------------------------------------------------


class BrokenStore:
    scope = "broken"

    def _fail(self, *_: Any) -> Any:
        raise OSError("the store is down")

    get_all = put = claim = _fail

    async def aget_all(self, keys: Any) -> Any:
        self._fail()

    aput = aclaim = aget_all

    def close(self) -> None:
        """Nothing to close."""


class BrokenIds(RandomIdGenerator):
    def generate_span_id(self) -> int:
        raise OSError("no ids today")


class BrokenStart(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise OSError("no start today")


class BrokenEnd(SpanProcessor):
    def on_end(self, span: Any) -> None:
        raise OSError("no end today")


BROKEN: dict[str, Callable[[], dict[str, Any]]] = {
    "store": lambda: {"store": BrokenStore()},
    "exporter": lambda: {"tracer_provider": provider_with(SimpleSpanProcessor(BrokenExporter()))},
    "id generator": lambda: {"tracer_provider": provider_with(id_generator=BrokenIds())},
    "sampler": lambda: {"tracer_provider": provider_with(sampler=BrokenSampler())},
    "processor at start": lambda: {"tracer_provider": provider_with(BrokenStart())},
    "processor at end": lambda: {"tracer_provider": provider_with(BrokenEnd())},
}


def everything(server: Any, client: OpenAI) -> Any:
    """One of each kind of call."""
    found = []
    for extra in ({}, {"extra_headers": {"x-session-id": "s"}}):
        server.script(CHAT)
        found.append(seen(client.chat.completions.create(model=MODEL, messages=MESSAGES, **extra)))
        server.script_stream(STREAM)
        stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, **extra)
        found.append([seen(chunk) for chunk in stream])
        server.script({"error": {"message": "no"}}, status=400)
        found.append(outcome(lambda: client.responses.create(model=MODEL, input="x", **extra)))
    return found


@pytest.mark.parametrize("traces", ["session", "turn"])
@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_broken_never_reaches_the_application(server, client, caplog, nothing_reported, broken, traces):
    bare = everything(server, client)
    OpenAISessionsInstrumentor().instrument(traces=traces, **BROKEN[broken]())
    try:
        with caplog.at_level(logging.WARNING):
            assert everything(server, client) == bare
            assert everything(server, client) == bare
    finally:
        OpenAISessionsInstrumentor().uninstrument()
    assert not trace.get_current_span().get_span_context().is_valid
    warnings = [record.getMessage() for record in caplog.records if record.name == "otel_llm_sessions"]
    assert len(warnings) == len(set(warnings))
    if broken != "exporter":  # that one the SDK reports itself
        assert warnings


async def test_a_broken_store_never_reaches_an_async_application(server, async_client, caplog, nothing_reported):
    with capture_spans(store=BrokenStore()):
        server.script(CHAT)
        reply = await async_client.chat.completions.create(
            model=MODEL, messages=MESSAGES, extra_headers={"x-session-id": "s"}
        )
        stream = await async_client.responses.create(model=MODEL, input="x", stream=True)
        assert [event async for event in stream]
    assert reply.id == CHAT["id"]
    assert "the store is down" in caplog.text


def test_session_blocks_survive_a_broken_store(client, caplog, nothing_reported):
    with capture_spans(store=BrokenStore()), session("s"):
        client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert caplog.records


def test_one_warning_per_kind_of_failure(caplog, nothing_reported):
    with caplog.at_level(logging.DEBUG, logger="otel_llm_sessions"):
        for _ in range(3):
            guard.report("fail", OSError("x"))
        guard.report("fail", ValueError("x"))
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "DEBUG", "DEBUG", "WARNING"]


def test_odd_options_pass_through(client, ours):
    """``request`` is called with whatever somebody makes of it; what fails is the client's own."""
    for body in (b"bytes", ["a", "list"], None, "text"):
        same_with_and_without(
            lambda body=body: outcome(lambda: client.post("/responses", body=body, cast_to=object))[:1]
        )
    assert not ours
