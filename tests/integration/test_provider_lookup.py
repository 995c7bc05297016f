"""``PROVIDER_LOOKUP``: what nobody here knows is asked of the provider, beside the application's request."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest
from lookup_kit import BRIEF, LATE, SLOW, answer_late, calls, no_walk_is_left, retrieved, second_of, the_call
from loopback_client import MODEL, THINKING, options_for
from opentelemetry import trace
from opentelemetry.instrumentation.utils import (
    is_http_instrumentation_enabled,
    is_instrumentation_enabled,
)
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from session_kit import found
from waiting import auntil, until

from otel_llm_sessions import session_trace_id
from otel_llm_sessions.openai import provider_lookup
from otel_llm_sessions.openai.held import HELD
from otel_llm_sessions.testing import capture_spans

SPANS = {"provider_lookup": True}
"""The settings of the fixture ``spans``."""


pytestmark = pytest.mark.usefixtures("warned", "thinks_meanwhile")


# --- what it finds ------------------------------------------------------------------------------------------


def test_the_chain_is_walked_up_to_its_first_response(api, server, chain, spans):
    ids = chain(3)
    api.respond(previous_response_id=ids[-1], **THINKING)
    assert retrieved(server) == ids[::-1]
    call = the_call(spans)
    assert found(call) == (ids[0], "provider", 4)
    assert call.parent is None, "it stood before anybody knew where its session is"
    assert "gen_ai.conversation.id" not in call.attributes
    assert call.attributes["gen_ai.usage.input_tokens"] > 0
    (root,) = [span for span in spans if span.name == "session"]
    (marker,) = [span for span in spans if span.name == "turn"]
    assert f"{root.context.trace_id:032x}" == session_trace_id(ids[0])
    assert marker.parent.span_id == root.context.span_id
    assert marker.links[0].context.span_id == call.context.span_id
    assert [link.context.span_id for link in call.links] == [root.context.span_id]
    assert (marker.start_time, marker.end_time) == (call.start_time, call.end_time)
    assert root.start_time == call.start_time


def test_nothing_is_asked_unless_a_setting_says_so(api, server, chain):
    ids = chain(2)
    with capture_spans() as spans:
        api.respond(previous_response_id=ids[-1], **SLOW)
    assert not retrieved(server)
    assert found(the_call(spans)) == (ids[-1], "chain_partial", 2)


def test_the_environment_may_say_so(api, server, chain, monkeypatch):
    monkeypatch.setenv("OTEL_LLM_SESSIONS_PROVIDER_LOOKUP", "true")
    ids = chain(2)
    with capture_spans() as spans:
        api.respond(previous_response_id=ids[-1], **THINKING)
    assert found(the_call(spans)) == (ids[0], "provider", 3)


def test_what_was_found_is_remembered_for_all_turns_on_the_way(api, server, chain, spans):
    ids = chain(3)
    api.respond(previous_response_id=ids[-1], **THINKING)
    until(no_walk_is_left)
    server.requests.clear()
    for id_ in ids:
        api.respond(previous_response_id=id_)
    assert not retrieved(server)
    assert [found(span) for span in calls(spans)[1:]] == [(ids[0], "chain", turn) for turn in (2, 3, 4)]


def test_the_walk_ends_where_the_store_knows_the_way(api, server, elsewhere, spans):
    first = api.respond()
    second = elsewhere(previous_response_id=first.id)
    third = elsewhere(previous_response_id=second)
    api.respond(previous_response_id=third, **THINKING)
    assert retrieved(server) == [third, second]
    begun, call = calls(spans)
    assert found(call) == (first.id, "provider", 4)
    (marker,) = [span for span in spans if span.name == "turn"]
    assert (marker.context.trace_id, marker.parent) == (begun.context.trace_id, begun.parent)
    kinds = [link.attributes["llm_session.link"] for link in call.links]
    assert kinds == ["session"], "its predecessor is another process's, whose span nobody knows"


def test_a_session_that_the_application_named_in_an_earlier_turn_is_found(api, elsewhere, spans):
    first = elsewhere(metadata={"litellm_session_id": "support-42"})
    second = elsewhere(previous_response_id=first)
    api.respond(previous_response_id=second, **THINKING)
    call = the_call(spans)
    assert found(call) == ("support-42", "provider", 3)
    assert call.attributes["gen_ai.conversation.id"] == "support-42"


def test_a_nested_turn_stays_in_its_trace_and_is_marked(api, server, chain):
    ids = chain(2)
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(provider_lookup=True, tracer_provider=provider) as spans:
        with provider.get_tracer("web").start_as_current_span("GET /") as around:
            api.respond(previous_response_id=ids[-1], **THINKING)
    call = the_call(spans)
    assert call.parent.span_id == around.get_span_context().span_id
    (marker,) = [span for span in spans if span.name == "turn"]
    assert f"{marker.context.trace_id:032x}" == session_trace_id(ids[0])
    assert marker.links[0].context.span_id == call.context.span_id
    assert (marker.start_time, marker.end_time) == (call.start_time, call.end_time)


def test_with_traces_turn_the_span_stays_where_it_is(api, server, chain):
    ids = chain(2)
    with capture_spans(provider_lookup=True, traces="turn") as spans:
        api.respond(previous_response_id=ids[-1], **THINKING)
    (call,) = spans
    assert found(call) == (ids[0], "provider", 3)
    assert call.parent is None


def test_both_ids_of_a_response_become_known(api, server, spans):
    """LiteLLM answers `retrieve` with another id than was asked for."""
    sealed, plain = "resp_" + hashlib.shake_256(b"sealed").hexdigest(224), "resp_0f1e2d3c4b5a69788796a5b4c3d2e1f0"
    for _ in range(2):
        server.script({"id": plain, "object": "response", "output": []}, path=sealed)
    server.script({"id": "resp_next_4f9c02d7e18b6a35c03e9", "object": "response"}, path="/responses", delay=5)
    api.respond(previous_response_id=sealed)
    until(no_walk_is_left)
    name = sealed[:24] + "~" + hashlib.sha256(sealed.encode()).hexdigest()[:32]
    assert found(the_call(spans)) == (name, "provider", 2)
    server.requests.clear()
    for number, id_ in enumerate((sealed, plain)):
        server.script({"id": f"resp_more_4f9c02d7e18b6a35c03e{number}", "object": "response"}, path="/responses")
        api.respond(previous_response_id=id_)
    assert not retrieved(server)
    assert {found(span) for span in calls(spans)[1:]} == {(name, "chain", 2)}


# --- beside, never before or after --------------------------------------------------------------------------


def test_a_chain_that_goes_on_before_the_answer_comes_is_put_right_when_it_does(client, server, chain, spans):
    ids = chain(2)
    last = ids[1]
    for _ in range(3):
        server.script(second_of(ids), path=ids[1], **LATE)
        last = client.responses.create(model=MODEL, input="x", previous_response_id=last).id
    until(lambda: retrieved(server))  # by the first alone: the others follow it
    answer_late(server)
    client.responses.create(model=MODEL, input="x", previous_response_id=last, **SLOW)
    in_order = sorted(calls(spans), key=lambda span: span.start_time)
    assert [found(span)[::2] for span in in_order] == [(ids[0], turn) for turn in (3, 4, 5, 6)]
    before = [link for link in in_order[-1].links if link.attributes["llm_session.link"] == "previous_turn"]
    assert [link.context.span_id for link in before] == [in_order[-2].context.span_id]
    assert retrieved(server) == [ids[1], ids[0]]


def test_a_chain_that_could_not_be_asked_for_is_when_it_can(api, server, chain, spans, monkeypatch):
    ids = chain(2)
    server.script(b"oops", status=500, path=ids[1])
    last = api.respond(previous_response_id=ids[1], **THINKING).id
    for _ in range(2):
        last = api.respond(previous_response_id=last, **BRIEF).id
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + provider_lookup.REST)
    server.requests.clear()
    last = api.respond(previous_response_id=last, **THINKING).id
    until(no_walk_is_left)
    assert retrieved(server) == ids[::-1]
    api.respond(previous_response_id=last, **BRIEF)
    partial = [(ids[1], "chain_partial", 2), (ids[1], "chain", 3), (ids[1], "chain", 4)]
    assert [found(span) for span in calls(spans)] == [*partial, (ids[0], "provider", 6), (ids[0], "chain", 7)]
    by_id = {span.context.span_id: span for span in calls(spans)}
    before = [
        by_id[link.context.span_id]
        for span in calls(spans)[1:]
        for link in span.links
        if link.attributes["llm_session.link"] == "previous_turn"
    ]
    assert before == calls(spans)[:-1], "each turn to the one before it"


def test_the_call_takes_no_longer_and_only_its_span_waits_for_the_answer(api, server, chain, spans):
    (first,) = chain(1)
    server.script({"id": first, "object": "response"}, path=first, **LATE)
    begun = time.monotonic()
    api.respond(previous_response_id=first)
    assert time.monotonic() - begun < LATE["delay"] / 2
    ended = time.time_ns()
    assert not calls(spans)
    api.answer_late(server)
    until(lambda: calls(spans))
    call = the_call(spans)
    assert found(call) == (first, "provider", 2)
    assert call.end_time <= ended, "it ended when the call did"
    assert call.attributes["gen_ai.usage.input_tokens"] > 0


def test_a_span_waits_no_longer_than_until_spans_are_flushed(client, server, chain):
    (first,) = chain(1)
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(provider_lookup=True, tracer_provider=provider) as spans:
        server.script({"id": first, "object": "response"}, path=first, **LATE)
        client.responses.create(model=MODEL, input="x", previous_response_id=first)
        ended = time.time_ns()
        assert not calls(spans)
        provider.force_flush()
        call = the_call(spans)
        assert call.end_time <= ended
        assert found(call) == (first, "chain_partial", 2)
        assert [span.name for span in spans] == ["chat gpt-4o-mini"], "and it opens no session"
        answer_late(server)


def test_an_answer_that_comes_after_the_span_has_ended_is_there_for_the_next_turn(client, server, chain):
    ids = chain(2)
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(provider_lookup=True, tracer_provider=provider) as spans:
        server.script(second_of(ids), path=ids[1], **LATE)
        third = client.responses.create(model=MODEL, input="x", previous_response_id=ids[1])
        provider.force_flush()
        answer_late(server)
        client.responses.create(model=MODEL, input="x", previous_response_id=third.id)
    late, call = calls(spans)
    assert found(late) == (ids[1], "chain_partial", 2)
    assert found(call) == (ids[0], "chain", 4)
    assert [link.context.span_id for link in call.links] == [late.context.span_id]


def test_an_answer_that_is_late_is_the_turns_and_the_next_turns(api, server, chain, spans):
    ids = chain(2)
    server.script(second_of(ids), path=ids[1], **LATE)
    third = api.respond(previous_response_id=ids[1])
    api.answer_late(server)
    until(lambda: calls(spans))
    api.respond(previous_response_id=third.id)
    late, call = calls(spans)
    assert [found(late), found(call)] == [(ids[0], "provider", 3), (ids[0], "chain", 4)]
    assert [link.context.span_id for link in call.links] == [late.context.span_id]
    (marker,) = [span for span in spans if span.name == "turn"]
    assert (marker.attributes["session.id"], marker.attributes["llm_session.turn"]) == (ids[0], 3)
    assert marker.parent == call.parent
    assert (marker.start_time, marker.end_time) == (late.start_time, late.end_time)


def test_a_late_turn_of_a_session_whose_trace_is_known_is_marked_there(client, server, elsewhere, spans):
    first = client.responses.create(model=MODEL, input="x")
    second = elsewhere(previous_response_id=first.id)
    reply = {"id": second, "object": "response", "previous_response_id": first.id}
    server.script(reply, path=second, **LATE)
    client.responses.create(model=MODEL, input="x", previous_response_id=second)
    answer_late(server)
    until(lambda: [span for span in spans if span.name == "turn"])
    begun, late = calls(spans)
    assert found(late) == (first.id, "provider", 3)
    (marker,) = [span for span in spans if span.name == "turn"]
    assert (marker.context.trace_id, marker.parent) == (begun.context.trace_id, begun.parent)
    assert marker.links[0].context.span_id == late.context.span_id
    assert marker.attributes["llm_session.turn"] == 3


def test_the_request_goes_out_first_and_unchanged(api, server, chain, monkeypatch):
    monkeypatch.setattr(provider_lookup, "HEAD_START", 0.1)  # as it is for a machine that is not busy
    ids = chain(2)

    def sent(way: Any) -> Any:
        server.requests.clear()
        api.respond(previous_response_id=ids[-1], metadata={"topic": "x"}, **way)
        return server.requests[0]

    bare = sent(SLOW)
    with capture_spans(provider_lookup=True):
        ours = sent(THINKING)
    assert (ours.method, ours.path, ours.body) == ("POST", "/v1/responses", bare.body)
    assert set(ours.headers) == set(bare.headers)


def test_what_the_http_client_does_meanwhile_stays_where_it_was(server, chain):
    ids = chain(2)
    seen: dict[str, Any] = {}

    def look(request: httpx2.Request) -> None:
        enabled = is_instrumentation_enabled() and is_http_instrumentation_enabled()
        seen[request.method] = (trace.get_current_span().get_span_context().span_id, enabled)

    provider = TracerProvider(shutdown_on_exit=False)
    http = httpx2.Client(event_hooks={"request": [look]})
    with capture_spans(provider_lookup=True, tracer_provider=provider) as spans:
        with openai.OpenAI(**options_for(server), http_client=http) as client:
            with provider.get_tracer("web").start_as_current_span("GET /") as around:
                client.responses.create(model=MODEL, input="x", previous_response_id=ids[-1], **THINKING)
    assert seen["POST"] == (the_call(spans).context.span_id, True), "the call's span is current from the start"
    assert the_call(spans).parent.span_id == around.get_span_context().span_id
    assert seen["GET"][1] is False, "what we ask is nobody's span"
    assert Counter(span.name for span in spans) == {"session": 1, "turn": 1, "chat gpt-4o-mini": 1, "GET /": 1}


def test_a_pool_without_a_spare_connection_is_left_to_the_application(server, chain):
    ids = chain(2)
    http = httpx2.Client(limits=httpx2.Limits(max_connections=1))
    with capture_spans(provider_lookup=True) as spans:
        with openai.OpenAI(**options_for(server), http_client=http) as client:
            client.responses.create(model=MODEL, input="x", previous_response_id=ids[-1], **THINKING)
    assert not retrieved(server)
    assert found(the_call(spans)) == (ids[-1], "chain_partial", 2)


def test_the_span_is_there_while_a_stream_still_goes_on(client, server, chain):
    ids = chain(2)
    started: list[str] = []

    class Seen(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            started.append(span.name)

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Seen())
    with capture_spans(provider_lookup=True, tracer_provider=provider) as spans:
        mode = {"x-loopback-mode": "hold=2"}
        arguments = {"previous_response_id": ids[-1], "stream": True, "extra_headers": mode}
        with client.responses.create(model=MODEL, input="x", **arguments) as stream:
            event = next(iter(stream))
            until(lambda: "chat gpt-4o-mini" in started)
            # What the stream said before the answer came is known to other calls too.
            until(no_walk_is_left)
            client.responses.create(model=MODEL, input="x", previous_response_id=event.response.id)
            server.release()
            list(stream)
    assert found(calls(spans)[0])[1:] == ("chain", 4)
    assert {found(span)[0] for span in calls(spans)} == {ids[0]}


# --- every ending, once -------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["in time", "late"])
@pytest.mark.parametrize("way", ["read", "closed", "abandoned", "raw", "streaming response", "fails", "breaks"])
def test_every_ending_ends_the_span_once(client, server, chain, spans, way, answer):
    ids = chain(2)
    if answer == "late":
        server.script(second_of(ids), path=ids[1], **LATE)
    delay = [THINKING["extra_headers"]["x-loopback-mode"]] if answer == "in time" else []
    modes = {"fails": ["status=429"], "breaks": ["break=2"]}.get(way, [])
    arguments = {"model": MODEL, "input": "x", "previous_response_id": ids[1]}
    arguments["extra_headers"] = {"x-loopback-mode": ",".join([*delay, *modes])}
    begun = time.time_ns()
    if way in ("read", "closed", "abandoned", "breaks"):
        stream = client.responses.create(**arguments, stream=True)
        try:
            if way in ("closed", "abandoned"):
                next(iter(stream))
            else:
                list(stream)
        except openai.APIError:
            assert way == "breaks"
        except httpx2.HTTPError:
            assert way == "breaks"
        if way != "abandoned":
            stream.close()
        del stream
        gc.collect()
    elif way == "raw":
        client.responses.with_raw_response.create(**arguments).parse()
    elif way == "streaming response":
        with client.responses.with_streaming_response.create(**arguments) as response:
            response.read()
    else:
        with pytest.raises(openai.RateLimitError):
            client.responses.create(**arguments)
    ended = time.time_ns()
    if answer == "late":
        answer_late(server)
    until(lambda: calls(spans))
    call = the_call(spans)
    assert begun <= call.start_time <= call.end_time <= ended
    assert found(call) == (ids[0], "provider", 3)
    assert (call.status.status_code is trace.StatusCode.ERROR) == (way in ("fails", "breaks"))
    until(no_walk_is_left)
    assert len(calls(spans)) == 1


async def test_a_cancelled_call_ends_its_span_at_once(async_client, server, chain, spans):
    ids = chain(2)
    call = asyncio.create_task(
        async_client.responses.create(model=MODEL, input="x", previous_response_id=ids[-1], **THINKING)
    )
    await auntil(lambda: server.requests)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await auntil(lambda: calls(spans))
    assert the_call(spans).end_time is not None
    await auntil(lambda: len(asyncio.all_tasks()) == 1)


@pytest.mark.parametrize("number", range(3))
def test_an_end_and_an_answer_at_the_same_time_make_one_span(server, chain, spans, number):
    """Whoever comes first: the model and the provider answer within the same millisecond."""
    with openai.OpenAI(**options_for(server)) as client, ThreadPoolExecutor(8) as pool:

        def call(delay: float) -> None:
            (first,) = chain(1)
            mode = {"x-loopback-mode": f"delay={delay:.4f}"}
            client.responses.create(model=MODEL, input="x", previous_response_id=first, extra_headers=mode)

        list(pool.map(call, [0.004 + 0.0002 * number + 0.0005 * step for step in range(24)]))
        until(no_walk_is_left)
    until(lambda: len(calls(spans)) == 24)
    until(lambda: not len(HELD), 1.0)
    assert len(calls(spans)) == 24
    assert len({span.attributes["gen_ai.request.previous_response.id"] for span in calls(spans)}) == 24
