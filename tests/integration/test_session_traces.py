"""Each session as one trace (docs/traces.md): where turns stand, on exported OTLP unless there are very many."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from echo_kit import called, completion, gave_back, said, tool_call, user
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from providers_kit import provider_to
from traces_kit import ask, linked, only, ref

from otel_llm_sessions import session, session_trace_id
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

MILLISECOND = 1_000_000


# --- un-nested ----------------------------------------------------------------------------------------------


def test_turns_of_a_named_session_are_children_of_one_root_with_derived_ids(api, traced):
    for _ in range(3):
        api.chat(metadata={"session_id": "X"})
    root = only(traced.named("session"))
    assert root.trace_id == session_trace_id("X") == hashlib.sha256(b"\0X\x001").hexdigest()[:32]
    assert (root.parent_id, root.kind, root.end - root.start) == ("", "INTERNAL", MILLISECOND)
    said = {"session.id": "X", "llm_session.root": True, "llm_session.part": 1, "llm_session.source": "metadata"}
    assert root.attributes == said
    turns = traced.named("chat")
    assert [(turn.trace_id, turn.parent_id) for turn in turns] == [ref(root)] * 3
    assert [turn.attributes["llm_session.turn"] for turn in turns] == [1, 2, 3]
    assert [linked(turn, "previous_turn") for turn in turns] == [[], [ref(turns[0])], [ref(turns[1])]]
    assert {turn.attributes["llm_session.part"] for turn in turns} == {1}
    assert not traced.named("turn")


def test_a_chain_begins_in_a_fresh_trace_and_stays_in_it(api, traced):
    first = api.respond()
    second = api.respond(previous_response_id=first.id)
    api.read(api.respond(previous_response_id=second.id, stream=True))
    api.respond(previous_response_id=second.id)
    root = only(traced.named("session"))
    assert root.trace_id != session_trace_id(first.id)
    assert root.attributes["session.id"] == first.id
    assert (root.parent_id, root.end - root.start) == ("", MILLISECOND)
    turns = traced.named("chat")
    assert [(turn.trace_id, turn.parent_id) for turn in turns] == [ref(root)] * 4
    assert [turn.attributes["llm_session.turn"] for turn in turns] == [1, 2, 3, 3]


@pytest.mark.parametrize("arguments", [{"metadata": {"session_id": "X"}}, {}], ids=["named", "chain"])
def test_the_root_arrives_while_the_first_call_still_goes_on(client, traced, server, arguments):
    with client.responses.create(
        model="m", input="x", stream=True, extra_headers={"x-loopback-mode": "hold=2"}, **arguments
    ) as stream:
        created = next(stream)
        traced.receiver.wait_for(lambda received: any(span.name == "session" for span in received.spans), timeout=5)
        root = only(traced.receiver.spans)
        assert root.attributes["session.id"] == ("X" if arguments else created.response.id)
        assert root.end - root.start == MILLISECOND


def test_a_first_call_that_fails_leaves_no_session_without_an_id(client, traced):
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model="m", input="x", extra_headers={"x-loopback-mode": "status=429"})
    assert [span.name for span in traced.spans] == ["no session", "chat m"]
    assert [span.status for span in traced.spans] == ["UNSET", "ERROR"]


def test_a_namespace_is_part_of_the_trace_id(client, exported):
    with capture_spans(tracer_provider=exported.provider, namespace="shop"):
        ask(client, "X")
    assert only(exported.named("session")).trace_id == session_trace_id("X", namespace="shop")


# --- nested -------------------------------------------------------------------------------------------------


def test_a_nested_turn_stays_in_its_trace_and_the_session_trace_gets_a_marker(api, traced, tracer):
    with tracer.start_as_current_span("request"):
        reply = api.respond(metadata={"session_id": "X"})
    root, marker = only(traced.named("session")), only(traced.named("turn"))
    request, call = only(traced.named("request")), only(traced.named("chat"))
    assert (call.trace_id, call.parent_id) == ref(request)
    assert request.trace_id != root.trace_id == session_trace_id("X")
    assert linked(call, "session") == [ref(root)]
    assert (marker.trace_id, marker.parent_id, marker.kind) == (*ref(root), "INTERNAL")
    assert (marker.start, marker.end) == (call.start, call.end)
    assert [(link.trace_id, link.span_id) for link in marker.links] == [ref(call)]
    assert marker.attributes == {
        "session.id": "X",
        "llm_session.turn": 1,
        "llm_session.part": 1,
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.id": reply.id,
        "llm_session.usage.input_tokens": reply.usage.input_tokens,
        "llm_session.usage.output_tokens": reply.usage.output_tokens,
    }


def test_one_nested_call_of_a_chain_leaves_exactly_one_span(api, traced, tracer):
    with tracer.start_as_current_span("request"):
        first = api.respond()
    assert [span.name for span in traced.spans] == ["request", "chat gpt-4o-mini"]
    assert only(traced.named("chat")).attributes["session.id"] == first.id


def test_the_second_turn_proves_the_session_and_marks_the_first_with_its_true_times(api, traced, tracer):
    with tracer.start_as_current_span("request"):
        first = api.respond()
    with tracer.start_as_current_span("another request"):
        api.respond(previous_response_id=first.id)
    root, calls, markers = only(traced.named("session")), traced.named("chat"), traced.named("turn")
    assert root.attributes["session.id"] == first.id
    assert root.start == calls[0].start
    assert [(marker.start, marker.end) for marker in markers] == [(call.start, call.end) for call in calls]
    assert [marker.attributes["llm_session.turn"] for marker in markers] == [1, 2]
    assert [(link.trace_id, link.span_id) for marker in markers for link in marker.links] == [ref(c) for c in calls]
    assert {(marker.trace_id, marker.parent_id) for marker in markers} == {ref(root)}
    assert not [name for marker in markers for name in marker.attributes if name.startswith("gen_ai.usage")]
    assert (linked(calls[1], "session"), linked(calls[1], "previous_turn")) == ([ref(root)], [ref(calls[0])])


def test_two_forks_of_a_nested_first_turn_mark_it_once(client, traced, tracer):
    with tracer.start_as_current_span("request"):
        first = client.responses.create(model="m", input="x")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.responses.create(model="m", input="x", previous_response_id=first.id), range(8)))
    root, marker = only(traced.named("session")), only(traced.named("turn"))
    assert marker.attributes["llm_session.turn"] == 1
    assert Counter((c.trace_id, c.parent_id) for c in traced.named("chat"))[ref(root)] == 8


def test_another_process_that_shares_the_store_emits_nothing_again(client, exported, tracer):
    store = MemoryStore()
    with capture_spans(tracer_provider=exported.provider, store=store):
        with tracer.start_as_current_span("request"):
            first = client.responses.create(model="m", input="x")
        client.responses.create(model="m", input="x", previous_response_id=first.id)
        ask(client, "X")
    with capture_spans(tracer_provider=exported.provider, store=store):
        client.responses.create(model="m", input="x", previous_response_id=first.id)
        ask(client, "X")
    roots = {root.attributes["session.id"]: ref(root) for root in exported.named("session")}
    assert (len(exported.named("session")), set(roots), len(exported.named("turn"))) == (2, {"X", first.id}, 1)
    below = [(call.trace_id, call.parent_id) for call in exported.named("chat")[1:]]
    assert below == [roots[first.id], roots["X"], roots[first.id], roots["X"]]


def test_a_nested_turn_that_fails_is_marked_as_failed(api, traced, tracer):
    first = api.respond()
    with tracer.start_as_current_span("request"), pytest.raises(openai.RateLimitError):
        api.respond(previous_response_id=first.id, extra_headers={"x-loopback-mode": "status=429"})
    marker = only(traced.named("turn"))
    assert (marker.status, marker.attributes["llm_session.turn"]) == ("ERROR", 2)
    assert (
        marker.attributes["error.type"]
        == only([s for s in traced.named("chat") if s.status == "ERROR"]).attributes["error.type"]
    )


def test_under_an_unsampled_request_the_session_is_still_whole(client):
    memory = InMemorySpanExporter()
    provider = provider_to(memory)
    unsampled = trace.NonRecordingSpan(trace.SpanContext(1, 2, False, trace.TraceFlags(0)))
    with capture_spans(tracer_provider=provider), trace.use_span(unsampled):
        ask(client, "X")
    assert [span.name for span in memory.get_finished_spans()] == ["session", "turn"]


def test_a_call_whose_ambient_span_is_in_the_session_trace_already_needs_no_marker(client, traced, tracer):
    with session("X"), tracer.start_as_current_span("agent"):
        ask(client, "X")
    root, agent, call = (only(traced.named(name)) for name in ("session", "agent", "chat"))
    assert (agent.trace_id, agent.parent_id) == ref(root)
    assert (call.trace_id, call.parent_id) == ref(agent)
    assert not traced.named("turn")


def test_a_fetched_response_is_no_turn_and_gets_no_marker(client, traced, tracer):
    first = client.responses.create(model="m", input="x")
    with tracer.start_as_current_span("request"):
        client.responses.retrieve(first.id)
    assert not traced.named("turn")
    assert linked(only(traced.named("fetch_response")), "session") == [ref(only(traced.named("session")))]


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "nested"])
def test_raw_and_streaming_responses_stand_where_others_do(client, traced, tracer, nested):
    chain: dict[str, Any] = {"model": "m", "input": "x"}
    with tracer.start_as_current_span("request") if nested else contextlib.nullcontext():
        chain["previous_response_id"] = client.responses.with_raw_response.create(**chain).parse().id
        with client.responses.with_streaming_response.create(**chain) as response:
            chain["previous_response_id"] = response.parse().id
        raw = client.responses.with_raw_response.create(**chain, stream=True)
    # As web frameworks do it: the request's span ends before what streams has been read.
    chain["previous_response_id"] = list(raw.parse())[0].response.id
    with (
        tracer.start_as_current_span("request") if nested else contextlib.nullcontext(),
        client.responses.with_streaming_response.create(**chain, stream=True) as response,
    ):
        list(response.iter_lines())
    root, calls = only(traced.named("session")), traced.named("chat")
    turns = traced.named("turn") if nested else calls
    assert [(turn.trace_id, turn.parent_id) for turn in turns] == [ref(root)] * 4
    assert [turn.attributes["llm_session.turn"] for turn in turns] == [1, 2, 3, 4]
    assert [(turn.start, turn.end) for turn in turns] == [(call.start, call.end) for call in calls]
    assert [linked(call, "session") for call in calls[1:]] == [[ref(root)] * nested] * 3


def test_a_nested_first_turn_that_still_goes_on_is_marked_once(client, traced, tracer):
    with tracer.start_as_current_span("request"):
        stream = client.responses.create(model="m", input="x", stream=True)
    first = next(event.response.id for event in stream if event.type == "response.completed")
    client.responses.create(model="m", input="x", previous_response_id=first)
    stream.close()
    client.responses.create(model="m", input="x", previous_response_id=first)
    root, marker = only(traced.named("session")), only(traced.named("turn"))
    call = only([call for call in traced.named("chat") if call.trace_id != root.trace_id])
    assert (marker.start, ref(marker.links[0])) == (call.start, ref(call))


@pytest.mark.parametrize("first", ["nested", "weak"])
def test_fetching_a_first_turn_proves_no_session(api, traced, tracer, first):
    with tracer.start_as_current_span("request") if first == "nested" else contextlib.nullcontext():
        made = api.respond(store=first != "weak")
    with contextlib.suppress(openai.NotFoundError):  # what is not stored
        api.retrieve(made.id)
    fetch = only(traced.named("fetch_response"))
    assert (fetch.parent_id, fetch.attributes["session.id"]) == ("", made.id)
    assert linked(fetch, "previous_turn") == [ref(only(traced.named("chat")))]
    assert not traced.named("session")
    with contextlib.suppress(openai.BadRequestError):
        api.respond(previous_response_id=made.id)
    assert (len(traced.named("session")), len(traced.named("turn"))) == (1, 1)


def test_fetching_what_nobody_knows_opens_no_session(api, traced):
    with pytest.raises(openai.NotFoundError):
        api.retrieve("resp_unknown_to_the_server")
    assert [span.name for span in traced.spans] == ["fetch_response"]


def test_mixed_one_session_trace_with_four_turns_in_order(api, traced, tracer):
    first = api.respond()
    with tracer.start_as_current_span("request"):
        second = api.respond(previous_response_id=first.id)
    events = api.read(api.respond(previous_response_id=second.id, stream=True))
    third = events[0].response.id
    with pytest.raises(openai.RateLimitError):
        api.respond(previous_response_id=third, extra_headers={"x-loopback-mode": "status=429"})
    root = only(traced.named("session"))
    turns = [span for span in traced.spans if span.parent_id == root.span_id and span.trace_id == root.trace_id]
    assert [turn.name for turn in turns] == ["chat gpt-4o-mini", "turn", "chat gpt-4o-mini", "chat gpt-4o-mini"]
    assert [turn.attributes["llm_session.turn"] for turn in turns] == [1, 2, 3, 4]
    assert [turn.status for turn in turns] == ["UNSET", "UNSET", "UNSET", "ERROR"]
    assert {turn.attributes["session.id"] for turn in turns} == {first.id}


def test_annotated_spans_count_as_nested_turns(api, traced, tracer):
    for number in range(2):
        with tracer.start_as_current_span(f"theirs {number}", attributes={"gen_ai.operation.name": "chat"}):
            api.chat(metadata={"session_id": "X"})
    root, markers, theirs = only(traced.named("session")), traced.named("turn"), traced.named("theirs")
    assert not traced.named("chat")
    assert [marker.parent_id for marker in markers] == [root.span_id] * 2
    assert [(link.trace_id, link.span_id) for marker in markers for link in marker.links] == [ref(s) for s in theirs]
    assert [linked(span, "session") for span in theirs] == [[ref(root)]] * 2
    assert [span.attributes["session.id"] for span in theirs] == ["X", "X"]


def test_annotating_only_opens_no_trace_for_a_call_without_a_span(client, exported):
    with capture_spans(tracer_provider=exported.provider, spans="annotate"):
        ask(client, "X")
        client.responses.create(model="m", input="x")
    assert exported.spans == []


# --- weak starts --------------------------------------------------------------------------------------------


def test_a_response_that_is_not_stored_opens_no_session_until_a_second_turn_proves_it(api, traced):
    first = api.respond(store=False)
    call = only(traced.spans)
    assert (call.parent_id, call.attributes["session.id"]) == ("", first.id)
    # The loopback server does not know the response any more; the turn is one nevertheless.
    with pytest.raises(openai.BadRequestError):
        api.respond(previous_response_id=first.id)
    root, marker = only(traced.named("session")), only(traced.named("turn"))
    second = only([span for span in traced.named("chat") if span.span_id != call.span_id])
    assert (second.trace_id, second.parent_id) == ref(root)
    assert (marker.start, marker.end) == (call.start, call.end)
    assert ref(marker.links[0]) == ref(call)


def ask_tools(api: Any, server: Any, answer: Any, *sent: Any, **arguments: Any) -> Any:
    server.script(completion(answer), path="/chat/completions")
    return api.chat(messages=[user(), *sent], **arguments)


def test_a_chat_call_that_is_answered_by_tool_calls_opens_no_session_until_a_second_turn_proves_it(api, server, traced):
    tool = tool_call()
    first = ask_tools(api, server, called(tool))
    call = only(traced.spans)
    assert (call.parent_id, call.attributes["session.id"]) == ("", first.id)
    assert (call.attributes["llm_session.source"], call.attributes["llm_session.turn"]) == ("new", 1)
    ask_tools(api, server, said(), called(tool), *gave_back(tool))
    root, marker = only(traced.named("session")), only(traced.named("turn"))
    second = only([span for span in traced.named("chat") if span.span_id != call.span_id])
    assert (second.trace_id, second.parent_id) == ref(root)
    assert linked(second, "previous_turn") == [ref(call)]
    assert root.trace_id == session_trace_id(first.id)
    assert (marker.start, marker.end, marker.parent_id) == (call.start, call.end, root.span_id)
    assert (ref(marker.links[0]), marker.attributes["gen_ai.response.id"]) == (ref(call), first.id)
    ask_tools(api, server, said(), called(tool), *gave_back(tool), said(), user())
    assert len(traced.named("session")) == len(traced.named("turn")) == 1


def test_a_nested_tool_loop_is_marked_in_its_session(api, server, traced, tracer):
    tool = tool_call()
    with tracer.start_as_current_span("request") as request:
        first = ask_tools(api, server, called(tool))
        ask_tools(api, server, said(), called(tool), *gave_back(tool))
    root = only(traced.named("session"))
    assert root.attributes["session.id"] == first.id
    assert [marker.attributes["llm_session.turn"] for marker in traced.named("turn")] == [1, 2]
    assert {call.parent_id for call in traced.named("chat")} == {f"{request.get_span_context().span_id:016x}"}


def test_a_structured_output_by_a_tool_leaves_no_session_behind(api, server, traced):
    for _ in range(3):
        ask_tools(api, server, called(tool_call(name="answer")), tool_choice="required")
    assert [span.parent_id for span in traced.named("chat")] == [""] * len(traced.spans) == [""] * 3
    assert len({span.trace_id for span in traced.spans}) == 3


def test_a_chat_call_without_a_session_is_one_ordinary_span(api, traced):
    api.chat()
    call = only(traced.spans)
    assert call.parent_id == ""
    assert "session.id" not in call.attributes
