"""Records of other processes that come late to the store: where its answers were late, they are reckoned with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fake_backend import FakeBackend
from lookup_kit import calls
from loopback_client import MODEL
from store_kit import a_link, until
from waiting import AT_MOST, auntil

from otel_llm_sessions.openai import course, flow
from otel_llm_sessions.openai.announcing import is_missing
from otel_llm_sessions.openai.held import HELD
from otel_llm_sessions.openai.question import BUDGET
from otel_llm_sessions.sessions.keys import PROCESS, announced_key, session_key
from otel_llm_sessions.sessions.link import SessionId, SessionLink, SpanRef
from otel_llm_sessions.stores import pace
from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.stores.opening import open_store
from otel_llm_sessions.stores.pace import Pace
from otel_llm_sessions.stores.shared import Ask, Lookup, Put
from otel_llm_sessions.testing import capture_spans


@pytest.fixture
def other(redis: Any) -> Iterator[Any]:
    """The store as another process has it."""
    store = open_store(redis.url)
    yield store
    store.close()


def test_a_store_that_was_late_is_asked_again_for_what_another_process_is_still_writing(client, proxy, other, chain):
    (first,) = chain(1)
    with capture_spans(store=proxy.url) as spans:
        client.responses.create(model=MODEL, input="x")  # it is connected
        until(lambda: calls(spans))
        proxy.delay = 0.2
        asked = proxy.sent
        client.responses.create(model=MODEL, input="x", previous_response_id=first)
        until(lambda: proxy.sent >= asked + 3)  # a record of the call, and two look-ups in vain
        other.put([f"r:{first}"], a_link())
        until(lambda: len(calls(spans)) == 2)
    found = calls(spans)[1].attributes
    assert (found["session.id"], found["llm_session.turn"]) == ("session-1", 2)


def test_a_store_that_is_quick_is_asked_twice_for_what_nobody_knows(client, redis, chain, monkeypatch):
    monkeypatch.setattr(pace, "SLOW", 10.0)  # as on a machine that has nothing else to do
    asked, ask = [], GuardedStore.ask
    monkeypatch.setattr(GuardedStore, "ask", lambda store, keys, *args: asked.extend(keys) or ask(store, keys, *args))
    (first,) = chain(1)
    with capture_spans(store=redis.url) as spans:
        client.responses.create(model=MODEL, input="x", previous_response_id=first)
        until(lambda: calls(spans))
    assert calls(spans)[0].attributes["llm_session.source"] == "chain_partial"
    assert asked == [f"r:{first}"] * 2


@pytest.mark.parametrize("is_late", [True, False])
def test_a_turn_is_recorded_when_it_begins_where_its_record_may_be_late(
    client, server, proxy, other, is_late, monkeypatch
):
    """Who makes the next turn, in another process, numbers it by this one's."""
    monkeypatch.setattr(pace, "SLOW", 0.02 if is_late else 10.0)
    with capture_spans(store=proxy.url) as spans, ThreadPoolExecutor(1) as pool:
        proxy.delay = 0.1 if is_late else 0.0
        ask(client, "X")
        until(lambda: calls(spans))
        proxy.delay = 0.0
        second = pool.submit(ask, client, "X", **{"x-loopback-mode": "delay=60"})
        until(lambda: len(server.requests) == 2)
        until(lambda: as_others_know(other) == ((2, False) if is_late else (1, True)))
        server.release()
        second.result()
        until(lambda: as_others_know(other) == (2, True))
    assert [span.attributes["llm_session.turn"] for span in calls(spans)] == [1, 2]


def a_turn(number: int, start: int, end: int) -> SessionLink:
    """A turn of X that another process makes."""
    return a_link()._replace(session_id=SessionId("X"), source="header", turn=number, start=start, end=end)


def announcement(other: GuardedStore) -> SessionLink | None:
    """Return what others know of the turn of X that announced itself last."""
    (link,) = other.get_all([announced_key("X")])
    return link


