"""The guard: what it answers alone, what it keeps, and that no one waits for a store that is down."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref

import pytest
from failures import warnings_of
from fake_backend import FakeBackend
from store_kit import a_link, in_child
from waiting import until

from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.shared import StoreDown, StoreRefused

NEVER = 3600.0
SOON = 0.02


@pytest.fixture
def inner():
    return FakeBackend()


@pytest.fixture
def guard(inner, closing):
    """A guard that does not come back by itself within a test."""
    return closing(GuardedStore(inner, rest=NEVER, first_rest=NEVER))


@pytest.fixture
def quick(inner, closing):
    """A guard that asks a store that failed again at once."""
    return closing(GuardedStore(inner, rest=SOON, first_rest=SOON))


def test_what_cannot_change_is_answered_without_the_store(guard, inner):
    guard.put(["r:1", "i:1", "t:1"], a_link())
    inner.asked.clear()
    assert all(guard.get_all(["r:1", "i:1", "t:1"]))
    assert inner.asked == []


def test_a_turn_whose_session_could_not_be_told_is_asked_for_until_it_can(guard, inner):
    guard.put(["r:1"], a_link()._replace(source="chain_partial"))
    inner.links["r:1"] = a_link()
    assert guard.get_all(["r:1"])[0].source != "chain_partial"
    inner.asked.clear()
    guard.get_all(["r:1"])[0]
    assert inner.asked == []


def test_what_is_known_better_is_written_although_it_is_not_later(quick, inner):
    better = a_link()
    inner.links["r:1"] = partial = better._replace(source="chain_partial")
    quick.put_soon(["r:1"], better)
    until(lambda: inner.links["r:1"] == better)
    quick.put_soon(["r:1"], partial)
    until(lambda: not len(quick._keeper.backlog))
    assert inner.links["r:1"] == better


@pytest.mark.parametrize("key", ["s:1", "c:1"])
def test_a_session_is_always_asked_for(guard, inner, key):
    guard.put([key], a_link(1))
    inner.links[key] = a_link(2)
    assert guard.get_all([key])[0].turn == 2


def test_a_turn_that_goes_on_is_asked_for_until_it_has_ended(guard, inner):
    guard.put(["r:1"], a_link(ended=False))
    inner.links["r:1"] = a_link()
    assert guard.get_all(["r:1"])[0].end
    inner.asked.clear()
    assert guard.get_all(["r:1"])[0].end
    assert inner.asked == []


def test_only_what_may_be_known_better_is_asked_for(guard, inner, monkeypatch):
    guard.put(["r:2"], two := a_link(2))
    inner.links["r:1"] = one = a_link(1)
    inner.served.clear()
    assert guard.get_all(["r:1", "r:2", "s:unknown"]) == [one, two, None]
    assert [list(ask.keys) for asks in inner.served for ask in asks] == [["r:1", "s:unknown"]]


@pytest.mark.parametrize("fault", [StoreDown("down"), StoreRefused("full"), RuntimeError("a bug")])
def test_no_failure_reaches_the_caller(guard, inner, fault):
    inner.fail(fault)
    guard.put(["s:1"], a_link())
    assert guard.get_all(["s:1"])[0].turn == 1
    assert guard.get_all(["s:2"])[0] is None
    assert [guard.claim("root"), guard.claim("root")] == [True, False]


async def test_no_failure_reaches_a_caller_on_a_loop(guard, inner):
    inner.fail(StoreDown("down"))
    await guard.aput(["s:1"], a_link())
    assert ((await guard.aget_all(["s:1"]))[0]).turn == 1
    assert [await guard.aclaim("root"), await guard.aclaim("root")] == [True, False]


def test_one_failure_keeps_all_callers_away(guard, inner):
    inner.fail(StoreDown("down"))
    guard.get_all(["s:1"])[0]
    inner.asked.clear()
    guard.put(["s:1"], a_link())
    guard.get_all(["s:1"])[0]
    guard.claim("root")
    assert inner.asked == []


def test_a_store_that_refuses_is_still_read(guard, inner):
    inner.write_fault = StoreRefused("full")
    guard.put(["s:1"], a_link())
    inner.links["s:2"] = a_link(2)
    assert guard.get_all(["s:2"])[0].turn == 2
    assert guard.get_all(["s:1"])[0].turn == 1


def test_what_was_not_written_is_written_when_the_store_is_back(quick, inner):
    inner.fail(StoreDown("down"))
    link = a_link()
    quick.put(["r:1", "s:1"], link)
    quick.claim("root")
    inner.fail(None)
    until(lambda: inner.links == {"r:1": link, "s:1": link} and set(inner.claims) == {"root"})
    until(lambda: quick.is_up)
    quick.put(["s:2"], link)
    assert inner.asked[-1] == "put"


def test_a_store_that_hiccuped_is_asked_again_soon(inner, closing):
    store = closing(GuardedStore(inner, rest=NEVER, first_rest=SOON))
    inner.fail(StoreDown("a hiccup"))
    store.put(["s:1"], a_link())
    inner.fail(None)
    until(lambda: "s:1" in inner.links)


def test_what_is_written_late_does_not_replace_a_later_turn(quick, inner):
    inner.fail(StoreDown("down"))
    quick.put(["s:1"], a_link(1, start=1_000))
    quick.put(["s:2"], a_link(1, start=1_000))
    inner.links["s:1"] = a_link(2, start=2_000)
    inner.fail(None)
    until(lambda: "s:2" in inner.links)
    assert inner.links["s:1"].turn == 2


def test_what_waits_to_be_written_is_found(guard, inner):
    inner.write_fault = StoreRefused("full")
    inner.links["s:1"] = a_link(1, start=1_000)
    guard.put(["s:1"], a_link(2, start=2_000))
    assert guard.get_all(["s:1"])[0].turn == 2


def test_a_store_that_lost_everything_is_told_again_what_this_process_knows(quick, inner):
    quick.put(["r:1", "s:1"], a_link())
    inner.empty()
    quick.get_all(["s:2"])
    until(lambda: set(inner.links) == {"r:1", "s:1"})


def test_what_waits_is_bounded(inner, closing):
    guard = closing(GuardedStore(inner, rest=NEVER, first_rest=NEVER, max_keys=10))
    inner.fail(StoreDown("down"))
    for number in range(100):
        guard.put([f"s:{number}"], a_link(number))
        guard.claim(f"{number}")
    assert len(guard._keeper.backlog) == 20


async def test_what_a_cancelled_caller_recorded_is_written_all_the_same(quick, inner):
    task = asyncio.ensure_future(quick.aput(["s:1"], a_link()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(until, lambda: "s:1" in inner.links)


def test_a_kind_of_failure_is_one_warning(guard, quick, inner, caplog):
    caplog.set_level(logging.DEBUG, "otel_llm_sessions")
    inner.fail(StoreDown("down"))
    for _ in range(3):
        guard._keeper.readable = guard._keeper.writable = True
        guard.get_all(["s:1"])[0]
    assert [record.levelname for record in caplog.records if record.levelname == "WARNING"] == ["WARNING"]


@pytest.mark.parametrize("fault", [StoreDown("down"), StoreRefused("full")])
def test_a_store_that_is_shut_says_so_once_whichever_thread_found_out(guard, inner, caplog, fault):
    inner.fail(fault)
    guard.put_soon(["s:1"], a_link())  # the thread that writes it finds out
    until(lambda: not guard.is_up)
    guard.put(["s:2"], a_link())
    guard.get_all(["s:2"])
    guard.claim("root")
    (said,) = warnings_of(caplog, None)
    assert "use the session store, which is left alone" in said


def test_nothing_is_said_of_a_store_that_is_closed(inner, caplog):
    store = GuardedStore(inner, rest=NEVER, first_rest=NEVER)
    store.close()
    inner.fail(StoreDown("down"))
    store.put(["s:1"], a_link())  # a stream that ends after `uninstrument()`
    assert store.get_all(["s:1"])[0].turn == 1
    store.close()
    assert not caplog.records


def test_closing_writes_what_waits(inner):
    guard = GuardedStore(inner, rest=NEVER, first_rest=NEVER)
    inner.fail(StoreDown("down"))
    guard.put(["s:1"], a_link())
    inner.fail(None)
    guard.close()
    assert "s:1" in inner.links
    assert inner.asked[-1] == "close"


def test_the_cache_does_not_outlive_the_time_a_session_is_remembered(inner, closing):
    guard = closing(GuardedStore(inner, ttl=1.0))
    guard.put(["r:1", "s:1"], a_link(start=1_000))
    inner.links.clear()
    assert guard.get_all(["r:1"])[0] is None
    assert guard.get_all(["s:1"])[0] is None


def test_a_guard_that_is_no_longer_used_is_freed(inner):
    guard = GuardedStore(inner)
    gone = weakref.ref(guard)
    del guard
    gc.collect()
    assert gone() is None


def test_a_child_asks_the_store_anew_and_leaves_what_waits_to_its_parent(guard, inner):
    inner.fail(StoreDown("down"))
    guard.put(["s:1"], a_link())

    def check():
        guard._keeper._backend.fail(None)
        guard.put(["s:2"], a_link(2))
        found = [link.turn for link in guard.get_all(["s:1", "s:2"])]
        return found == [1, 2] and set(inner.links) == {"s:2"}

    in_child(check)


def test_a_child_does_not_wait_for_a_lock_that_a_thread_of_its_parent_held(guard, inner):
    held, release = threading.Event(), threading.Event()

    def hold():
        with guard._keeper._lock, guard._known._lock:
            held.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)

    def check():
        inner.fail(StoreDown("down"))
        guard.put(["s:1"], a_link())
        return guard.get_all(["s:1"])[0].turn == 1

    try:
        in_child(check)
    finally:
        release.set()
        thread.join()


def test_a_late_write_of_an_earlier_turn_takes_nobody_back_in_time():
    inner = FakeBackend()
    store = GuardedStore(inner)
    earlier, later = a_link(1), a_link(2)
    store.put(["s:1"], later)
    inner.links["s:1"] = earlier  # as a write whose caller was cancelled does, when it comes in last
    assert store.get_all(["s:1"])[0] == later
    until(lambda: inner.links["s:1"] == later)
    store.close()


def test_what_a_cancelled_caller_left_waiting_never_hides_a_later_turn(guard, inner):
    inner.write_fault = StoreRefused("full")
    guard.put(["s:1"], a_link(1))
    inner.write_fault = None
    inner.links["s:1"] = a_link(1, start=1)
    guard._known.put(["s:1"], a_link(2))
    assert guard.get_all(["s:1"])[0].turn == 2


# --- at the same time -------------------------------------------------------------------------------------------


def test_the_thread_is_not_begun_under_a_lock(quick, inner, monkeypatch):
    """The collector may run in a thread that is just beginning, and record what it finds there."""
    start = threading.Thread.start

    def records_first(thread: threading.Thread) -> None:
        if thread.name == "otel-llm-sessions-fake":
            other = threading.Thread(target=quick.put_soon, args=(["s:2"], a_link(2)))
            start(other)
            other.join(10)
            assert not other.is_alive(), "a deadlock"
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", records_first)
    quick.put_soon(["s:1"], a_link(1))
    until(lambda: {"s:1", "s:2"} <= inner.links.keys())


def test_what_may_not_wait_is_written_by_another_thread(quick, inner):
    quick.put(["s:0"], a_link(1))  # it is connected
    inner.threads.clear()
    quick.put_soon(["s:1"], a_link(1))
    until(lambda: "s:1" in inner.links)
    assert threading.get_ident() not in inner.threads


async def test_a_cancelled_claim_is_got_by_who_tries_again_while_it_is_withdrawn(quick, inner, monkeypatch):
    monkeypatch.setattr("otel_llm_sessions.stores.backlog.WITHDRAWN_AFTER", 0.0)
    quick.put(["s:0"], a_link(1))
    inner.go_on.clear()
    claiming = asyncio.ensure_future(quick.aclaim("1"))
    await asyncio.sleep(0)
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    again = asyncio.ensure_future(quick.aclaim("1"))
    await asyncio.sleep(0)
    inner.go_on.set()
    assert await again, "otherwise nobody would open the session"
    until(lambda: not len(quick._keeper.backlog))
    assert inner.claims.keys() == {"1"}
    assert not await quick.aclaim("1")
