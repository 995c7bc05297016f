"""``HISTORY`` over stores that processes share, and over stores that an application has made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from history_kit import Talk
from loopback_client import MODEL
from session_kit import calls, sessions_of
from store_kit import SERVERS, RedisServer, require_program
from waiting import until

from otel_llm_sessions.openai import flow
from otel_llm_sessions.stores import pace
from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.stores.redis import RedisBackend
from otel_llm_sessions.stores.sqlite import SqliteBackend
from otel_llm_sessions.testing import capture_spans

SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture(autouse=True)
def _patient(monkeypatch) -> None:
    """Calls wait for what is asked on a busy machine, too."""
    monkeypatch.setattr(flow, "BUDGET", 5.0)
    monkeypatch.setattr(pace, "SLOW", 5.0)


class Processes:
    """Processes that share a store, each with a store object of its own; what is said in one is a call there."""

    def __init__(self, open_backend: Callable[[], Any]) -> None:
        self._open = open_backend
        self.stores: dict[int, GuardedStore] = {}

    def say(self, process: int, talk: Talk, text: str) -> str:
        """Have a turn made by a process; return its session."""
        if process not in self.stores:
            self.stores[process] = GuardedStore(self._open(), time_limit=5)
        with capture_spans(history=True, store=self.stores[process]) as spans:
            talk.say(text)
        (found,) = sessions_of(spans)
        return str(found)

    def close(self) -> None:
        for store in self.stores.values():
            store.close()


@pytest.fixture(params=["redis", "sqlite"])
def processes(request, tmp_path) -> Iterator[Processes]:
    if request.param == "redis":
        url = request.getfixturevalue("redis").url
        made = Processes(lambda: RedisBackend(url))
    else:
        made = Processes(lambda: SqliteBackend(tmp_path / "sessions.db"))
    yield made
    made.close()


def test_a_process_that_begins_amid_a_conversation_knows_it_by_the_store(api, processes):
    talk = Talk(api, SYSTEM)
    texts = ("Hello", "Tell me about leaves", "Thanks")
    assert len({processes.say(number, talk, text) for number, text in enumerate(texts)}) == 1


def test_conversations_that_open_alike_in_two_processes_are_apart_as_soon_as_they_differ(api, processes):
    ann, bob = Talk(api, SYSTEM), Talk(api, SYSTEM)
    for process, talk in enumerate((ann, bob)):
        processes.say(process, talk, "Hello")
    found = [processes.say(process, ann, f"I am Ann {process}") for process in (0, 1, 2)]
    others = [processes.say(process, bob, f"I am Bob {process}") for process in (0, 1, 2)]
    assert len({*found}) == len({*others}) == 1
    assert found[0] != others[0]


def test_a_store_holds_no_word_of_a_conversation(api, tmp_path):
    processes = Processes(lambda: SqliteBackend(tmp_path / "sessions.db"))
    talk = Talk(api, {"role": "system", "content": "Confidential instructions"})
    for text in ("My password is rosebud", "Tell me about leaves"):
        processes.say(0, talk, text)
    processes.close()
    kept = b"".join(file.read_bytes() for file in Path(tmp_path).iterdir())
    assert MODEL.encode() in kept, "its turns are there"
    replies = [message.content for message in talk.messages if not isinstance(message, dict)]
    for words in ("Confidential", "rosebud", "leaves", *replies):
        assert words.encode() not in kept


def test_a_turn_asks_once_and_is_recorded_once(api, proxy):
    store = GuardedStore(RedisBackend(proxy.url), time_limit=5)
    talk, trips = Talk(api), []
    with capture_spans(history=True, store=store):
        Talk(api).say("Nothing of importance")  # the scope becomes known
        for text in ("Hello", "Tell me about leaves", "Thanks", "Good bye"):
            before = proxy.sent
            talk.say(text)
            trips.append(proxy.sent - before)
    store.close()
    assert trips[0] == 2, "the claim of what it leaves, and the record"
    assert trips[1] == 4, "the look-up, the claim of the session's root, that of what it leaves, the record"
    assert trips[2:] == [3, 3]


def test_who_cannot_ask_the_store_takes_nobody_for_another(api, tmp_path):
    redis = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always", program=require_program(SERVERS[0]))
    redis.start()
    processes = Processes(lambda: RedisBackend(redis.url))
    ann, bob = Talk(api), Talk(api)
    try:
        processes.say(1, Talk(api), "Nothing of importance")
        first = processes.say(0, ann, "Hello")
        redis.kill()
        processes.say(1, bob, "Hello")
        redis.start()
        until(lambda: processes.stores[1].is_up)
        found = processes.say(1, bob, "I am Bob"), processes.say(2, ann, "I am Ann")
        assert first != found[0] != found[1]
    finally:
        processes.close()
        redis.kill()


def test_what_a_process_knows_alone_tells_nobody_apart(api, redis):
    processes = Processes(lambda: RedisBackend(redis.url))
    ann, bob = Talk(api), Talk(api)
    first = processes.say(0, ann, "Hello")
    processes.say(1, bob, "Hello")
    redis.kill()  # with it goes that bob said the same
    assert processes.say(0, bob, "I am Bob") != first
    processes.close()


class Own:
    """A store that an application has made: the protocol, and nothing else."""

    def __init__(self, waits: bool) -> None:
        self.waits = waits
        self._inner = MemoryStore()
        for name in ("scope", "get_all", "put", "claim", "close", "aget_all", "aput", "aclaim"):
            setattr(self, name, getattr(self._inner, name))


@pytest.mark.parametrize("waits", [True, False])
def test_a_store_of_the_applications_own_will_do(api, waits):
    with capture_spans(history=True, store=Own(waits)) as spans:
        ann, bob = Talk(api), Talk(api)
        for text in ("Hello", "I am {}", "Thanks"):
            ann.say(text.format("Ann"))
            bob.say(text.format("Bob"))
    found = sessions_of(spans)
    assert found[2] == found[4] != found[3] == found[5]
    assert [span.attributes["llm_session.turn"] for span in calls(spans)] == [1, 1, 1, 1, 2, 2]
