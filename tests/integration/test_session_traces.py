"""Each session as one trace (docs/traces.md): where turns stand, on exported OTLP unless there are very many."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import openai
import pytest
from exported import Exported
from openai import OpenAI
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)

from otel_llm_sessions import OpenAISessionsInstrumentor, SessionLink, session, session_trace_id
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

LINK = "llm_session.link"
MILLISECOND = 1_000_000


@pytest.fixture
def traced(exported: Exported):
    """Instrumented, with spans that go over OTLP."""
    with capture_spans(tracer_provider=exported.provider):
        yield exported


@pytest.fixture
def tracer(exported: Exported) -> trace.Tracer:
    return exported.provider.get_tracer("the application's")


def only(spans: list[Any]) -> Any:
    (span,) = spans
    return span


def linked(span: Any, kind: str) -> list[tuple[str, str]]:
    return [(link.trace_id, link.span_id) for link in span.links if link.attributes.get(LINK) == kind]


def ref(span: Any) -> tuple[str, str]:
    return span.trace_id, span.span_id


def ask(client: Any, session_id: str, **arguments: Any) -> Any:
    return client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}], metadata={"session_id": session_id}, **arguments
    )


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
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
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


def test_a_chat_call_without_a_session_is_one_ordinary_span(api, traced):
    api.chat()
    call = only(traced.spans)
    assert call.parent_id == ""
    assert "session.id" not in call.attributes


# --- in parallel --------------------------------------------------------------------------------------------


def test_fifty_turns_in_parallel_have_one_root(client, traced):
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda _: ask(client, "X"), range(50)))
    root = only(traced.named("session"))
    assert [(turn.trace_id, turn.parent_id) for turn in traced.named("chat")] == [ref(root)] * 50


def test_first_turns_from_four_threads_at_once_have_one_root(client, traced):
    for number in range(10):
        ready = threading.Barrier(4)

        def first_turn(id_: str = f"X{number}", ready: threading.Barrier = ready) -> None:
            ready.wait(5)
            ask(client, id_)

        workers = [threading.Thread(target=first_turn) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    roots = {root.attributes["session.id"]: ref(root) for root in traced.named("session")}
    assert len(traced.named("session")) == len(roots) == 10
    for turn in traced.named("chat"):
        assert (turn.trace_id, turn.parent_id) == roots[turn.attributes["session.id"]]


WORKER = """
    import os, sys
    from openai import DefaultHttpxClient, OpenAI
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from otel_llm_sessions import OpenAISessionsInstrumentor

    def new_client():
        return OpenAI(api_key="x", max_retries=0, http_client=DefaultHttpxClient(verify=False))

    def begin():
        global provider, client
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        OpenAISessionsInstrumentor().instrument(tracer_provider=provider)
        client = new_client()

    def fork(number, work):
        children = []
        for _ in range(number):
            pid = os.fork()
            if not pid:
                try:
                    work()
                    os._exit(0 if provider.force_flush() else 1)
                finally:
                    os._exit(1)
            children.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * number

    def ask():
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], metadata={"session_id": "X"}
        )
