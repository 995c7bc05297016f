"""Answers of a store that come late: the call goes out, its span stands, and what is found of its session follows."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from typing import Any

import pytest
from echo_kit import message, response, user
from loopback_client import MODEL
from opentelemetry import trace
from opentelemetry.baggage import set_baggage
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from session_kit import places
from store_kit import Lateness, a_link, redis_backend
from waiting import until

from otel_llm_sessions import session, session_trace_id
from otel_llm_sessions.openai import call as call_module
from otel_llm_sessions.openai import course
from otel_llm_sessions.openai.held import HELD
from otel_llm_sessions.openai.learn import record_of
from otel_llm_sessions.stores.answer import Answer
from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.opening import open_store
from otel_llm_sessions.testing import capture_spans

FAR = 0.04
"""Seconds to a Redis that is far away, and back."""

TURNS = 25
FIRST = 10
"""Calls in which a process finds out how far it is."""


def calls(spans: Any) -> list[Any]:
    """The spans of calls, as they began."""
    return sorted((span for span in spans if span.kind is trace.SpanKind.CLIENT), key=lambda span: span.start_time)


def chained(api: Any, turns: int) -> list[float]:
    """Make a chain of responses; return how long each call took."""
    took, last = [], None
    for _ in range(turns):
        began = time.perf_counter()
        last = api.respond(**({"previous_response_id": last} if last else {})).id
        took.append(time.perf_counter() - began)
    return took


def named(api: Any, turns: int) -> list[float]:
    """Make turns of a session that the application names; return how long each call took."""
    took = []
    for _ in range(turns):
        began = time.perf_counter()
        api.chat(extra_headers={"x-session-id": "X"})
        took.append(time.perf_counter() - began)
    return took


def given(api: Any, turns: int) -> list[float]:
    """As ``named``, with calls whose replies leave ids."""
    took = []
    for _ in range(turns):
        began = time.perf_counter()
        api.respond(metadata={"session_id": "X"})
        took.append(time.perf_counter() - began)
    return took


@pytest.mark.parametrize("talk", [chained, named, given])
def test_a_redis_that_is_far_away_costs_calls_next_to_nothing(api, proxy, talk):
    bare = statistics.median(talk(api, TURNS))
    proxy.delay = FAR
    with capture_spans(store=proxy.url) as spans, Lateness() as late:
        took = talk(api, TURNS)[FIRST:]
        until(lambda: len(calls(spans)) == TURNS)
    ids = {span.attributes["session.id"] for span in calls(spans)}
    assert len(ids) == 1
    assert [turn for _, turn in places(calls(spans))] == list(range(1, TURNS + 1))
    assert statistics.median(took) - bare < late.limit(0.002)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("talk", [chained, named, given])
def test_a_redis_that_is_far_away_costs_calls_two_milliseconds_at_most(api, proxy, talk):
    """By the least of three tries: whatever else the machine does takes time as well."""
    cost = []
    for _ in range(3):
        proxy.delay = FAR
        with capture_spans(store=proxy.url) as spans:
            took = talk(api, TURNS)[FIRST:]
            until(lambda spans=spans: len(calls(spans)) == TURNS)
        proxy.delay = 0
        cost.append(statistics.median(took) - statistics.median(talk(api, TURNS)))
    assert min(cost) < 0.002, cost


async def test_a_time_limit_that_a_call_keeps_without_us_is_kept_with_us(async_client, server, proxy):
    with capture_spans(store=proxy.url) as spans:
        proxy.delay = 0.2
        took = []
        with Lateness() as late:
            for _ in range(10):
                began = time.perf_counter()
                await async_client.chat.completions.create(
                    model=MODEL, messages=[], extra_headers={"x-session-id": "X"}
                )
                took.append(time.perf_counter() - began)
        assert max(took) < late.limit(0.12)
        await asyncio.sleep(0)
        until(lambda: len(calls(spans)) == 10)
    assert {id_ for id_, _ in places(calls(spans))} == {"X"}


def test_a_call_whose_answer_is_late_stands_at_once_and_is_told_where_it_belongs(client, proxy):
    with capture_spans(store=proxy.url) as first:
        named_by(client, "X")
    with capture_spans(store=proxy.url) as spans:
        proxy.delay = 0.2
        named_by(client, "X")
        assert not calls(spans), "only its end is kept back"
        ended = time.time_ns()
        until(lambda: calls(spans))
    (call,) = calls(spans)
    assert call.parent is None
    assert call.end_time <= ended
    assert places(calls(spans)) == [("X", 2)]
    (marker,) = [span for span in spans if span.name == "turn"]
    assert f"{marker.context.trace_id:032x}" == session_trace_id("X")
    assert marker.links[0].context.span_id == call.context.span_id
    kinds = {link.attributes["llm_session.link"]: link.context for link in call.links}
    assert kinds["previous_turn"].span_id == calls(first)[0].context.span_id
    assert kinds["session"].trace_id == marker.context.trace_id
    assert len([span for span in [*first, *spans] if span.name == "session"]) == 1


@pytest.mark.parametrize("delay", [0.06, 0.1, 0.2])
def test_a_turn_waits_for_the_turn_before_it_whose_session_is_not_known_yet(client, proxy, delay):
    with capture_spans(store=proxy.url):
        first = client.responses.create(model=MODEL, input="x", metadata={"session_id": "X"})
    with capture_spans(store=proxy.url) as spans:
        proxy.delay = delay
        client.responses.create(model=MODEL, input="x", previous_response_id=first.id)
        named_by(client, "X")
        until(lambda: len(calls(spans)) == 2)
    assert places(calls(spans)) == [("X", 2), ("X", 3)]


class LateClaims(GuardedStore):
    """A store whose answers to claims a test gives."""

    def ask_claim(self, key: str, within: float = 0.0) -> Answer[bool]:
        self.claimed: Answer[bool] = Answer()
        return self.claimed


def test_a_claim_that_is_never_answered_is_not_waited_for_for_ever(client, redis, monkeypatch):
    monkeypatch.setattr(course, "PATIENCE", 0.05)
    store = LateClaims(redis_backend(redis.url))
    with capture_spans(store=store):
        named_by(client, "X")
        until(lambda: not len(HELD))
        assert not store.claimed.is_done
    store.close()


def test_a_claim_that_is_answered_late_is_waited_for_at_exit(client, redis):
    store = LateClaims(redis_backend(redis.url))
    with capture_spans(store=store) as spans:
        named_by(client, "X")
        assert len(HELD) == 1
        store.claimed.settle(True)
        until(lambda: not len(HELD))
        assert [span.attributes["session.id"] for span in spans if span.name == "session"] == ["X"]
    store.close()


def test_without_an_answer_a_turn_goes_by_what_its_process_knows(client, proxy):
    with capture_spans(store=proxy.url) as spans:
        for _ in range(2):
            named_by(client, "X")
        proxy.delay = 60.0
        named_by(client, "X")
    assert places(calls(spans)) == [("X", 1), ("X", 2), ("X", 3)]


def named_by(client: Any, session_id: str) -> Any:
    return client.chat.completions.create(model=MODEL, messages=[], extra_headers={"x-session-id": session_id})


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_ends_before_its_session_is_looked_up_ends_once_and_says_what_was_given(api, proxy, caplog, stream):
    with capture_spans(store=proxy.url) as spans:
        api.chat()
        proxy.delay = 0.2
        reply = api.respond(metadata={"session_id": "X"}, stream=stream)
        if stream:
            api.read(reply)
        until(lambda: len(calls(spans)) == 2)
    assert places(calls(spans)[-1:]) == [("X", 1)]
    assert not caplog.records


class AtStart(SpanProcessor):
    """Sees which session the spans of calls have when they start."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if span.kind is trace.SpanKind.CLIENT:
            self.seen.append(span.attributes.get("session.id"))


