"""The keeper's thread: what it is asked, what it no longer does, what it ends with."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from store_kit import until

from otel_llm_sessions.stores.answer import Late
from otel_llm_sessions.stores.keeper import Keeper
from otel_llm_sessions.stores.shared import StoreDown


class Connected:
    """Does what it is asked, and notes it; while it is held it does nothing."""

    def __init__(self) -> None:
        self.served: list[list[str]] = []
        self.begun, self.go_on_serving, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.go_on_serving.set()

    def serve(self, asked: Sequence[str]) -> Iterator[object]:
        self.served.append(list(asked))
        self.begun.set()
        assert self.go_on_serving.wait(10)
        for word in asked:
            yield ValueError(word) if word == "bad" else word.upper()
            if word == "worst":
                raise OSError("broken")

    def pause(self, seconds: float) -> bool:
        return True

    def go_on(self) -> None: ...

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def connected():
    return Connected()


@pytest.fixture
def keeper(connected):
    keeper = Keeper("test", lambda: connected)
    yield keeper
    connected.go_on_serving.set()
    keeper.stop(10)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def ask(request, keeper):
    """Return a function that asks, on a loop or not, and can be awaited."""

    async def ask(word: str, seconds: float = 10.0) -> object:
        if request.param:
            return await keeper.ask_on_loop(word, seconds)
        return await asyncio.to_thread(keeper.ask, word, seconds)

    return ask


@pytest.fixture
def busy(connected, keeper):
    """The thread is held by a job."""
    connected.go_on_serving.clear()
    first = threading.Thread(target=keeper.ask, args=("first", 10))
    first.start()
    assert connected.begun.wait(10)
    yield
    connected.go_on_serving.set()
    first.join()


async def test_what_was_asked_or_what_it_fails_with_comes_to_the_caller(ask):
    assert await ask("x") == "X"
    with pytest.raises(ValueError, match="bad"):
        await ask("bad")


async def test_what_cannot_be_begun_in_time_is_not_done_later(ask, busy, connected, keeper):
    begun = time.perf_counter()
    with pytest.raises(Late):
        await ask("late", 0.05)
    assert 0.045 < time.perf_counter() - begun < 0.5
    connected.go_on_serving.set()
    assert keeper.ask("after", 10) == "AFTER"
    assert connected.served == [["first"], ["after"]]


async def test_what_is_still_being_done_is_not_waited_for(ask, connected):
    connected.go_on_serving.clear()
    with pytest.raises(Late):
        await ask("slow", 0.05)
    assert connected.served == [["slow"]]


async def test_what_waits_is_done_together(keeper, busy, connected):
    asked = [asyncio.ensure_future(keeper.ask_on_loop(word, 10)) for word in ("a", "bad", "c")]
    await asyncio.sleep(0)
    connected.go_on_serving.set()
    a, bad, c = await asyncio.gather(*asked, return_exceptions=True)
    assert (a, c, str(bad)) == ("A", "C", "bad")
    assert connected.served == [["first"], ["a", "bad", "c"]]


async def test_a_failure_amid_many_is_that_of_all_that_have_no_answer_yet(keeper, busy, connected):
    asked = [asyncio.ensure_future(keeper.ask_on_loop(word, 10)) for word in ("a", "worst", "c")]
    await asyncio.sleep(0)
    connected.go_on_serving.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["A", "WORST", "broken"]
    assert await keeper.ask_on_loop("x", 10) == "X"


async def test_a_caller_that_is_cancelled_wants_nothing_done(keeper, busy, connected):
    caller = asyncio.ensure_future(keeper.ask_on_loop("cancelled", 10))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    connected.go_on_serving.set()
    assert await keeper.ask_on_loop("x", 10) == "X"
    assert connected.served == [["first"], ["x"]]


def test_a_thread_that_answers_a_loop_which_was_closed_goes_on(keeper, connected):
    connected.go_on_serving.clear()

    async def ask() -> None:
        asking = asyncio.ensure_future(keeper.ask_on_loop("x", 10))
        await asyncio.to_thread(connected.begun.wait, 10)
        assert not asking.done()

    asyncio.run(ask())
    connected.go_on_serving.set()
    assert keeper.ask("y", 10) == "Y"


async def test_a_keeper_that_is_stopped_closes_and_begins_anew_unless_it_refuses(ask, keeper, connected):
    assert await ask("x") == "X"
    keeper.stop(10)
    assert connected.closed.is_set()
    assert await ask("y") == "Y"
    keeper.refuse("it is over")
    keeper.stop(10)
    with pytest.raises(StoreDown, match="it is over"):
        await ask("z")


def test_too_many_that_wait_are_refused(keeper, busy, monkeypatch):
    monkeypatch.setattr("otel_llm_sessions.stores.keeper.MAX_WAITING", 1)
    waiting = threading.Thread(target=lambda: keeper.ask("x", 10))
    waiting.start()

    def refused() -> bool:
        try:
            keeper.ask("y", 0.001)
        except StoreDown:
            return True
        except Late:
            return False
        return False

    until(refused)


def test_a_patch_of_what_threads_are_made_of_gets_a_thread_of_its_own(keeper, connected, monkeypatch):
    assert keeper.ask("x", 10) == "X"
    lock = threading.Lock
    with monkeypatch.context() as patched:
        patched.setattr(threading, "Lock", lambda: lock())
        assert keeper.ask("y", 10) == "Y"
        assert connected.closed.wait(10), "what the former one owned is not left open"
        keeper.stop(10)
