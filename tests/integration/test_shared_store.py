"""The instrumented client over a store that processes share: round trips, threads, forks."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import fork_process
import pytest
from echo_kit import (
    called,
    completion,
    events,
    function_call,
    gave_back,
    output_of,
    reasoning,
    response,
    tool_call,
    user,
    without_ids,
)
from programs import importing, run_to_its_end
from store_kit import Proxy, redis_backend

from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.testing import CapturedSpans, capture_spans


class Trips:
    """Makes calls in processes that have stores of their own, and counts their round trips."""

    def __init__(self, proxy: Proxy) -> None:
        self.stores = [GuardedStore(redis_backend(proxy.url), time_limit=5) for _ in range(2)]
        self.spans = CapturedSpans()
        """Those of the last call."""
        self._proxy = proxy

    def __call__(self, call: Any, process: int = 0, **settings: Any) -> tuple[Any, int]:
        before = self._proxy.sent
        with capture_spans(store=self.stores[process], **settings) as self.spans:
            result = call()
        return result, self._proxy.sent - before


@pytest.fixture
def trips(proxy, patient):
    """Return what makes a call in a process of its own store, and returns its round trips."""
    trips = Trips(proxy)
    for store in trips.stores:
        store.get_all(["s:the scope becomes known"])[0]
    yield trips
    for store in trips.stores:
        store.close()


def test_a_call_makes_one_round_trip_for_each_thing_that_it_asks_or_says(api, trips):
    first, made = trips(lambda: api.respond())
    assert made == 1, "the record; there was nothing to look up"
    second, made = trips(lambda: api.respond(previous_response_id=first.id))
    assert made == 1, "the record; this process knows the chain itself"
    third, made = trips(lambda: api.respond(previous_response_id=second.id), process=1)
    assert made == 2, "the look-up and the record"
    _, made = trips(lambda: api.respond(previous_response_id=third.id))
    assert made == 2
    _, made = trips(lambda: api.respond(metadata={"session_id": "mine"}))
    assert made == 3, "the look-up, the claim of the session's root, the record"
    _, made = trips(lambda: api.respond(metadata={"session_id": "mine"}))
    assert made == 2, "another process may have made turns meanwhile"
    _, made = trips(lambda: api.respond(previous_response_id=third.id, metadata={"session_id": "mine"}), process=1)
    assert made == 2
    _, made = trips(lambda: api.chat())
    assert made == 0, "it is no session's"


def two_hundred(way: str, letters: str) -> list[Any]:
    """Items or messages of fifty of an agent's steps, whose tool calls have ids that begin with these letters."""
    sent: list[Any] = []
    for number in range(50):
        id_ = f"{letters}{number:02d}"
        if way == "responses":
            asked = function_call(call_id=id_)
            sent += [*without_ids(reasoning(), asked), output_of(asked), user()]
        else:
            tool = tool_call(id_)
            sent += [user(), called(tool), *gave_back(tool), user()]
    return sent


@pytest.mark.parametrize(
    ("letters", "found", "asked"),
    [("call_7rYooqsGfzqpUt2do4ecR0", True, 1), ("0G84QFM", True, 1), ("call_", False, 0)],
    ids=["long", "short", "counted"],
)
@pytest.mark.parametrize("way", ["responses", "chat"])
def test_two_hundred_items_that_are_sent_back_are_looked_up_in_one_round_trip(
    api, server, trips, way, letters, found, asked
):
    sent = two_hundred(way, letters)
    assert len(sent) == 200
    if way == "responses":
        server.script(response(*(item for item in sent if item.get("type") == "function_call")), path="/responses")
    else:
        server.script(completion(called(*(call for one in sent for call in one.get("tool_calls", ())))))
    make = api.respond if way == "responses" else api.chat
    trips(make, traces="turn")

    _, made = trips(lambda: make(**{"input" if way == "responses" else "messages": sent}), process=1, traces="turn")
    is_recorded = found or way == "responses"
    assert made == asked + is_recorded
    (call,) = trips.spans
    assert call.attributes.get("llm_session.turn") == (2 if found else 1 if is_recorded else None)


def test_a_stream_is_recorded_when_it_has_an_id_and_when_it_ends(api, trips):
    _, made = trips(lambda: api.read(api.respond(stream=True)))
    assert made == 2


def test_a_stream_of_tool_calls_writes_each_key_of_them_once_while_it_goes_on(api, redis, server, monkeypatch):
    written: list[list[str]] = []
    with capture_spans(store=redis.url):
        put = GuardedStore.ask_put
        monkeypatch.setattr(
            GuardedStore, "ask_put", lambda self, keys, *more: (written.append([*keys]), put(self, keys, *more))[1]
        )
        server.script_stream(events(response(*(function_call() for _ in range(5)))), path="/responses")
        api.read(api.respond(stream=True))
    *early, last = written
    assert len({key for keys in early for key in keys}) == sum(map(len, early)) == len(last) == 11


def test_a_turn_writes_three_keys_at_most_and_one_for_each_further_item(api, redis, trips):
    def written(call: Any) -> int:
        before = int(redis.ask("DBSIZE")[1:])
        trips(call)
        return int(redis.ask("DBSIZE")[1:]) - before

    assert written(lambda: api.respond()) == 2, "the response's and the item's"
    assert written(lambda: api.respond(metadata={"session_id": "mine"})) == 4, "and the claim of the session's root"
    assert written(lambda: api.respond(metadata={"session_id": "mine"})) == 2
    assert written(lambda: api.chat(extra_body={"litellm_session_id": "mine"})) == 1, "the completion's"


# --- forks and threads ------------------------------------------------------------------------------------------

PROGRAM = Path(fork_process.__file__)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fork", "multiprocessing"])
def test_children_and_their_threads_share_sessions_with_their_parent(shared_url, server, tmp_path, way):
    written = tmp_path / "spans"
    written.mkdir()
    command = [sys.executable, fork_process.__file__, shared_url, server.base_url, way, str(written)]
    done = run_to_its_end(command, os.environ | importing(), 2 * fork_process.SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    sessions = defaultdict(list)
    for span in map(json.loads, "".join(file.read_text() for file in written.iterdir()).splitlines()):
        sessions[span["attributes"]["session.id"]].append(span)
    assert len(sessions) == fork_process.CHAINS + 1
    each = fork_process.THREADS * (1 + fork_process.CHILDREN)
    for session_id, spans in sessions.items():
        (root,) = [span for span in spans if span["name"] == "session"]
        below = root["context"]["trace_id"], root["context"]["span_id"]
        calls = [span for span in spans if span["kind"] == "SpanKind.CLIENT"]
        markers = [span for span in spans if span["name"] == "turn"]
        marked = {link["context"]["span_id"] for marker in markers for link in marker["links"]}
        # One whose answer was late began where it could stand without it, and has a marker below the root.
        assert {(marker["context"]["trace_id"], marker["parent_id"]) for marker in markers} <= {below}
        for call in calls:
            place = call["context"]["trace_id"], call["parent_id"]
            assert place == below or (place[1] is None and call["context"]["span_id"] in marked)
        turns = Counter(call["attributes"]["llm_session.turn"] for call in calls)
        assert sum(turns.values()) == (each if session_id == "named" else 1 + each // fork_process.CHAINS * 2)
        if session_id != "named":
            assert turns == {1: 1, 2: each // fork_process.CHAINS, 3: each // fork_process.CHAINS}
