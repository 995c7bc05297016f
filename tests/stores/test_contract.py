"""What every store does, whatever it keeps its links in."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from store_kit import KINDS, SHARED, Direct, a_link, put_and_got
from waiting import run_all, until

from otel_llm_sessions.stores.protocol import SessionStore

every_store = pytest.mark.parametrize("kind", KINDS)
every_shared_store = pytest.mark.parametrize("kind", SHARED)


class Calls:
    """One way to call a store, so that a test says once what holds for both."""

    def __init__(self, store, asynchronous: bool) -> None:
        self._store, self._asynchronous = store, asynchronous

    def __getattr__(self, name):
        if not self._asynchronous:
            return getattr(self._store, name)
        call = getattr(self._store, "a" + name)
        return lambda *arguments: asyncio.run(call(*arguments))


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def calls(store, request):
    return Calls(store, request.param)


@every_store
def test_a_store_satisfies_the_interface(kind, store):
    assert isinstance(store, SessionStore)
    assert store.scope


@every_store
def test_what_was_put_is_found_under_each_key(kind, calls):
    link = a_link()
    calls.put(["r:resp_1", "s:session-1"], link)
    assert calls.get_all(["r:resp_1"])[0] == link
    assert calls.get_all(["s:session-1"])[0] == link


@every_store
def test_an_unknown_key_is_none(kind, calls):
    assert calls.get_all(["r:resp_nobody"])[0] is None
    assert list(calls.get_all([])) == []


@every_store
def test_each_key_has_an_answer_of_its_own(kind, calls):
    one, two = a_link(1), a_link(2)
    calls.put(["r:a"], one)
    calls.put(["r:b", "s:b"], two)
    assert list(calls.get_all(["r:unknown", "r:b", "r:a", "s:b", "r:b"])) == [None, two, one, two, two]


@every_store
def test_a_later_put_replaces_an_earlier_one(kind, calls):
    calls.put(["s:1"], a_link(1))
    calls.put(["s:1"], a_link(2))
    assert calls.get_all(["s:1"])[0].turn == 2


@every_store
@pytest.mark.parametrize("key", ["s:1", "c:1"])
def test_the_newest_turn_is_replaced_only_by_a_later_one(kind, calls, key):
    def newest_after(turn: int, start: int, *, ended: bool = True) -> tuple[int, int]:
        calls.put(["r:of that turn", key], a_link(turn, start=start, ended=ended))
        found = calls.get_all([key])[0]
        return found.turn, found.start

    assert newest_after(2, 5_000, ended=False) == (2, 5_000)
    assert newest_after(2, 4_000) == (2, 5_000), "one beside it that started before"
    assert newest_after(2, 6_000) == (2, 6_000), "one beside it that started after"
    assert newest_after(3, 1_000) == (3, 1_000), "a later one, by a clock that is behind"
    assert newest_after(2, 9_000) == (3, 1_000), "a slow one that ends last, by a clock that runs ahead"
    assert calls.get_all(["r:of that turn"])[0].start == 9_000, "what a response is known by is its own"


@every_store
def test_the_newest_turn_is_seen_to_have_ended_and_never_to_go_on_again(kind, calls):
    begun, ended = a_link(2, start=5_000, ended=False), a_link(2, start=5_000)
    for link in (begun, ended, begun):
        calls.put(["s:1"], link)
    assert calls.get_all(["s:1"]) == [ended]


@every_shared_store
def test_a_late_turn_of_another_process_does_not_set_a_session_back(kind, calls, open_another):
    slow = open_another()
    slow.put(["s:1"], a_link(1))
    calls.put(["s:1"], a_link(3))
    slow.put(["s:1"], a_link(2))
    assert [store.get_all(["s:1"])[0].turn for store in (slow, open_another())] == [3, 3]


@every_store
def test_putting_under_no_key_does_nothing(kind, calls):
    calls.put([], a_link())
    assert calls.get_all(["s:1"])[0] is None


@every_store
def test_only_the_first_claim_succeeds(kind, calls):
    assert [calls.claim("root"), calls.claim("root"), calls.claim("other")] == [True, False, True]


@every_store
def test_a_claim_is_not_a_link(kind, calls):
    calls.claim("s:1")
    assert calls.get_all(["s:1"])[0] is None


@every_store
@pytest.mark.parametrize("key", ["s:" + "x" * 256, "s:Sitzung – 会话 🙂", "s:\udcff", "s:\x00\n"])
def test_any_string_is_a_key(kind, calls, key):
    link = a_link()
    calls.put([key], link)
    assert calls.get_all([key])[0] == link
    assert calls.claim(key)


@every_store
def test_one_of_many_threads_wins_a_claim(kind, store):
    won, barrier = [], threading.Barrier(8)

    def claim():
        barrier.wait()
        won.append(store.claim("root"))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    run_all(threads)
    assert sorted(won) == [False] * 7 + [True]


@every_store
def test_many_tasks_share_a_store(kind, store):
    async def turn(number: int) -> bool:
        await store.aput([f"s:{number}"], a_link(number))
        return ((await store.aget_all([f"s:{number}"]))[0]).turn == number and await store.aclaim(f"{number}")

    async def all_turns():
        return await asyncio.gather(*(turn(number) for number in range(1, 21)))

    assert all(asyncio.run(all_turns()))


@every_shared_store
def test_another_process_finds_what_was_put(kind, calls, open_another):
    link = a_link()
    calls.put(["r:1", "s:1"], link)
    assert open_another().get_all(["r:unknown", "s:1"]) == [None, link]


@every_shared_store
def test_another_process_sees_the_newest_turn_of_a_session(kind, calls, open_another):
    other = open_another()
    for turn in (1, 2, 3):
        calls.put(["s:1"], a_link(turn))
        assert other.get_all(["s:1"])[0].turn == turn


@every_shared_store
def test_a_turn_that_went_on_is_seen_to_have_ended(kind, calls, open_another):
    other = open_another()
    calls.put(["r:1"], a_link(ended=False))
    assert other.get_all(["r:1"])[0].end == 0
    calls.put(["r:1"], a_link())
    assert other.get_all(["r:1"])[0].end != 0


@every_shared_store
def test_one_of_several_processes_wins_a_claim(kind, calls, open_another):
    assert [calls.claim("root"), open_another().claim("root"), open_another().claim("root")] == [True, False, False]


@every_shared_store
def test_who_shares_a_store_shares_its_scope(kind, store, open_another):
    other = open_another()
    store.get_all(["s:1"])[0]
    other.get_all(["s:1"])[0]
    assert store.scope == other.scope


@every_shared_store
@pytest.mark.slow
def test_a_session_is_forgotten_when_its_time_is_over(kind, open_another):
    store = open_another(ttl=1.0)
    store.put(["s:1", "r:1"], a_link())
    store.claim("root")
    time.sleep(2.1)  # an expiry is a wait: there is no condition to wait for
    assert store.get_all(["s:1"])[0] is None
    assert store.get_all(["r:1"])[0] is None
    assert open_another().claim("root")


@every_store
def test_a_store_is_used_from_one_loop_after_another_without_leaving_anything_open(kind, store):
    assert all(asyncio.run(put_and_got(store)) is not None for _ in range(3))


@every_store
def test_a_cancelled_caller_leaves_a_store_that_works(kind, store):
    async def cancelled_then_used():
        for _ in range(5):
            task = asyncio.ensure_future(store.aput(["s:1"], a_link(1)))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await store.aput(["s:1"], a_link(2))
        return (await store.aget_all(["s:1"]))[0]

    assert asyncio.run(cancelled_then_used()).turn == 2


@every_shared_store
def test_a_claim_whose_caller_was_cancelled_is_left_to_the_next(kind, store, open_another):
    async def cancelled():
        for delay in range(6):
            task = asyncio.ensure_future(store.aclaim(f"root:{delay}"))
            for _ in range(delay):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled():
                assert task.result() is True  # it was faster
                continue
            assert await store.aclaim(f"root:{delay}")
            assert not await another.aclaim(f"root:{delay}")

    another = open_another()
    asyncio.run(cancelled())


@every_shared_store
def test_a_claim_whose_caller_was_cancelled_is_left_to_other_processes(kind, store, open_another):
    async def cancelled():
        task = asyncio.ensure_future(store.aclaim("root"))
        await asyncio.sleep(0.001)
        task.cancel()
        return await asyncio.gather(task, return_exceptions=True)

    (outcome,) = asyncio.run(cancelled())
    another = open_another()
    if outcome is True:  # it was faster
        assert not another.claim("root")
    else:
        until(lambda: Direct(another._keeper._backend).claim("root"))
