"""What a look-up at the provider does not ask, and where it ends; beside another instrumentation's spans."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from lookup_kit import BRIEF, LATE, answer_late, calls, no_walk_is_left, retrieved, second_of, the_call
from loopback_client import MODEL, THINKING, options_for
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from session_kit import found
from waiting import until

from otel_llm_sessions import session
from otel_llm_sessions.openai import provider_lookup
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

SPANS = {"provider_lookup": True}
"""The settings of the fixture ``spans``."""


pytestmark = pytest.mark.usefixtures("warned", "thinks_meanwhile")


# --- a provider that does not know --------------------------------------------------------------------------


def test_a_provider_that_failed_is_asked_again_after_a_while(api, server, chain, spans, monkeypatch):
    ids = chain(2)
    server.script(b"oops", status=500, path=ids[-1])
    api.respond(previous_response_id=ids[-1], **THINKING)
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + provider_lookup.REST)
    api.respond(previous_response_id=ids[-1], **THINKING)
    assert [found(span) for span in calls(spans)] == [(ids[-1], "chain_partial", 2), (ids[0], "provider", 3)]


def test_a_response_that_is_not_there_is_not_asked_for_again_but_others_are(api, server, chain, spans):
    ids = chain(2)
    gone = "resp_gone_4f9c02d7e18b6a35c03e97f1b2"
    for _ in range(2):
        server.script({"id": "resp_a_4f9c02d7e18b6a35c03e97f1", "object": "response"}, path="/responses", delay=0.05)
        api.respond(previous_response_id=gone)
    api.respond(previous_response_id=ids[-1], **THINKING)
    assert retrieved(server) == [gone, *ids[::-1]]
    assert [found(span) for span in calls(spans)] == [(gone, "chain_partial", 2)] * 2 + [(ids[0], "provider", 3)]


def test_a_chain_whose_beginning_is_gone_is_named_by_its_oldest_id(api, server, chain, spans):
    ids = chain(3)
    with openai.OpenAI(**options_for(server)) as owner:
        owner.responses.delete(ids[0])
    server.requests.clear()
    last = api.respond(previous_response_id=ids[2], **THINKING).id
    api.respond(previous_response_id=last, **BRIEF)
    assert [found(span) for span in calls(spans)] == [(ids[0], "chain_partial", 4), (ids[0], "chain", 5)]
    assert retrieved(server) == ids[::-1], "it is asked for once"


def test_a_chain_that_is_too_long_to_walk_in_time_is_not_walked_at_each_turn(api, server, chain, spans, monkeypatch):
    monkeypatch.setattr(provider_lookup, "TIME_LIMIT", 0.6)
    ids, others = chain(2), chain(2)
    reply = second_of(ids)
    server.script(reply, path=ids[1], delay=0.4)
    server.script({"id": ids[0], "object": "response", "previous_response_id": "resp_0"}, path=ids[0], delay=0.4)
    last = api.respond(previous_response_id=ids[1], **THINKING).id
    until(no_walk_is_left)
    server.requests.clear()
    api.respond(previous_response_id=last, **BRIEF)
    assert not retrieved(server)
    api.respond(previous_response_id=others[1], **THINKING)
    assert retrieved(server) == others[::-1], "the provider is well"


def test_at_most_fifty_responses_are_retrieved(client, server, chain, spans, monkeypatch):
    monkeypatch.setattr(provider_lookup, "TIME_LIMIT", 5.0)
    ids = chain(60)
    client.responses.create(model=MODEL, input="x", previous_response_id=ids[-1], **THINKING)
    assert retrieved(server) == ids[:9:-1]
    assert found(the_call(spans)) == (ids[-1], "chain_partial", 2)


def test_a_chain_that_is_too_long_is_walked_once_and_is_one_trace_from_then_on(
    client, server, chain, spans, monkeypatch
):
    monkeypatch.setattr(provider_lookup, "TIME_LIMIT", 5.0)
    last = chain(60)[-1]
    for way in (THINKING, BRIEF, {}, BRIEF):  # the third call ends before anything can be looked up
        last = client.responses.create(model=MODEL, input="x", previous_response_id=last, **way).id
        until(no_walk_is_left)
    assert len(retrieved(server)) == 50
    assert [span.attributes["llm_session.turn"] for span in calls(spans)] == [2, 3, 4, 5]
    assert len({span.context.trace_id for span in calls(spans)[1:]}) == 1


def test_a_response_that_was_fetched_under_another_id_is_asked_for(api, server, chain, spans):
    """LiteLLM answers `retrieve` with another id than was asked for."""
    ids = chain(3)
    plain = "resp_0f1e2d3c4b5a69788796a5b4c3d2e1f0"
    server.script({"id": plain, "object": "response", "previous_response_id": ids[1], "output": []}, path=ids[2])
    api.retrieve(ids[2])
    server.requests.clear()
    api.respond(previous_response_id=ids[2], **THINKING)
    assert retrieved(server) == ids[::-1]
    assert found(calls(spans)[-1]) == (ids[0], "provider", 4)


def test_a_chain_that_goes_in_circles_ends(api, server, spans):
    one, two = "resp_one_4f9c02d7e18b6a35c03e97f", "resp_two_4f9c02d7e18b6a35c03e97f"
    server.script({"id": one, "object": "response", "previous_response_id": two}, path=one)
    server.script({"id": two, "object": "response", "previous_response_id": one}, path=two)
    server.script({"id": "resp_x_4f9c02d7e18b6a35c03e97f1", "object": "response"}, path="/responses", delay=5)
    api.respond(previous_response_id=one)
    assert retrieved(server) == [one, two]
    assert found(the_call(spans)) == (one, "chain_partial", 2)


@pytest.mark.slow
def test_a_provider_that_never_answers_is_given_two_seconds(api, server, chain, spans):
    ids, others = chain(1), chain(1)
    server.script(b"", path=ids[0], delay=30)
    api.respond(previous_response_id=ids[0], extra_headers={"x-loopback-mode": "delay=2.5"})
    assert found(calls(spans)[0]) == (ids[0], "chain_partial", 2)
    api.respond(previous_response_id=others[0], **THINKING)
    api.respond(previous_response_id=ids[0], **THINKING)
    assert retrieved(server) == [*ids, *others]  # one slow answer is no other response's, and is not waited for again


async def test_a_provider_whose_answer_trickles_in_is_given_no_longer(spans, monkeypatch):
    monkeypatch.setattr(provider_lookup, "TIME_LIMIT", 0.2)
    left = asyncio.Event()
    reply = b'{"id": "resp_x_4f9c02d7e18b6a35c03e97f1", "object": "response", "output": []}'

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        if head.startswith(b"GET"):
            while not writer.is_closing():  # nothing is read here that could end
                writer.write(b"x-more: 1\r\n")
                await asyncio.sleep(0.02)
            left.set()
        else:
            writer.write(b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(reply), reply))
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="test", max_retries=0) as client:
        await client.responses.create(model=MODEL, input="x", previous_response_id="resp_y_4f9c02d7e18b6a35c03e97f1")
        await asyncio.wait_for(left.wait(), 10)
    listening.close()
    await listening.wait_closed()


# --- what is not asked --------------------------------------------------------------------------------------


def test_a_session_that_is_named_needs_nobody_to_ask(api, server, chain, spans):
    (first,) = chain(1)
    api.respond(previous_response_id=first, metadata={"session_id": "mine"})
    with session("mine too"):
        api.respond(previous_response_id=first)
    api.respond(conversation=None)
    api.chat()
    api.retrieve(first)
    assert retrieved(server) == [first], "the application's own"


def test_one_walk_answers_all_that_ask_for_the_same(server, chain, spans):
    ids = chain(2)
    with openai.OpenAI(**options_for(server)) as client, ThreadPoolExecutor(20) as pool:
        arguments = {"model": MODEL, "input": "x", "previous_response_id": ids[-1], **THINKING}
        list(pool.map(lambda _: client.responses.create(**arguments), range(20)))
    assert retrieved(server) == ids[::-1]
    # Who comes when the walk is over finds what it left in the store.
    assert {found(span) for span in calls(spans)} - {(ids[0], "chain", 3)} == {(ids[0], "provider", 3)}
    assert len([span for span in spans if span.name == "session"]) == 1


def test_there_are_only_so_many_walks_at_a_time(server, chain, spans, monkeypatch):
    monkeypatch.setattr(provider_lookup, "MAX_WALKS", 2)
    ids = [chain(1)[0] for _ in range(6)]
    with openai.OpenAI(**options_for(server)) as client, ThreadPoolExecutor(6) as pool:
        arguments = {"model": MODEL, "input": "x", **THINKING}
        for id_ in ids:
            server.script({"id": id_, "object": "response"}, path=id_, delay=0.1)
        list(pool.map(lambda id_: client.responses.create(**arguments, previous_response_id=id_), ids))
        until(no_walk_is_left)
    assert len(retrieved(server)) == 2
    assert Counter(found(span)[1] for span in calls(spans)) == {"provider": 2, "chain_partial": 4}


# --- beside others ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["in time", "late"])
def test_the_span_of_another_instrumentation_is_annotated(client, server, chain, answer):
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    ids = chain(2)
    provider = TracerProvider(shutdown_on_exit=False)
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    try:
        with capture_spans(provider_lookup=True, traces="turn", tracer_provider=provider) as spans:
            if answer == "late":
                server.script({"id": ids[1], "object": "response"}, path=ids[1], **LATE)
            delayed = THINKING if answer == "in time" else {}
            client.responses.create(model=MODEL, input="x", previous_response_id=ids[1], **delayed)
            answer_late(server)
    finally:
        OpenAIInstrumentor().uninstrument()
    (call,) = spans
    expected = (ids[0], "provider", 3) if answer == "in time" else (ids[1], "chain_partial", 2)
    assert found(call) == expected


def test_only_annotating_makes_no_span_and_keeps_the_chain(client, server, chain):
    ids = chain(2)
    with capture_spans(provider_lookup=True, spans="annotate", store=(store := MemoryStore())) as spans:
        third = client.responses.create(model=MODEL, input="x", previous_response_id=ids[1], **THINKING)
        link = store.get_all([f"r:{third.id}"])[0]
    assert not spans
    assert (link.session_id, link.turn) == (ids[0], 3)


def test_metrics_measure_the_whole_call(client, server, chain):
    ids = chain(1)
    server.script({"id": ids[0], "object": "response"}, path=ids[0], delay=0.1)
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    with capture_spans(provider_lookup=True, meter_provider=meters):
        client.responses.create(model=MODEL, input="x", previous_response_id=ids[0], **THINKING)
    (resource,) = reader.get_metrics_data().resource_metrics
    metrics = {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}
    (point,) = metrics["gen_ai.client.operation.duration"].data.data_points
    assert point.sum >= 0.1