@pytest.mark.parametrize("is_placed", [True, False])
def test_a_turn_waits_for_the_record_of_one_that_another_process_has_announced(client, server, proxy, other, is_placed):
    """The turn before is over, and its record is not there yet: its own answer was late, or the record is."""
    store = open_store(proxy.url)
    with capture_spans(store=store) as spans, ThreadPoolExecutor(1) as pool:
        proxy.delay = 0.1
        ask(client, "X")
        until(lambda: as_others_know(other) == (1, True))
        proxy.delay = 0.0
        assert store.ask(["anything"]).wait(AT_MOST), "it has done all that it was asked"
        proxy.delay = 0.0 if is_placed else 0.1
        before, asked = time.time_ns(), proxy.sent
        other.put([announced_key("X")], a_turn(0, before, 0)._replace(span=SpanRef(0, 0, 0), trace=None))
        third = pool.submit(ask, client, "X", **{"x-loopback-mode": "delay=60"})
        until(lambda: len(server.requests) == 2 and proxy.sent > asked)
        other.put([session_key("X")], a_turn(2, before + 1, before + 2))
        server.release()
        third.result()
        until(lambda: len(calls(spans)) == 2)
    made = calls(spans)[1]
    assert made.attributes["llm_session.turn"] == 3
    told = {link.attributes["llm_session.link"]: link.context.span_id for link in made.links}
    assert told["previous_turn"] == a_link().span.span_id


class Together(FakeBackend):
    """Notes what is put in the round trip in which the session of a turn is asked for."""

    put: Sequence[str] = ()

    def serve(self, asks: Sequence[Ask], seconds: float | None = None) -> list[Any]:
        if any(session_key("X") in ask.keys for ask in asks if isinstance(ask, Lookup)):
            self.put = [key for ask in asks if isinstance(ask, Put) for key, _ in ask.entries]
        return super().serve(asks, seconds)


class Slowly(GuardedStore):
    """Puts nothing beside a question before that has gone out."""

    def put_soon(self, keys: Sequence[str], link: SessionLink) -> None:
        assert self.backend.begun.wait(AT_MOST)
        super().put_soon(keys, link)


def test_a_turn_announces_itself_in_one_round_trip_with_its_question(client, patient, monkeypatch):
    """Else the store has the announcement a round trip later, and the next turn has looked for it by then."""
    store = Slowly(backend := Together())
    with capture_spans(store=store):
        store.get_all(["connected"])
        store.backend = backend
        backend.begun.clear()
        monkeypatch.setattr(Pace, "lateness", 0.1)
        ask(client, "X")
    assert backend.put == [announced_key("X")]


class Overtaken(FakeBackend):
    """Hears of a turn only when the one that follows it has asked, as where the process before was held up."""

    def __init__(self) -> None:
        super().__init__()
        self.late: dict[str, SessionLink] = {}

    def serve(self, asks: Sequence[Ask], seconds: float | None = None) -> list[Any]:
        outcomes = super().serve(asks, seconds)
        if any(announced_key("X") in dict(ask.entries) for ask in asks if isinstance(ask, Put)):
            self.links.update(self.late)
        return outcomes


@pytest.fixture
def overtaken() -> Iterator[Callable[[Any, Callable[[], dict[str, SessionLink]]], int]]:
    """Return what makes a second turn whose answer is late, and says its number; the store hears of more meanwhile."""
    backend = Overtaken()

    def number_of(client: Any, meanwhile: Callable[[], dict[str, SessionLink]]) -> int:
        ask(client, "X")
        until(lambda: (link := backend.links.get(session_key("X"))) is not None and link.end)
        backend.go_on.clear()
        backend.late = meanwhile()
        ask(client, "X")
        backend.go_on.set()
        until(lambda: len(calls(spans)) == 2)
        return calls(spans)[1].attributes["llm_session.turn"]

    with capture_spans(store=GuardedStore(backend)) as spans:
        yield number_of