"""


def run(program: str, server: Any, exported: Exported) -> None:
    env = os.environ | {
        "OPENAI_BASE_URL": server.base_url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": exported.receiver.endpoint,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    source = textwrap.dedent(WORKER) + textwrap.dedent(program)
    subprocess.run([sys.executable, "-c", source], env=env, check=True, timeout=300)


def assert_whole(exported: Exported, roots: int, turns: int) -> None:
    """One trace; no span id twice; every turn below a root that exists."""
    spans = exported.spans
    assert {span.trace_id for span in spans} == {session_trace_id("X")}
    assert len({span.span_id for span in spans}) == len(spans) == roots + turns
    root_ids = {span.span_id for span in spans if span.name == "session"}
    assert len(root_ids) == roots
    assert {span.parent_id for span in spans if span.name != "session"} == root_ids


NEEDS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.slow
@NEEDS_FORK
def test_eight_processes_without_a_shared_store_make_one_trace_with_eight_roots(server, exported):
    program = """
    def work():
        begin()
        for _ in range(3):
            ask()

    fork(8, work)
    """
    run(program, server, exported)
    assert_whole(exported, 8, 24)


@pytest.mark.slow
@NEEDS_FORK
def test_a_fork_stays_below_roots_that_exist(server, exported):
    program = """
    begin()
    ask()

    def work():
        global client
        client = new_client()
        ask()
        ask()

    fork(3, work)
    ask()
    provider.force_flush()
    """
    run(program, server, exported)
    assert_whole(exported, 1, 8)


# --- long sessions ------------------------------------------------------------------------------------------


def parts_of(spans: Any) -> tuple[list[Any], dict[int, int]]:
    roots = sorted(filter(is_root, spans), key=lambda s: s.attributes["llm_session.part"])
    turns = Counter(s.attributes["llm_session.part"] for s in spans if s.name.startswith("chat"))
    return roots, dict(turns)


@pytest.mark.slow
def test_1200_turns_make_three_parts_each_linked_to_the_one_before(quick_client):
    with capture_spans() as spans:
        for _ in range(1200):
            ask(quick_client, "X")
    roots, turns = parts_of(spans)
    assert turns == {1: 500, 2: 500, 3: 200}
    assert_parts(roots, "X")


def is_root(span: Any) -> bool:
    return bool(span.attributes.get("llm_session.root"))


def assert_parts(roots: list[Any], id_: str) -> None:
    assert [root.name for root in roots] == ["session"] + ["session continued"] * (len(roots) - 1)
    assert [root.attributes["llm_session.part"] for root in roots] == list(range(1, len(roots) + 1))
    assert {root.attributes["session.id"] for root in roots} == {id_}
    for before, root in zip(roots, roots[1:]):
        part = root.attributes["llm_session.part"]
        assert f"{root.context.trace_id:032x}" == session_trace_id(id_, part=part)
        link = only(root.links)
        assert (link.context.trace_id, link.context.span_id) == (before.context.trace_id, before.context.span_id)
        assert link.attributes[LINK] == "session"


@pytest.mark.parametrize("turns", [1, 5, 6, 12])
def test_no_part_has_more_turns_than_allowed_and_none_is_begun_early(quick_client, turns):
    with capture_spans(max_turns=5) as spans:
        for _ in range(turns):
            ask(quick_client, "X")
    roots, counts = parts_of(spans)
    assert list(counts.values()) == [5] * (turns // 5) + [turns % 5] * bool(turns % 5)
    assert_parts(roots, "X")


def test_a_chain_continues_in_parts_too(client):
    with capture_spans(max_turns=2) as spans:
        first = previous = client.responses.create(model="m", input="x")
        for _ in range(4):
            previous = client.responses.create(model="m", input="x", previous_response_id=previous.id)
    roots, counts = parts_of(spans)
    assert counts == {None: 0, 1: 2, 2: 2, 3: 1} or counts == {1: 2, 2: 2, 3: 1}
    assert_parts(roots, first.id)


def test_parallel_turns_and_forks_overfill_no_part(client):
    with capture_spans(max_turns=5) as spans:
        first = client.responses.create(model="m", input="x")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: ask(client, "X"), range(24)))
            forks = range(11)
            list(
                pool.map(lambda _: client.responses.create(model="m", input="x", previous_response_id=first.id), forks)
            )
    for id_, turns in (("X", 24), (first.id, 12)):
        roots, counts = parts_of(spans.of_session(id_))
        # A part may stay short of a turn or two: a turn's number counts those of other processes too, at the most.
        assert sum(counts.values()) == turns
        assert max(counts.values()) == 5
        assert len(counts) == len(roots) <= turns / 3
        assert_parts(roots, id_)
        by_part = {root.attributes["llm_session.part"]: root.context.span_id for root in roots}
        for span in spans.of_session(id_):
            if not is_root(span):
                assert span.parent.span_id == by_part[span.attributes["llm_session.part"]]


def test_a_session_that_grows_old_continues_in_a_new_part(client):
    with capture_spans(max_age="50ms") as spans:
        ask(client, "X")
        begun = time.monotonic()
        while time.monotonic() - begun < 0.06:
            time.sleep(0.01)
        ask(client, "X")
    roots, counts = parts_of(spans)
    assert counts == {1: 1, 2: 1}
    assert_parts(roots, "X")


def test_markers_say_their_part(client, exported, tracer):
    with capture_spans(tracer_provider=exported.provider, max_turns=1):
        for _ in range(2):
            with tracer.start_as_current_span("request"):
                ask(client, "X")
    roots = {root.attributes["llm_session.part"]: root.span_id for root in exported.named("session")}
    assert [(m.attributes["llm_session.part"], m.parent_id) for m in exported.named("turn")] == sorted(roots.items())


# --- sampling -----------------------------------------------------------------------------------------------

CHAT_REPLY = {
    "id": "chatcmpl-B1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}],
}


@pytest.fixture
def quick_client():
    """A client that is answered without a socket, for very many calls."""
    http: Any = import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
    transport = http.MockTransport(lambda request: http.Response(200, json=CHAT_REPLY))
    with http.Client(transport=transport) as http_client:
        yield OpenAI(base_url="http://127.0.0.1:9/v1", api_key="x", http_client=http_client)


SAMPLED = """
    import json, sys
    sys.path.insert(0, sys.argv[1])
    from importlib import import_module
    import openai
    from test_session_traces import CHAT_REPLY, sampled_sessions

    http = import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
    transport = http.MockTransport(lambda request: http.Response(200, json=CHAT_REPLY))
    client = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="x", http_client=http.Client(transport=transport))
    print(json.dumps(sampled_sessions(client, sys.argv[2])))
