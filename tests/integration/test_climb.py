"""The way up a chain whose last turns do not know their session: how often the store is asked, by whom, how far."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from loopback_client import MODEL
from opentelemetry import trace
from store_kit import a_link, redis_direct
from waiting import until

from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.redis import RedisBackend
from otel_llm_sessions.stores.shared import Ask, Lookup
from otel_llm_sessions.testing import capture_spans

AT_MOST = 50
"""How many turns are passed."""


class Counting(RedisBackend):
    """Notes of each round trip that looks something up whose thread makes it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.lookups: list[threading.Thread] = []

    def serve(self, asks: Sequence[Ask], seconds: float | None = None) -> list[Any]:
        if any(isinstance(ask, Lookup) and any(key.startswith("r:") for key in ask.keys) for ask in asks):
            self.lookups.append(threading.current_thread())
        return super().serve(asks, seconds)


@pytest.fixture
def backend(redis: Any) -> Counting:
    return Counting(redis.url)


@pytest.fixture
def store(backend: Counting, patient: Any) -> Iterator[GuardedStore]:
    """A store that is connected, and knows nothing."""
    store = GuardedStore(backend, time_limit=5)
    store.get_all(["s:connected"])
    yield store
    store.close()


def half_known(redis: Any, ids: list[str]) -> Any:
    """Have the session of the first of a chain known, and of each later one only which it follows; return the store."""
    other = redis_direct(redis.url)
    other.put([f"r:{ids[0]}"], a_link())
    for before, id_ in zip(ids, ids[1:]):
        other.put([f"r:{id_}"], a_link(2, before)._replace(source="chain_partial", before=f"r:{before}"))
    return other


def the_turn_after(client: Any, store: GuardedStore, last: str) -> Any:
    """Make a turn that follows ``last``; return what its span says."""
    with capture_spans(store=store) as spans:
        client.responses.create(model=MODEL, input="x", previous_response_id=last)
        until(lambda: [span for span in spans if span.kind is trace.SpanKind.CLIENT])
    (call,) = (span for span in spans if span.kind is trace.SpanKind.CLIENT)
    return call.attributes


@pytest.mark.parametrize("passed", [1, 7, AT_MOST - 1])
def test_each_turn_that_is_passed_is_one_round_trip_beside_the_call(client, redis, chain, store, backend, passed):
    ids = chain(passed + 1)
    other = half_known(redis, ids)
    said = the_turn_after(client, store, ids[-1])
    assert (said["session.id"], said["llm_session.turn"]) == ("session-1", passed + 2)
    first, *beside = backend.lookups
    assert len(beside) == passed + 1, "of each that is passed, and of the one that knows"
    assert threading.current_thread() not in beside
    until(lambda: {link.session_id for link in other.get_all([f"r:{id_}" for id_ in ids])} == {"session-1"})
    assert [link.turn for link in other.get_all([f"r:{id_}" for id_ in ids])] == [*range(1, passed + 2)]
    other.close()


def test_no_more_than_fifty_turns_are_passed(client, redis, chain, store, backend):
    ids = chain(AT_MOST + 11)
    other = half_known(redis, ids)
    said = the_turn_after(client, store, ids[-1])
    assert said["session.id"] == ids[-2]
    first, *beside = backend.lookups
    assert len(beside) == AT_MOST
    other.close()
