"""What a signal handler raises while a call waits for a store is the application's, and no failure of the store's."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from answered import client_of
from store_kit import Interrupting, a_link, locked, redis_backend
from waiting import until

from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.stores.sqlite import SqliteBackend
from otel_llm_sessions.testing import capture_spans

PATIENT = 30.0
SOON = 0.02


class SoftTimeLimitExceeded(Exception):
    """As task queues raise it."""


RAISED = [SoftTimeLimitExceeded, TimeoutError, ConnectionError, KeyboardInterrupt]
"""The second and third are what a store's own failures are."""


class Custom(MemoryStore):
    """An application's own store, which takes its time."""

    waits = True
    is_slow = False

    def get_all(self, keys: Any) -> Any:
        time.sleep(PATIENT if self.is_slow else 0)
        return super().get_all(keys)

    def put(self, keys: Any, link: Any) -> None:
        time.sleep(PATIENT if self.is_slow else 0)
        super().put(keys, link)


@pytest.fixture(params=RAISED, ids=lambda kind: kind.__name__)
def interrupted(request) -> Iterator[Callable[[], Any]]:
    """What is entered is interrupted soon, and must raise what the signal's handler does."""
    raised: list[BaseException] = []

    def handler(*_: Any) -> None:
        raised.append(request.param("the time is over"))
        raise raised[-1]

    @contextlib.contextmanager
    def interrupted() -> Iterator[None]:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(request.param) as caught:
            yield
        assert caught.value is raised[-1]

    former = signal.signal(signal.SIGALRM, handler)
    yield interrupted
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, former)


@contextlib.contextmanager
def slow(store: Custom) -> Iterator[None]:
    store.is_slow = True
    yield
    store.is_slow = False


@pytest.fixture(params=["custom", "sqlite", "redis"])
def store_and_slow(request, tmp_path) -> Iterator[tuple[Any, Any]]:
    """A store, and what makes it answer late while it is entered."""
    path = tmp_path / "sessions.db"
    if request.param == "custom":
        custom = Custom()
        yield custom, lambda: slow(custom)
        return
    if request.param == "sqlite":
        inner, late = SqliteBackend(path), lambda: locked(path)
    else:
        redis = request.getfixturevalue("redis")
        inner, late = redis_backend(redis.url), redis.frozen
    store = GuardedStore(inner, time_limit=PATIENT, rest=SOON, first_rest=SOON)
    store.put(["s:before"], a_link())
    yield store, late
    store.close()


def is_well(store: Any) -> bool:
    return isinstance(store, Custom) or store.is_up


def test_an_interrupted_wait_is_the_applications(store_and_slow, interrupted, caplog):
    store, late = store_and_slow
    with late():
        with interrupted():
            store.put(["s:1"], a_link(1))
        assert is_well(store)
    until(lambda: is_well(store))
    store.put(["s:1"], a_link(2))
    assert store.get_all(["s:1"])[0].turn == 2
    assert not caplog.records


@pytest.mark.parametrize("store_and_slow", ["custom", "redis"], indirect=True)
def test_an_interrupted_look_up_is_the_applications(store_and_slow, interrupted, caplog):
    store, late = store_and_slow
    with late():
        with interrupted():
            store.get_all(["s:before"])
        assert is_well(store)
    store.put(["s:1"], a_link(2))
    assert store.get_all(["s:1"])[0].turn == 2
    assert not caplog.records


@pytest.mark.parametrize("store_and_slow", ["sqlite", "redis"], indirect=True)
def test_an_interrupted_claim_is_left_to_the_next(store_and_slow, interrupted):
    store, late = store_and_slow
    with late(), interrupted():
        store.claim("root")
    assert store.claim("root")
    assert not store.claim("root")


def test_an_exception_that_was_handled_before_is_not_raised_again_by_a_store_that_fails(redis):
    """Python says of the store's failure that it came up while the other was handled."""
    store = GuardedStore(redis_backend(redis.url), time_limit=PATIENT, rest=SOON, first_rest=SOON)
    store.put(["s:1"], a_link())

    def handler(*_: Any) -> None:
        raise SoftTimeLimitExceeded

    former = signal.signal(signal.SIGALRM, handler)
    try:
        signal.raise_signal(signal.SIGALRM)
    except SoftTimeLimitExceeded:
        redis.kill()
        assert store.get_all(["s:1"])[0].turn == 1  # a summary, before the task ends
    finally:
        signal.signal(signal.SIGALRM, former)
    store.close()


def test_a_lookup_in_memory_that_is_interrupted_is_the_applications(interrupted):
    store = MemoryStore()
    with interrupted():
        store.get_all([Interrupting("s:1")])
    store.put(["s:1"], a_link())
    assert store.get_all(["s:1"])[0].turn == 1


def test_a_call_that_is_interrupted_while_it_waits_for_a_store_ends_as_the_application_says(
    store_and_slow, interrupted
):
    store, late = store_and_slow
    message = {"role": "assistant", "content": "Hello"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    reply = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
    client = client_of(lambda request: httpx2.Response(200, json=reply))

    def call(session: str) -> None:
        messages: Any = [{"role": "user", "content": "Hello"}]
        client.chat.completions.create(model="m", messages=messages, extra_headers={"x-session-id": session})

    with capture_spans(store=store):
        call("before")
        with late(), interrupted():
            call("during")
        call("after")
    client.close()