"""


def sampled_sessions(client: Any, kind: str) -> dict[str, list[str]]:
    """Make 1,000 sessions of two turns; return the names of the spans that were sampled, by session."""
    sampler = {"traceidratio": TraceIdRatioBased, "parentbased_traceidratio": ParentBasedTraceIdRatio}[kind](0.1)
    names = defaultdict(list)
    with capture_spans(tracer_provider=TracerProvider(sampler=sampler, shutdown_on_exit=False)) as spans:
        for _ in range(2):
            for number in range(1000):
                ask(client, f"s{number}")
    for span in spans:
        names[span.attributes["session.id"]].append(span.name)
    return names


def is_a_tenth_and_whole(sessions: dict[str, list[str]]) -> bool:
    return 70 <= len(sessions) <= 130 and set(map(tuple, sessions.values())) == {("session", "chat m", "chat m")}


@pytest.mark.slow
def test_of_1000_sessions_a_tenth_is_sampled_whole_below_a_sampler_by_parents(quick_client):
    assert is_a_tenth_and_whole(sampled_sessions(quick_client, "parentbased_traceidratio"))


@pytest.mark.slow
def test_of_1000_sessions_the_same_tenth_is_sampled_whole_in_two_processes(quick_client):
    here = sampled_sessions(quick_client, "traceidratio")
    assert is_a_tenth_and_whole(here)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", textwrap.dedent(SAMPLED), os.path.dirname(__file__), "traceidratio"]
    there = json.loads(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout)
    assert there == here


def test_chains_are_sampled_whole_too(client):
    sampler = ParentBasedTraceIdRatio(0.5)
    with capture_spans(tracer_provider=TracerProvider(sampler=sampler, shutdown_on_exit=False)) as spans:
        for _ in range(24):
            first = client.responses.create(model="m", input="x")
            client.responses.create(model="m", input="x", previous_response_id=first.id)
    by_session = defaultdict(list)
    for span in spans:
        by_session[span.attributes["session.id"]].append(span.name)
    assert 0 < len(by_session) < 24
    assert set(map(tuple, by_session.values())) == {("session", "chat m", "chat m")}


def test_always_on_with_a_parent_samples_all(client):
    provider = TracerProvider(sampler=ParentBased(ALWAYS_ON), shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider) as spans:
        ask(client, "X")
        client.responses.create(model="m", input="x")
    assert [span.name for span in spans] == ["session", "chat m"] * 2


class Switch(Sampler):
    """A sampler of the application's own, which is told to begin."""

    def __init__(self, on: bool = False) -> None:
        self.on = on

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None, trace_state=None):
        return SamplingResult(Decision.RECORD_AND_SAMPLE if self.on else Decision.DROP, attributes)

    def get_description(self) -> str:
        return "Switch"


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, Switch(on=False)])
def test_unsampled_sessions_make_no_spans_and_keep_their_chain(api, sampler):
    store = MemoryStore()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, store=store) as spans:
        first = api.respond()
        second = api.respond(previous_response_id=first.id)
        link = store.get_all([f"r:{second.id}"])[0]
    assert spans == []
    assert isinstance(link, SessionLink)
    assert (link.session_id, link.turn) == (first.id, 2)


