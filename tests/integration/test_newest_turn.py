"""The number of a session's turns: neither a slow turn nor a clock that runs ahead sets it back."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx2
import pytest
from answered import client_of
from opentelemetry.trace import SpanKind
from store_kit import redis_backend

from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.stores.sqlite import SqliteBackend
from otel_llm_sessions.testing import capture_spans

SESSION = {"extra_headers": {"x-session-id": "mine"}}
PATIENT = 5.0
TWO_SECONDS = 2_000_000_000


pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture(params=["memory", "sqlite", "redis"])
def make_store(request, tmp_path):
    """Return a function that opens the store as one more process does."""
    stores = []

    def make() -> Any:
        if request.param == "memory":
            return MemoryStore()
        if request.param == "sqlite":
            inner = SqliteBackend(tmp_path / "sessions.db")
        else:
            inner = redis_backend(request.getfixturevalue("redis").url)
        stores.append(store := GuardedStore(inner, time_limit=PATIENT))
        return store

    yield make
    for store in stores:
        store.close()


def numbers(spans: Any) -> list[int]:
    """The numbers of the calls, in the order in which they began."""
    calls = [span for span in spans if span.kind is SpanKind.CLIENT]
    return [span.attributes["llm_session.turn"] for span in sorted(calls, key=lambda span: span.start_time)]


def test_a_slow_turn_that_ends_last_does_not_set_its_session_back(make_store):
    arrived, go_on = threading.Event(), threading.Event()

    def answer(request: httpx2.Request) -> httpx2.Response:
        if b"slow" in request.content:
            arrived.set()
            assert go_on.wait(10)
        message = {"role": "assistant", "content": "Hello"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        reply = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
        return httpx2.Response(200, json=reply)

    client = client_of(answer)

    def turn(text: str = "Hello") -> None:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}], **SESSION)

    with capture_spans(store=make_store()) as spans:
        turn()
        slow = threading.Thread(target=turn, args=("slow",))
        slow.start()
        assert arrived.wait(10)
        for _ in range(3):
            turn()
        go_on.set()
        slow.join()
        turn()
        turn()
    client.close()
    assert numbers(spans) == [1, 2, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("make_store", ["sqlite", "redis"], indirect=True)
def test_processes_whose_clocks_differ_count_the_turns_of_a_session_together(api, make_store, monkeypatch):
    real, ahead, behind = time.time_ns, make_store(), make_store()
    counted: list[int] = []
    before = None
    for store in [ahead, behind] * 4:
        skew = TWO_SECONDS if store is ahead else 0
        monkeypatch.setattr(time, "time_ns", lambda skew=skew: real() + skew)
        with capture_spans(store=store) as spans:
            api.respond(**SESSION)
        (call,) = [span for span in spans if span.kind is SpanKind.CLIENT]
        counted.append(call.attributes["llm_session.turn"])
        previous = [link.context for link in call.links if link.attributes["llm_session.link"] == "previous_turn"]
        assert [context.span_id for context in previous] == ([before] if before else [])
        before = call.context.span_id
    assert counted == [1, 2, 3, 4, 5, 6, 7, 8]