@pytest.mark.parametrize("was_late", [True, False])
def test_a_turn_whose_answer_was_late_looks_once_more_for_one_that_was_announced_as_late(
    client, overtaken, was_late, monkeypatch
):
    def announced_and_recorded() -> dict[str, SessionLink]:
        before = time.time_ns()
        return {announced_key("X"): a_turn(0, before, 0), session_key("X"): a_turn(2, before + 1, before + 2)}

    if was_late:
        monkeypatch.setattr(Pace, "lateness", 0.1)
    assert overtaken(client, announced_and_recorded) == 3


def test_a_turn_does_not_count_by_one_that_began_after_it(client, overtaken):
    """That one had not heard of it either, and has the number that is this one's."""
    after = time.time_ns() + 3_600_000_000_000
    assert overtaken(client, lambda: {session_key("X"): a_turn(2, after, after + 1)}) == 2


@pytest.mark.parametrize(
    ("announced", "newest", "missing"), [(8, 5, True), (8, 8, False), (8, None, True), (10, 5, False), (99, 5, False)]
)
def test_what_is_announced_is_waited_for_until_a_turn_is_recorded_that_began_no_earlier(announced, newest, missing):
    """But not by a call that began before it; nor is what a clock that runs ahead has announced."""
    recorded = None if newest is None else a_turn(1, newest, newest)
    assert is_missing(a_turn(0, announced, 0), recorded, begun=10) is missing


def test_the_first_turn_that_is_late_hears_of_the_one_before_it_too(client, server):
    """It has not asked for that together with its session, since nothing was late before."""
    backend = FakeBackend()
    with capture_spans(store=GuardedStore(backend)) as spans, ThreadPoolExecutor(1) as pool:
        ask(client, "X")
        until(lambda: (link := backend.links.get(session_key("X"))) is not None and link.end)
        backend.go_on.clear()
        before = time.time_ns()
        backend.links[announced_key("X")] = a_turn(0, before, 0)
        third = pool.submit(ask, client, "X", **{"x-loopback-mode": "delay=60"})
        until(lambda: len(server.requests) == 2)
        backend.go_on.set()
        until(lambda: backend.links[announced_key("X")].start > before)  # all that was asked before is answered
        backend.links[session_key("X")] = a_turn(2, before + 1, before + 2)
        server.release()
        third.result()
        until(lambda: len(calls(spans)) == 2)
    assert calls(spans)[1].attributes["llm_session.turn"] == 3


class Slow(MemoryStore):
    """The application's own, which takes its time."""

    waits = True

    async def aget_all(self, keys: Sequence[str]) -> list[SessionLink | None]:
        await asyncio.sleep(4 * BUDGET)
        return self.get_all(keys)


async def test_nothing_is_announced_in_a_store_of_the_applications_own(async_client):
    """Nobody would look for it there: how late such a store is, is not known."""
    store = Slow()
    with capture_spans(store=store) as spans:
        await ask(async_client, "X")
        await auntil(lambda: calls(spans))
    assert session_key("X") in dict(store.snapshot())
    assert announced_key("X") not in dict(store.snapshot())


def test_a_turn_that_waits_for_a_record_is_found_by_its_response_meanwhile(client, monkeypatch):
    """Who goes on from it elsewhere, and names no session, would start one of its own."""
    monkeypatch.setattr(GuardedStore, "lateness", AT_MOST)  # it waits for as long as a busy machine may take
    monkeypatch.setattr(course, "PATIENCE", AT_MOST)
    monkeypatch.setattr(course, "YET_AGAIN", [0.2 * number for number in range(1, 300)])
    backend = FakeBackend()
    with capture_spans(store=GuardedStore(backend)) as spans:
        client.responses.create(model=MODEL, input="x", extra_headers={"x-session-id": "X"})
        until(lambda: (link := backend.links.get(session_key("X"))) is not None and link.end)
        before = time.time_ns()
        backend.links[announced_key("X")] = a_turn(0, before, 0)
        made = client.responses.create(model=MODEL, input="x", extra_headers={"x-session-id": "X"}).id
        until(lambda: f"r:{made}" in backend.links)
        meanwhile, newest = backend.links[f"r:{made}"], backend.links[session_key("X")]
        backend.links[session_key("X")] = a_turn(2, before + 1, before + 2)
        until(lambda: len(calls(spans)) == 2)
        until(lambda: backend.links[f"r:{made}"].source == "header")
    assert (meanwhile.session_id, meanwhile.source, newest.turn) == ("X", "chain_partial", 1)
    found = calls(spans)[1].attributes
    assert (found["llm_session.source"], found["llm_session.turn"]) == ("header", 3)
    assert backend.links[f"r:{made}"].turn == backend.links[session_key("X")].turn == 3