@pytest.mark.parametrize("echoes", [True, False])
def test_what_baggage_names_is_not_said_before_the_ids_that_are_stronger_are_looked_up(api, server, proxy, echoes):
    left, provider, at_start = message(), TracerProvider(shutdown_on_exit=False), AtStart()
    server.script(response(left), path="/responses")
    with capture_spans(store=proxy.url):
        first = api.respond().id
    provider.add_span_processor(at_start)
    with capture_spans(store=proxy.url, tracer_provider=provider) as spans:
        proxy.delay = 0.15
        token = attach(set_baggage("session.id", "visit"))
        try:
            api.respond(input=[left if echoes else user(), user()])
        finally:
            detach(token)
        until(lambda: calls(spans))
    assert at_start.seen == [None if echoes else "visit"]
    assert calls(spans)[0].attributes["session.id"] == (first if echoes else "visit")


def test_who_is_interrupted_as_such_a_call_ends_leaves_one_span(client, proxy, caplog, monkeypatch):
    interrupted = threading.Event()

    def interrupt(*arguments: Any) -> None:
        if not interrupted.is_set() and threading.current_thread() is threading.main_thread():
            interrupted.set()
            raise KeyboardInterrupt
        return record_of(*arguments)

    with capture_spans(store=proxy.url) as spans:
        client.responses.create(model=MODEL, input="x")
        proxy.delay = 0.2
        monkeypatch.setattr(call_module, "record_of", interrupt)
        with pytest.raises(KeyboardInterrupt):
            client.responses.create(model=MODEL, input="x", metadata={"session_id": "X"})
        until(lambda: [span for span in spans if span.name == "turn"])
    assert [span.attributes["session.id"] for span in calls(spans)[1:]] == ["X"]
    assert not caplog.records


