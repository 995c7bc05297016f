"""A map whose oldest entries make room, and a question that is answered with yes once."""

from __future__ import annotations

import signal
import sys
import threading
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import run_all

from otel_llm_sessions.bounded import Bounded, once

KEYS = st.integers(0, 8)
ACTIONS = st.lists(st.tuples(st.sampled_from(["set", "renew", "pop", "get"]), KEYS), max_size=60)


@given(st.integers(1, 5), ACTIONS)
def test_the_newest_are_kept_in_the_order_in_which_they_were_set_or_renewed(most, actions):
    kept: Bounded[int, int] = Bounded(most)
    expected: OrderedDict[int, int] = OrderedDict()
    for number, (action, key) in enumerate(actions):
        if action == "set":
            kept[key] = number
            expected.pop(key, None)
            expected[key] = number
        elif action == "renew":
            kept.renew(key)
            if key in expected:
                expected.move_to_end(key)
        else:
            getattr(kept, action)(key, None)
            getattr(expected, action)(key, None)
        while len(expected) > most:
            expected.popitem(last=False)
        assert list(kept.items()) == list(expected.items())


def test_an_entry_that_is_too_heavy_is_not_kept_and_takes_what_was_known_with_it():
    kept: Bounded[str, str] = Bounded(3, weigh=lambda key, value: len(key) + len(value), heaviest=10)
    kept["a"] = "x" * 9
    kept["b"] = "x" * 10
    assert list(kept) == ["a"]
    kept["a"] = "x" * 10
    assert not kept


@pytest.fixture
def switching():
    """Threads that take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def at_once(work, threads=4):
    failures = []

    def guarded(number):
        try:
            barrier.wait()
            work(number)
        except BaseException as failure:
            failures.append(failure)

    barrier = threading.Barrier(threads)
    running = [threading.Thread(target=guarded, args=(number,)) for number in range(threads)]
    run_all(running)
    assert not failures


def test_many_threads_at_once_leave_it_whole_and_within_its_bound(switching):
    kept: Bounded[int, int] = Bounded(4)

    def work(number):
        for step in range(3000):
            kept[(step * 7 + number) % 11] = step
            kept.renew((step + number) % 11)
            kept.get(step % 11)
            kept.pop((step * 3 + number) % 11, None)

    at_once(work)
    for key in range(20):
        kept[key] = key
    assert list(kept.items()) == [(key, key) for key in range(16, 20)]


def test_a_signal_handler_that_raises_amid_a_use_leaves_it_whole():
    class Interrupt(BaseException):
        pass

    def interrupt(*_):
        raise Interrupt

    kept: Bounded[int, int] = Bounded(4)
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = step = 0
    try:
        while interrupted < 100:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005)  # once
                while True:
                    step += 1
                    kept[step % 11] = step
            except Interrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(kept) <= 5  # one more where the room was not yet made
    for key in range(20):
        kept[key] = key
    assert list(kept.items()) == [(key, key) for key in range(16, 20)]


def test_only_the_first_takes_it():
    left = once()
    assert [next(left, False) for _ in range(3)] == [True, False, False]


def test_of_many_threads_one_takes_it(switching):
    many = [once() for _ in range(3000)]
    taken = [0] * 4

    def work(number):
        for left in many:
            taken[number] += next(left, False)

    at_once(work)
    assert sum(taken) == len(many)