def test_what_this_process_has_announced_itself_is_not_waited_for():
    """It knows its own turns that are over, and those that go on do not come before the call."""
    assert not is_missing(a_turn(0, 8, 0)._replace(response_id=PROCESS.token), a_turn(1, 5, 6), begun=10)


async def test_turns_that_a_process_makes_at_once_stand_in_their_session(async_client, monkeypatch):
    for owner, name, value in ((GuardedStore, "lateness", 0.2), (flow, "BUDGET", 10.0), (Pace, "patience", 10.0)):
        monkeypatch.setattr(owner, name, value)
    with capture_spans(store=GuardedStore(FakeBackend())) as spans:
        await ask(async_client, "X")
        await asyncio.gather(*(ask(async_client, "X") for _ in range(4)))
        until(lambda: len(calls(spans)) == 5)
    assert {span.parent is None for span in calls(spans)} == {False}


@pytest.mark.parametrize("is_late", [True, False])
def test_a_turn_announces_itself_where_the_store_is_late(client, proxy, other, is_late, monkeypatch):
    if not is_late:  # as on a machine that has nothing else to do
        monkeypatch.setattr(pace, "SLOW", 10.0)
        monkeypatch.setattr(flow, "BUDGET", 10.0)
        monkeypatch.setattr(Pace, "patience", 10.0)
    with capture_spans(store=proxy.url):
        proxy.delay = 0.1 if is_late else 0.0
        ask(client, "X")
        until(lambda: as_others_know(other) == (1, True))
        assert (announcement(other) is not None) is is_late
        proxy.delay = 0.0
        ask(client, "X")
        until(lambda: as_others_know(other) == (2, True))
        newest = announcement(other)
    if is_late:
        assert newest is not None
        assert (newest.session_id, newest.turn) == ("X", 0)
        (recorded,) = other.get_all([session_key("X")])
        assert 0 < newest.start <= recorded.start
    else:
        assert newest is None


def test_a_turn_that_ended_without_an_answer_is_not_found_as_the_one_before_itself(client, monkeypatch):
    """It is recorded with what was known; so the answer that comes at last finds it, and would mark it once more."""
    corrected, correct = [], course.correct
    monkeypatch.setattr(course, "correct", lambda *args: corrected.append(correct(*args)))
    backend = FakeBackend()
    with capture_spans(store=GuardedStore(backend)) as spans:
        ask(client, "X")
        until(lambda: (link := backend.links.get(session_key("X"))) is not None and link.end)
        backend.go_on.clear()
        ask(client, "X")
        assert HELD.settle(), "its end was kept back"
        until(lambda: len(calls(spans)) == 2)
        backend.go_on.set()
        until(lambda: corrected)
        until(lambda: backend.links[session_key("X")].turn == 2)
        ask(client, "X")
        until(lambda: len(calls(spans)) == 3)
    assert [span.attributes["llm_session.turn"] for span in calls(spans)] == [1, 2, 3]
    marked = [span.attributes["llm_session.turn"] for span in spans if span.name == "turn"]
    assert marked.count(2) == 1


def as_others_know(other: GuardedStore) -> tuple[int, bool] | None:
    """Return the newest turn of X, and whether it has ended; None while that is not heard."""
    (link,) = other.get_all([session_key("X")])
    return None if link is None else (link.turn, bool(link.end))


def ask(client: Any, session_id: str, **headers: str) -> Any:
    headers["x-session-id"] = session_id
    return client.chat.completions.create(model=MODEL, messages=[], extra_headers=headers)