def test_a_call_under_a_span_stays_there(client, proxy):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(store=proxy.url, tracer_provider=provider) as spans:
        proxy.delay = 0.2
        with provider.get_tracer("web").start_as_current_span("GET /") as around:
            named_by(client, "X")
        until(lambda: calls(spans))
    (call,) = calls(spans)
    assert call.parent.span_id == around.get_span_context().span_id
    (marker,) = [span for span in spans if span.name == "turn"]
    assert marker.attributes["llm_session.turn"] == 1


def test_a_block_is_entered_in_time_and_its_root_follows(client, proxy):
    with capture_spans(store=proxy.url) as spans:
        proxy.delay = 0.3
        with Lateness() as late:
            began = time.perf_counter()
            with session("X"):
                took = time.perf_counter() - began
                named_by(client, "X")
        assert took < late.limit(0.1)
        until(lambda: len(spans) == 2)
    (root,) = [span for span in spans if span.name == "session"]
    (call,) = calls(spans)
    assert f"{root.context.trace_id:032x}" == session_trace_id("X")
    assert call.parent.span_id == root.context.span_id
    assert places(calls(spans)) == [("X", 1)]


def test_what_the_store_does_not_know_yet_is_asked_once_more(client, server, redis, chain):
    """The process before may still be writing."""
    (first,) = chain(1)
    store = open_store(redis.url)
    with capture_spans(store=redis.url) as spans:
        arguments = {"previous_response_id": first, "stream": True, "extra_headers": {"x-loopback-mode": "hold=2"}}
        with client.responses.create(model=MODEL, input="x", **arguments) as stream:
            next(iter(stream))
            store.put([f"r:{first}"], a_link())
            server.release()
            list(stream)
        until(lambda: calls(spans))
    store.close()
    assert places(calls(spans)) == [("session-1", 2)]


def test_what_nobody_knows_is_partial_and_its_span_waits_for_that(client, redis, chain):
    (first,) = chain(1)
    with capture_spans(store=redis.url) as spans:
        client.responses.create(model=MODEL, input="x", previous_response_id=first)
        assert not calls(spans), "it is not known yet whether nobody knows"
        until(lambda: calls(spans))
    assert places(calls(spans)) == [(first, 2)]
    assert calls(spans)[0].attributes["llm_session.source"] == "chain_partial"


@pytest.mark.slow
@pytest.mark.alone  # where the store is later still, it is asked more often
def test_what_a_late_store_does_not_know_is_asked_again_as_soon(client, proxy, chain):
    """The call is over when the first answer comes: nothing else is waited for."""
    (first,) = chain(1)
    with capture_spans(store=proxy.url) as spans:
        client.responses.create(model=MODEL, input="x")  # it is connected
        proxy.delay = 0.1
        with Lateness() as late:
            client.responses.create(model=MODEL, input="x", previous_response_id=first)
            began = time.monotonic()
            until(lambda: len(calls(spans)) == 2)
            took = time.monotonic() - began
        assert took < late.limit(1.0), "it was not given up after two seconds"
    assert places(calls(spans))[1] == (first, 2)


def test_an_outage_heals(client, server, redis):
    """What is made while the store is down is told by a later turn, and what comes after that is right."""
    (first,) = [client.responses.create(model=MODEL, input="x").id]
    with capture_spans(store=redis.url) as spans:
        second = client.responses.create(model=MODEL, input="x", previous_response_id=first).id
        third = client.responses.create(model=MODEL, input="x", previous_response_id=second).id
        until(lambda: len(calls(spans)) == 2)
        assert {span.attributes["session.id"] for span in calls(spans)} == {first}
        store = open_store(redis.url)
        store.put([f"r:{first}"], a_link())
        fourth = client.responses.create(model=MODEL, input="x", previous_response_id=third).id
        until(lambda: len(calls(spans)) == 3)
        client.responses.create(model=MODEL, input="x", previous_response_id=fourth)
        until(lambda: len(calls(spans)) == 4)
        until(lambda: store.get_all([f"r:{second}"])[0].session_id == "session-1")
        store.close()
    assert places(calls(spans))[2:] == [("session-1", 4), ("session-1", 5)]
    by_id = {span.context.span_id: span for span in calls(spans)}
    for before, after in zip(calls(spans)[1:], calls(spans)[2:]):
        (link,) = [link for link in after.links if link.attributes["llm_session.link"] == "previous_turn"]
        assert by_id[link.context.span_id] is before
