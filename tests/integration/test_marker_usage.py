"""Markers say what their turns used, without adding to it."""

from __future__ import annotations

from typing import Any

import pytest
from session_kit import a_process

USED = ("llm_session.usage.input_tokens", "llm_session.usage.output_tokens")
NAMED: dict[str, Any] = {"extra_body": {"metadata": {"session_id": "X"}}}


@pytest.fixture
def traced():
    with a_process() as process:
        yield process


def used(spans: list[Any]) -> list[tuple[Any, ...]]:
    """What the markers say was used, in the order in which they ended."""
    return [tuple(span.attributes.get(name) for name in USED) for span in spans if span.name == "turn"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_marker_of_a_nested_turn_has_its_tokens(api, traced, stream):
    spans, tracer = traced
    asked = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    with tracer.start_as_current_span("request"):
        reply = api.chat("Hello there", **NAMED, **asked)
        if stream:
            api.read(reply)
    (call,) = [span for span in spans if span.name.startswith("chat")]
    counts = call.attributes["gen_ai.usage.input_tokens"], call.attributes["gen_ai.usage.output_tokens"]
    assert used(spans) == [counts]
    assert counts[0] > 0


def test_markers_made_after_the_fact_have_the_tokens_of_their_turns(api, traced):
    spans, tracer = traced
    with tracer.start_as_current_span("request"):
        first = api.respond()
    with tracer.start_as_current_span("another request"):
        second = api.respond("And now something longer than that", previous_response_id=first.id)
    assert used(spans) == [(reply.usage.input_tokens, reply.usage.output_tokens) for reply in (first, second)]


def test_the_marker_of_a_turn_that_is_another_instrumentations_span_has_its_tokens(api, traced):
    spans, tracer = traced
    with tracer.start_as_current_span("theirs", attributes={"openinference.span.kind": "LLM"}):
        reply = api.respond(**NAMED)
    assert used(spans) == [(reply.usage.input_tokens, reply.usage.output_tokens)]


def test_the_marker_of_a_turn_without_usage_has_none(client, traced):
    spans, tracer = traced
    with tracer.start_as_current_span("request"):
        for _ in client.chat.completions.create(model="m", messages=[], stream=True, **NAMED):
            pass
    assert used(spans) == [(None, None)]
