"""The keeper: who asks the store, in which thread, how much at once, and how long callers wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time

import pytest
from fake_backend import FakeBackend
from store_kit import Lateness, a_link, in_child
from waiting import run_all, until

from otel_llm_sessions.stores import keeper as keeper_module
from otel_llm_sessions.stores.keeper import Keeper
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.stores.pace import LATELY, SLOW, Breaker, Pace
from otel_llm_sessions.stores.shared import Claim, Lookup, Put, StoreDown

LIMIT = 0.05


@pytest.fixture
def backend():
    return FakeBackend()


@pytest.fixture
def keeper(backend, closing):
    yield closing(a_keeper(backend))
    backend.go_on.set()


def a_keeper(backend, **options) -> Keeper:
    limits = {"max_keys": 100, "time_limit": LIMIT, "first_rest": 0.02, "longest_rest": 0.1} | options
    return Keeper(backend, MemoryStore(), **limits)


def look_up(key: str) -> Lookup:
    return Lookup((key,))


@contextlib.contextmanager
def busy(keeper, backend):
    """The store takes its time with what the thread asks."""
    backend.go_on.clear()
    backend.begun.clear()
    first = keeper.ask(look_up("first"))
    assert backend.begun.wait(10)
    yield
    backend.go_on.set()
    assert first.wait(10)


# --- who asks ---------------------------------------------------------------------------------------------------


def test_the_thread_opens_the_connection_and_a_caller_that_finds_it_free_asks_itself(keeper, backend):
    backend.links["r:1"] = link = a_link()
    assert keeper.ask(look_up("r:1"), 10).result() == [link]
    assert keeper.ask(look_up("r:1"), 10).result() == [link]
    assert keeper.ask(look_up("r:1")).wait(10)
    here = threading.get_ident()
    assert [thread == here for thread in backend.threads] == [False, True, False]


@pytest.mark.parametrize(("seconds", "in_callers_thread"), [(60.0, False), (0.0, True)])
def test_after_a_caller_had_no_answer_in_time_the_thread_asks_for_all_for_a_while(
    keeper, backend, monkeypatch, seconds, in_callers_thread
):
    """Each caller that has no answer in time closes the connection, with what others might have got over it."""
    monkeypatch.setattr(keeper_module, "TOGETHER", seconds)
    assert keeper.ask(look_up("r:1"), 10).is_done
    backend.go_on.clear()
    late = keeper.ask(look_up("r:1"), LIMIT)
    backend.go_on.set()
    assert late.wait(10)
    asked = len(backend.threads)
    assert keeper.ask(look_up("r:1"), 10).is_done
    assert [thread == threading.get_ident() for thread in backend.threads[asked:]] == [in_callers_thread]


def test_a_place_that_keeps_no_limits_is_asked_by_the_thread_alone(keeper, backend):
    backend.keeps_limits = False
    for _ in range(3):
        assert keeper.ask(look_up("r:1"), 10).is_done
    assert threading.get_ident() not in backend.threads


def test_what_waits_is_asked_at_once(keeper, backend):
    with busy(keeper, backend):
        answers = [keeper.ask(look_up(f"r:{number}")) for number in range(5)]
    assert all(answer.wait(10) for answer in answers)
    assert [len(asks) for asks in backend.served] == [1, 5]


def test_many_threads_ask_and_each_has_its_answer(keeper, backend):
    backend.links.update((f"r:{number}", a_link(number + 1)) for number in range(100))
    found = {}

    def ask(number: int) -> None:
        for _ in range(20):
            (link,) = keeper.ask(look_up(f"r:{number}"), 10).result()
            found.setdefault(number, set()).add(link.turn)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(100)]
    run_all(threads)
    assert found == {number: {number + 1} for number in range(100)}
    assert backend.most_at_once == 1, "one thread at a time"


def test_a_signal_handler_amid_a_turn_of_its_thread_waits_for_nothing(keeper, backend):
    assert keeper.ask(look_up("r:1"), 10).is_done
    seen = []

    def handler(*_: object) -> None:
        begun = time.perf_counter()
        answer = keeper.ask(look_up("r:2"), 10)
        seen.append((answer, time.perf_counter() - begun))

    former = signal.signal(signal.SIGUSR1, handler)
    backend.amid = lambda: signal.raise_signal(signal.SIGUSR1)
    try:
        assert keeper.ask(look_up("r:1"), 10).is_done
    finally:
        signal.signal(signal.SIGUSR1, former)
    ((answer, took),) = seen
    assert took < 1
    assert answer.wait(10), "and is answered all the same"


def test_a_turn_that_a_signal_handler_cut_off_for_good_is_not_waited_for_for_ever(backend, closing, monkeypatch):
    monkeypatch.setattr("otel_llm_sessions.stores.keeper._TURN_LOST", 0.05)
    keeper = closing(a_keeper(backend))
    assert keeper.ask(look_up("r:1"), 10).is_done
    keeper._crew.turn.acquire()  # and no one gives it back
    answer = keeper.ask(look_up("r:1"))
    assert answer.wait(10)
    assert keeper.ask(look_up("r:1"), 10).is_done


def test_an_answer_is_given_without_holding_up_others(keeper, backend):
    assert keeper.ask(look_up("r:1"), 10).is_done
    told = []
    keeper.ask(look_up("r:2")).when_done(lambda _: told.append(keeper.ask(look_up("r:3"), 10).is_done))
    until(lambda: told == [True])


# --- how long they wait -----------------------------------------------------------------------------------------


def test_a_caller_waits_no_longer_than_it_says_and_what_it_asked_is_done(keeper, backend):
    with Lateness() as late, busy(keeper, backend):
        begun = time.perf_counter()
        answer = keeper.ask(Put([("s:1", a_link())]), LIMIT)
        took = time.perf_counter() - begun
        assert not answer.is_done
    assert took < late.limit(LIMIT + 0.02)
    assert answer.wait(10)
    assert "s:1" in backend.links


def test_nobody_waits_for_a_store_that_is_late_until_it_answers(keeper, backend):
    with busy(keeper, backend):
        assert not keeper.ask(look_up("r:1"), LIMIT).is_done
        assert keeper.pace.patience == 0.0
    until(lambda: keeper.pace.patience == LIMIT)


def test_a_store_that_is_always_slow_is_asked_beside_the_call_until_it_is_quick():
    pace = Pace(LIMIT)
    for _ in range(8):
        assert pace.patience == LIMIT
        pace.took_since(time.monotonic() - 2 * SLOW)
    assert pace.patience == 0.0
    pace.took_since(time.monotonic())
    assert pace.patience == LIMIT


def test_how_late_a_store_was_is_known_for_half_a_minute(monkeypatch):
    pace, clock = Pace(LIMIT), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    pace.took_since(clock[0] - SLOW / 2)
    assert pace.lateness == 0.0
    pace.came(0.3)
    pace.took_since(clock[0] - 0.1)
    assert pace.lateness == 0.3
    clock[0] += LATELY - 1
    pace.late(LIMIT)
    assert pace.lateness == 0.3
    clock[0] += 2
    assert pace.lateness == 0.0
    pace.late(LIMIT)
    assert pace.lateness == LIMIT


def test_what_the_thread_is_late_with_is_late(keeper, backend):
    assert keeper.ask(look_up("r:1")).wait(10)
    with busy(keeper, backend):
        time.sleep(SLOW)  # that is how late it is: there is no condition to wait for
    until(lambda: keeper.pace.lateness > SLOW)


def test_who_waited_in_vain_while_others_were_answered_says_nothing_of_the_store():
    pace = Pace(LIMIT)
    pace.took_since(time.monotonic())
    pace.late(LIMIT)
    assert pace.patience == LIMIT
    time.sleep(LIMIT)  # a silence is a wait: there is no condition to wait for
    pace.late(LIMIT)
    assert pace.patience == 0.0


def test_too_many_that_wait_are_refused_and_what_they_recorded_is_written_later(keeper, backend, monkeypatch):
    monkeypatch.setattr("otel_llm_sessions.stores.keeper.MAX_WAITING", 1)
    with busy(keeper, backend):
        keeper.ask(look_up("r:1"))
        refused, written = keeper.ask(look_up("r:2")), keeper.ask(Put([("s:1", a_link())]))
        with pytest.raises(StoreDown, match="wait already"):
            refused.result()
        assert written.is_done
    until(lambda: "s:1" in backend.links)


# --- a store that fails -----------------------------------------------------------------------------------------


def test_a_store_that_keeps_failing_is_asked_ever_more_rarely_until_it_was_well_for_a_while(monkeypatch):
    now = 1_000.0
    monkeypatch.setattr("otel_llm_sessions.stores.pace.time.monotonic", lambda: now)
    rests, waited = Breaker(0.02, 1.0), []
    for _ in range(6):
        rests.begin()
        waited.append(round(rests.left(), 6))
        now += rests.left()
    assert waited == [0.02, 0.08, 0.32, 1.0, 1.0, 1.0]
    now += 1.5
    rests.begin()
    assert rests.left() == 1.0
    now += 1.0 + 2.5
    rests.begin()
    assert rests.left() == pytest.approx(0.02)


def test_a_store_that_is_down_is_asked_once_per_rest_beside_all_calls(backend, closing):
    keeper = closing(a_keeper(backend, longest_rest=0.1, first_rest=0.1))
    backend.fail(StoreDown("down"))
    assert keeper.ask(look_up("r:1"), 10).is_done
    assert not keeper.readable
    backend.threads.clear()
    begun = time.monotonic()
    time.sleep(0.55)  # what does not happen has no condition to wait for
    asked = len(backend.threads)
    assert 2 <= asked <= (time.monotonic() - begun) / 0.1 + 2
    assert threading.get_ident() not in backend.threads
    backend.fail(None)
    until(lambda: keeper.readable and keeper.writable)


def test_a_part_that_is_down_keeps_nobody_away_from_the_rest_and_is_written_later(keeper, backend):
    backend.down_keys = {"s:1"}
    keeper.ask(Put([("s:1", a_link())])).wait(10)
    keeper.ask(Put([("s:2", a_link())])).wait(10)
    assert keeper.readable
    assert keeper.writable
    assert set(backend.links) == {"s:2"}
    backend.down_keys = set()
    until(lambda: set(backend.links) == {"s:1", "s:2"})


def test_what_is_written_late_does_not_replace_what_others_wrote_meanwhile(keeper, backend):
    backend.fail(StoreDown("down"))
    keeper.ask(Put([("s:1", a_link(1, start=1_000)), ("s:2", a_link(1, start=1_000))]), 10)
    backend.links["s:1"] = a_link(2, start=2_000)
    backend.fail(None)
    until(lambda: "s:2" in backend.links)
    assert backend.links["s:1"].turn == 2


def test_a_claim_whose_answer_was_lost_is_claimed_again_as_the_same(keeper, backend):
    backend.fail_after(StoreDown("the connection broke"))
    keeper.ask(Claim("root", b"mine"), 10)
    assert backend.claims == {"root": b"mine"}
    until(lambda: keeper.writable and not len(keeper.backlog))
    assert backend.claims == {"root": b"mine"}


# --- its end, forks, patches ------------------------------------------------------------------------------------


def test_closing_writes_what_waits_and_closes_what_is_open(backend):
    keeper = a_keeper(backend, first_rest=3600.0, longest_rest=3600.0)
    backend.fail(StoreDown("down"))
    keeper.ask(Put([("s:1", a_link())]), 10)
    backend.fail(None)
    keeper.close()
    until(lambda: not backend.is_open)
    assert "s:1" in backend.links
    with pytest.raises(StoreDown, match="closed"):
        keeper.ask(look_up("s:1"), 10).result()


def test_what_is_asked_before_it_is_closed_is_answered(keeper, backend):
    with busy(keeper, backend):
        answer = keeper.ask(Put([("s:1", a_link())]))
        keeper.close()
    assert answer.wait(10)
    assert "s:1" in backend.links


def test_a_child_has_a_keeper_and_a_connection_of_its_own_whatever_its_parent_is_at(keeper, backend):
    def check():
        keeper._backend.go_on.set()
        return keeper._backend is not backend and keeper.ask(look_up("r:1"), 5).is_done

    with busy(keeper, backend):
        keeper.backlog.keep([("s:1", a_link())])
        in_child(lambda: not len(keeper.backlog) and check())
        with keeper.backlog._lock:
            in_child(check)


def test_a_patch_of_what_threads_are_made_of_gets_a_thread_of_its_own(keeper, backend, monkeypatch):
    assert keeper.ask(look_up("r:1"), 10).is_done
    lock = threading.Lock
    with monkeypatch.context() as patched:
        patched.setattr(threading, "Lock", lambda: lock())
        assert keeper.ask(look_up("r:1"), 10).is_done
        assert keeper._backend is not backend
        until(lambda: not backend.is_open)  # what the former one owned is not left open
        keeper.close()


def test_a_thread_that_answers_a_loop_which_was_closed_goes_on(keeper, backend):
    async def ask() -> None:
        waiting = asyncio.ensure_future(keeper.ask(look_up("r:1")).wait_on_loop(10))
        await asyncio.to_thread(backend.begun.wait, 10)
        assert not waiting.done()

    backend.go_on.clear()
    asyncio.run(ask())
    backend.go_on.set()
    assert keeper.ask(look_up("r:1"), 10).is_done
