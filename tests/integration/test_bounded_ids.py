"""Ids from outside are bounded and printable before anything is kept by them (docs/architecture.md)."""

from __future__ import annotations

import gc
import json
from typing import Any

import openai
import pytest
from answered import async_client_of, client_of, httpx
from odd_kit import empty
from openai import OpenAI

from otel_llm_sessions.testing import capture_spans

MEGABYTE = "x" * 1_000_000
ODD = [MEGABYTE, "a\nb\0\x1b[31m", "\ud800", " ", "ü" * 1000]
SENDABLE = [id_ for id_ in ODD if id_ != "\ud800"]
"""The client refuses to send the others."""

USABLE = "resp_0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a6978"


def resident() -> int:
    """Bytes of memory that the process holds."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def answering(reply: Any, status: int = 200) -> OpenAI:
    return client_of(lambda request: httpx.Response(status, content=json.dumps(reply)))


def said(spans: Any) -> str:
    return "".join(str(value) for span in spans for value in (span.name, *span.attributes.values()))


def test_failed_calls_with_ids_of_many_characters_cost_no_memory():
    client = answering({"error": {"message": "not found"}}, 404)

    def visit(number: int) -> None:
        with pytest.raises(openai.NotFoundError):
            client.responses.create(model="m", input="x", previous_response_id=f"{number}{MEGABYTE[:400_000]}")

    with capture_spans() as spans:
        visit(0)
        gc.collect()
        before = resident()
        for number in range(1, 80):
            visit(number)
            spans.clear()
        gc.collect()
        assert resident() - before < 15_000_000


@pytest.mark.parametrize("odd", SENDABLE, ids=range(len(SENDABLE)))
def test_a_previous_response_that_is_no_id_is_no_evidence(both_modes, odd):
    client = answering(empty(USABLE))
    client.responses.create(model="m", input="x", previous_response_id=odd)
    (call,) = (span for span in both_modes if span.name == "chat m")
    assert (call.attributes["session.id"], call.attributes["llm_session.source"]) == (USABLE, "new")
    assert "gen_ai.request.previous_response.id" not in call.attributes
    assert len(said(both_modes)) < 2_000


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_whose_id_is_none_names_nothing(both_modes, odd, stream):
    reply = {"id": odd, "object": "response", "status": "completed", "output": [], "conversation": {"id": odd}}
    reply |= {"previous_response_id": odd, "model": "m", "metadata": {"session.id": odd}}
    body = json.dumps(reply)
    if stream:
        body = f'event: response.completed\ndata: {{"type": "response.completed", "response": {body}}}\n\n'
    headers = {"content-type": "text/event-stream" if stream else "application/json"}
    client = client_of(lambda request: httpx.Response(200, content=body, headers=headers))
    result = client.responses.create(model="m", input="x", stream=stream)
    if stream:
        list(result)
    (call,) = (span for span in both_modes if span.name == "chat m")
    assert "session.id" not in call.attributes
    assert "gen_ai.response.id" not in call.attributes
    assert "gen_ai.conversation.id" not in call.attributes
    assert len(said(both_modes)) < 2_000


@pytest.mark.parametrize("odd", SENDABLE, ids=range(len(SENDABLE)))
def test_a_conversation_and_a_fetched_id_that_are_none_name_nothing(both_modes, odd):
    client = answering(empty(USABLE))
    client.responses.create(model="m", input="x", conversation=odd)
    if odd.isprintable() and len(odd) < 60_000:
        client.responses.retrieve(odd)
    assert {span.attributes.get("session.id") for span in both_modes} <= {USABLE, None}
    assert not any("gen_ai.conversation.id" in span.attributes for span in both_modes)


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_what_a_retrieved_response_carries_is_bounded_too(both_modes, odd):
    reply = {"id": USABLE, "object": "response", "status": "completed", "output": [], "previous_response_id": odd}
    reply["metadata"] = {"session.id": odd, "llm_session.id": odd, "traceparent": odd, "tracestate": odd}
    client = answering(reply)
    client.responses.retrieve(USABLE)
    (fetch,) = both_modes
    assert (fetch.attributes["session.id"], fetch.attributes["llm_session.source"]) == (USABLE, "chain_partial")


@pytest.mark.parametrize("id_", ["resp_bGl0ZWxs/bTpj+dXN0b21f==/Q2hhbmdlTWU9", "resp_100%2Fsure+%25/x" + "9f3c7a" * 8])
def test_ids_with_slashes_and_percents_are_found_again_by_fetching_and_cancelling(both_modes, id_):
    client = answering(empty(id_))
    client.responses.create(model="m", input="x")
    client.responses.retrieve(id_)
    client.responses.cancel(id_)
    calls = [span for span in both_modes if span.name in ("chat m", "fetch_response", "cancel_response")]
    assert len(calls) == 3
    assert len({span.attributes["session.id"] for span in calls}) == 1
    assert {span.attributes["gen_ai.response.id"] for span in calls} == {id_}
    assert [span.attributes["llm_session.source"] for span in calls] == ["new", "chain", "chain"]


async def test_ids_of_a_megabyte_are_no_evidence_on_an_event_loop_either():
    client = async_client_of(lambda request: httpx.Response(404, json={}))
    with capture_spans(provider_lookup=True) as spans:
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model="m", input="x", previous_response_id=MEGABYTE)
    assert len(said(spans)) < 2_000
