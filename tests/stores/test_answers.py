"""Answers that may come late: who waits, who is told, and what a store says that cannot be asked."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import pytest
from store_kit import KINDS, SERVERS, Lateness, Proxy, a_link, free_port, locked, redis_backend, redis_direct
from waiting import until

from otel_llm_sessions.stores.answer import Answer, Late
from otel_llm_sessions.stores.asking import asked
from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.stores.sqlite import SqliteBackend


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def wait(request):
    """Return a function that waits for an answer, on a loop or not, and can be awaited."""

    async def wait(answer: Answer, seconds: float = 10.0) -> bool:
        if request.param:
            return await answer.wait_on_loop(seconds)
        return await asyncio.to_thread(answer.wait, seconds)

    return wait


# --- the value --------------------------------------------------------------------------------------------------


async def test_an_answer_comes_to_who_waits(wait):
    answer: Answer[int] = Answer()
    threading.Timer(0.02, answer.settle, (7,)).start()
    assert await wait(answer)
    assert (answer.result(), answer.is_known) == (7, True)


async def test_who_waits_no_longer_is_told_all_the_same(wait):
    answer: Answer[int] = Answer()
    assert not await wait(answer, 0.01)
    with pytest.raises(Late):
        answer.result()
    told = []
    answer.when_done(lambda late: told.append(late.result()))
    answer.settle(7)
    answer.when_done(lambda late: told.append(late.result() + 1))
    assert told == [7, 8]
    assert await wait(answer, 0.0)


async def test_what_went_wrong_comes_to_who_asks_for_the_result(wait):
    answer: Answer[int] = Answer()
    answer.fail(OSError("broken"))
    assert await wait(answer)
    with pytest.raises(OSError, match="broken"):
        answer.result()
    assert not answer.is_known


async def test_what_follows_from_an_answer_is_an_answer(wait):
    first: Answer[int] = Answer()
    second = first.then(lambda answer: answer.result() + 1)
    third = second.then(lambda answer: 1 // (answer.result() - 8))
    assert not await wait(second, 0.001)
    first.settle(7, is_known=False)
    assert (second.result(), second.is_known) == (8, False)
    with pytest.raises(ZeroDivisionError):
        third.result()


def test_a_callback_that_raises_is_reported_and_harms_no_other(caplog):
    answer: Answer[int] = Answer()
    told = []
    answer.when_done(lambda _: 1 // 0)
    answer.when_done(lambda done: told.append(done.result()))
    answer.settle(7)
    assert told == [7]
    assert "use an answer" in caplog.text


def test_many_that_are_told_while_it_is_settled_are_told_once():
    for _ in range(200):
        answer: Answer[int] = Answer()
        told: list[int] = []
        barrier = threading.Barrier(3)

        def add(answer=answer, told=told, barrier=barrier):
            barrier.wait()
            for number in range(20):
                answer.when_done(lambda _, number=number: told.append(number))

        threads = [threading.Thread(target=add) for _ in range(2)]
        for thread in threads:
            thread.start()
        barrier.wait()
        answer.settle(1)
        for thread in threads:
            thread.join()
        assert sorted(told) == sorted([*range(20)] * 2)


async def test_a_caller_that_is_cancelled_abandons_the_question_and_one_that_is_late_does_not():
    abandoned = []
    answer: Answer[int] = Answer(lambda: abandoned.append(True))
    assert not await answer.wait_on_loop(0.001)
    assert not abandoned
    task = asyncio.ensure_future(answer.wait_on_loop(10))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert abandoned == [True]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_what_a_signal_handler_raises_comes_to_who_waits_and_abandons_the_question(monkeypatch):
    class Over(Exception):
        pass

    def handler(*_: object) -> None:
        raise Over

    abandoned = []
    answer: Answer[int] = Answer(lambda: abandoned.append(True))
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(Over):
            answer.wait(10)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert abandoned == [True]


# --- stores -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_store_answers_beside_the_call(kind, store, open_another, wait):
    store.put_soon(["r:1", "s:1"], link := a_link())
    answer = store.ask(["s:0", "s:1"])
    assert await wait(answer)
    assert (answer.result(), answer.is_known) == ([None, link], True)
    one, two = store.ask_claim("root"), store.ask_claim("root")
    assert await wait(one)
    assert await wait(two)
    assert (one.result(), two.result(), one.is_known) == (True, False, True)
    if kind != "memory":
        other = open_another()
        until(lambda: other.get_all(["r:1"])[0] == link)
        claim = other.ask_claim("root")
        assert await wait(claim)
        assert claim.result() is False


def test_what_cannot_have_changed_is_there_at_once(tmp_path, closing):
    store = closing(GuardedStore(SqliteBackend(tmp_path / "sessions.db")))
    store.put(["r:1"], link := a_link())
    with locked(tmp_path / "sessions.db"):
        answer = store.ask(["r:1"])
        assert (answer.is_done, answer.is_known, answer.result()) == (True, True, [link])


async def test_a_late_answer_is_used_and_remembered(_emptied, closing, wait):
    proxy = closing(Proxy(_emptied(SERVERS[0]).port))
    other = closing(redis_direct(_emptied(SERVERS[0]).url))
    other.put(["r:1"], link := a_link())
    store = closing(GuardedStore(redis_backend(proxy.url), time_limit=5))
    store.get_all(["s:0"])
    proxy.delay = 0.2
    answer = store.ask(["r:1"])
    assert not await wait(answer, 0.05)
    claim = store.ask_claim("root")
    assert not await wait(claim, 0.0)
    told = []
    answer.when_done(lambda late: told.append(late.result()))
    until(lambda: told == [[link]])
    assert await wait(claim)
    assert claim.result() is True
    proxy.delay = 0.0
    sent = proxy.sent
    assert store.get_all(["r:1"]) == [link]
    assert proxy.sent == sent


def test_a_store_that_is_down_answers_with_what_is_known_here_and_says_so(closing):
    store = closing(GuardedStore(redis_backend(f"redis://127.0.0.1:{free_port()}/0")))
    store.put_soon(["s:1"], link := a_link())
    answer = store.ask(["s:1", "s:2"])
    assert answer.wait(10)
    assert (answer.result(), answer.is_known) == ([link, None], False)
    with Lateness() as late:
        begun = time.perf_counter()
        resting, claim = store.ask(["s:1"]), store.ask_claim("root")
        assert claim.wait(10)
        assert (resting.result(), resting.is_known) == ([link], False)
        assert (claim.result(), claim.is_known) == (True, False)
        assert store.ask_claim("root").result() is False
        took = time.perf_counter() - begun
    assert took < late.limit(0.05)


async def test_a_claim_whose_caller_is_cancelled_is_left_to_the_next(tmp_path, closing):
    store, other = (closing(GuardedStore(SqliteBackend(tmp_path / "sessions.db"), time_limit=5)) for _ in range(2))
    claim = store.ask_claim("root")
    waiting = asyncio.ensure_future(claim.wait_on_loop(10))
    await asyncio.sleep(0)
    if not waiting.done():
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert store.claim("root")
    assert not other.claim("root")


# --- stores of applications -------------------------------------------------------------------------------------


class Own:
    """A store as an application would write it: the protocol, and nothing else."""

    scope, waits = "own", True

    def __init__(self) -> None:
        self._kept = MemoryStore()
        self.fault: Exception | None = None
        self.go_on = asyncio.Event()

    def get_all(self, keys):
        if self.fault:
            raise self.fault
        return self._kept.get_all(keys)

    def put(self, keys, link):
        self._kept.put(keys, link)

    def claim(self, key):
        return self._kept.claim(key)

    def close(self): ...

    async def aget_all(self, keys):
        await self.go_on.wait()
        return self.get_all(keys)

    async def aput(self, keys, link):
        await self.go_on.wait()
        self.put(keys, link)

    async def aclaim(self, key):
        await self.go_on.wait()
        return self.claim(key)


def test_an_applications_store_is_asked_in_the_caller():
    store = asked(Own())
    store.put_soon(["s:1"], link := a_link())
    assert store.ask(["s:1", "s:2"]).result() == [link, None]
    assert [store.ask_claim("root").result(), store.ask_claim("root").result()] == [True, False]


async def test_an_applications_store_is_asked_in_a_task_on_a_loop():
    own = Own()
    store = asked(own)
    store.put_soon(["s:1"], link := a_link())
    answer, claim = store.ask(["s:1"]), store.ask_claim("root")
    assert not await answer.wait_on_loop(0.01)
    own.go_on.set()
    assert await answer.wait_on_loop(10)
    assert await claim.wait_on_loop(10)
    assert (answer.result(), claim.result()) == ([link], True)


async def test_a_failure_of_an_applications_store_is_reported_once_and_knows_nothing(caplog):
    own = Own()
    own.fault = ValueError("broken")
    own.go_on.set()
    store = asked(own)
    answer = store.ask(["s:1"])
    assert await answer.wait_on_loop(10)
    assert (answer.result(), answer.is_known) == ([None], False)
    assert "look a session up" in caplog.text


def test_a_store_that_can_be_asked_is_asked_itself():
    store = MemoryStore()
    assert asked(store) is store