def test_a_session_whose_first_turn_was_not_sampled_goes_on_when_the_sampler_begins(client):
    sampler = Switch()
    with capture_spans(tracer_provider=TracerProvider(sampler=sampler, shutdown_on_exit=False)) as spans:
        first = client.responses.create(model="m", input="x")
        sampler.on = True
        client.responses.create(model="m", input="x", previous_response_id=first.id)
    (turn,) = spans
    assert (turn.attributes["session.id"], turn.attributes["llm_session.turn"]) == (first.id, 2)


class Chosen(Sampler):
    """Samples one session, by what a root says at its creation."""

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None, trace_state=None):
        chosen = (attributes or {}).get("session.id") == "chosen"
        return SamplingResult(Decision.RECORD_AND_SAMPLE if chosen else Decision.DROP, attributes)

    def get_description(self) -> str:
        return "Chosen"


@pytest.mark.parametrize("sampler", [Chosen(), ParentBased(Chosen())])
def test_a_custom_sampler_sees_the_session_of_root_and_turns(client, sampler):
    with capture_spans(tracer_provider=TracerProvider(sampler=sampler, shutdown_on_exit=False)) as spans:
        for name in ("chosen", "other", "chosen"):
            ask(client, name)
    assert [span.name for span in spans] == ["session", "chat m", "chat m"]
    assert {span.attributes["session.id"] for span in spans} == {"chosen"}


def test_whoever_loses_the_claim_comes_to_the_same_decision(quick_client):
    class Lost(MemoryStore):
        def claim(self, key: str) -> bool:
            return False

    def sampled(store: MemoryStore) -> set[Any]:
        sampler = ParentBasedTraceIdRatio(0.5)
        with capture_spans(tracer_provider=TracerProvider(sampler=sampler, shutdown_on_exit=False), store=store) as s:
            for number in range(40):
                ask(quick_client, f"s{number}")
        return {span.attributes["session.id"] for span in s if span.name != "session"}

    assert 0 < len(sampled(Lost())) < 40
    assert sampled(Lost()) == sampled(MemoryStore())


# --- providers ----------------------------------------------------------------------------------------------


class WrappedTracer(trace.Tracer):
    def __init__(self, inner: trace.Tracer) -> None:
        self._inner = inner

    def start_span(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner.start_span(*args, **kwargs)

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner.start_as_current_span(*args, **kwargs)


class WrappedProvider(trace.TracerProvider):
    """A vendor's wrapper: an API provider whose tracers have no id generator."""

    def __init__(self, inner: TracerProvider) -> None:
        self.add_span_processor = inner.add_span_processor
        self._inner = inner

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        return WrappedTracer(self._inner.get_tracer(*args, **kwargs))


def warnings_in(caplog: Any) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_wrapper_without_an_id_generator_gets_session_traces_with_random_ids(client, exported, caplog):
    provider: Any = WrappedProvider(exported.provider)
    with capture_spans(tracer_provider=provider):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: ask(client, "X"), range(8)))
        ask(client, "X")
        with provider.get_tracer("x").start_as_current_span("request"):
            ask(client, "X")
        first = client.responses.create(model="m", input="x")
        client.responses.create(model="m", input="x", previous_response_id=first.id)
    root = only([span for span in exported.named("session") if span.attributes["session.id"] == "X"])
    assert root.trace_id != session_trace_id("X")
    turns = [span for span in exported.named("chat") if span.attributes["session.id"] == "X"]
    assert Counter((turn.trace_id, turn.parent_id) == ref(root) for turn in turns) == {True: 9, False: 1}
    assert (only(exported.named("turn")).trace_id, len(exported.named("session"))) == (root.trace_id, 2)
    assert warnings_in(caplog) == []


def test_a_wrapper_marks_the_first_nested_turn_of_a_chain_too(client, exported):
    provider: Any = WrappedProvider(exported.provider)
    with capture_spans(tracer_provider=provider):
        with provider.get_tracer("x").start_as_current_span("request"):
            first = client.responses.create(model="m", input="x")
        client.responses.create(model="m", input="x", previous_response_id=first.id)
    assert only(exported.named("turn")).trace_id == only(exported.named("session")).trace_id


def test_with_the_api_only_chains_are_kept_and_nothing_is_raised(api, caplog):
    store = MemoryStore()
    instrumentor = OpenAISessionsInstrumentor()
    instrumentor.instrument(tracer_provider=trace.NoOpTracerProvider(), store=store)
    with session("X"):
        api.chat()
    first = api.respond()
    second = api.respond(previous_response_id=first.id)
    link = store.get_all([f"r:{second.id}"])[0]
    instrumentor.uninstrument()
    assert link is not None
    assert (link.session_id, link.turn) == (first.id, 2)
    assert warnings_in(caplog) == []


@pytest.fixture
def no_global_provider(monkeypatch):
    """No tracer provider is set; returns what sets one, as often as one likes."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    return lambda provider: setattr(trace, "_TRACER_PROVIDER", provider)


def test_a_provider_set_after_instrument_gets_whole_sessions(client, exported, no_global_provider):
    OpenAISessionsInstrumentor().instrument()
    ask(client, "X")
    first = client.responses.create(model="m", input="x")
    no_global_provider(exported.provider)
    for _ in range(2):
        ask(client, "X")
    client.responses.create(model="m", input="x", previous_response_id=first.id)
    roots = {root.attributes["session.id"]: ref(root) for root in exported.named("session")}
    assert (len(exported.named("session")), set(roots)) == (2, {"X", first.id})
    assert [(c.trace_id, c.parent_id) for c in exported.named("chat")] == [roots["X"]] * 2 + [roots[first.id]]
    assert [c.attributes["llm_session.turn"] for c in exported.named("chat")] == [2, 3, 2]


def test_a_provider_replaced_between_tests_gets_whole_sessions_and_the_old_one_is_freed(client, no_global_provider):
    OpenAISessionsInstrumentor().instrument()
    chain = None
    freed = []
    for number in range(3):
        memory, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(memory))
        freed.append(weakref.ref(provider))
        no_global_provider(provider)
        for _ in range(2):
            ask(client, "X")
            chain = client.responses.create(model="m", input="x", **{"previous_response_id": chain.id} if chain else {})
        with session("X"):
            ask(client, "X")
        spans = memory.get_finished_spans()
        roots = Counter(span.context.span_id for span in spans if span.name == "session")
        assert list(roots.values()) == [1, 1], f"provider {number}"
        assert {span.parent.span_id for span in spans if span.name != "session"} == set(roots)
    del provider, memory, spans
    no_global_provider(None)
    ask(client, "X")
    gc.collect()
    assert [ref() for ref in freed] == [None, None, None]


def test_a_foreign_tracer_with_ids_but_no_sampler_is_taken_to_sample(client, exported, caplog):
    class HalfTracer(WrappedTracer):
        @property
        def id_generator(self) -> Any:
            return self._inner.id_generator

        @id_generator.setter
        def id_generator(self, value: Any) -> None:
            self._inner.id_generator = value

    class HalfProvider(WrappedProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
            return HalfTracer(self._inner.get_tracer(*args, **kwargs))

    class Lost(MemoryStore):
        def claim(self, key: str) -> bool:
            return False

    with capture_spans(tracer_provider=HalfProvider(exported.provider), store=Lost()):
        ask(client, "X")
    assert only(exported.spans).trace_id == session_trace_id("X")
    assert warnings_in(caplog) == []


# --- TRACES=turn --------------------------------------------------------------------------------------------


def test_with_traces_turn_ids_and_parents_are_natural(api, exported, tracer):
    with capture_spans(tracer_provider=exported.provider, traces="turn"):
        first = api.respond()
        with tracer.start_as_current_span("request"):
            api.respond(previous_response_id=first.id)
        with session("X"):
            api.chat()
    assert not exported.named("session")
    assert not exported.named("turn")
    one, two, three = exported.named("chat")
    assert (one.parent_id, three.parent_id) == ("", "")
    assert len({one.trace_id, two.trace_id, three.trace_id}) == 3
    assert (two.trace_id, two.parent_id) == ref(only(exported.named("request")))
    assert linked(two, "previous_turn") == [ref(one)]
    assert "llm_session.part" not in one.attributes
