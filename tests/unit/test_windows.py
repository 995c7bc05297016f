"""A stretch of time is read whole through a search with a limit, in few searches, and what is cut off is said."""

from __future__ import annotations

import random

import pytest

from otel_llm_sessions.view.query import SECOND
from otel_llm_sessions.view.sources.told import Told
from otel_llm_sessions.view.sources.windows import MILLISECOND, Found, read

WEEK = 7 * 86_400 * SECOND
NOW = 1_790_000_000 * SECOND
LIMIT = 500


class Backend:
    """Traces at some times; a search answers the newest of them, or any."""

    def __init__(self, times: list[int], newest: bool = True, limit: int = LIMIT) -> None:
        self.times = sorted(times, reverse=True)
        self.newest = newest
        self.limit = limit
        self.searches = self.told = 0

    def search(self, low: int, high: int) -> Found[int]:
        found = [time for time in self.times if low <= time <= high]
        if not self.newest:
            random.Random(len(found)).shuffle(found)
        found = found[: self.limit]
        self.searches += 1
        self.told += len(found)
        full = len(found) >= self.limit
        return Found(found, full, len(found) / self.limit, found)


def evenly(number: int) -> list[int]:
    return [NOW - WEEK * at // number for at in range(number)]


def lately(number: int) -> list[int]:
    """All of a week's within its last minutes."""
    return [NOW - at * SECOND // 10 for at in range(number)]


def in_bursts(number: int) -> list[int]:
    """A thousand within a second, each day."""
    return [NOW - at // 1_000 * WEEK // 7 - at % 1_000 * MILLISECOND for at in range(number)]


def anywhere(number: int) -> list[int]:
    """The older the fewer."""
    generator = random.Random(7)
    return [NOW - int(generator.random() ** 3 * WEEK) for _ in range(number)]


@pytest.mark.parametrize("newest", [True, False], ids=["newest", "any"])
@pytest.mark.parametrize("times", [evenly, lately, in_bursts, anywhere])
def test_all_is_read_and_little_of_it_twice(times, newest):
    backend, told = Backend(times(10_000 if times is not in_bursts else 7_000), newest), Told()
    found = list(read(backend.search, NOW - WEEK, NOW, told))
    assert set(found) == set(backend.times)
    assert told.notices == ()
    if newest:  # as backends do; how often one is asked that answers any is bounded alone
        number = len(backend.times)
        assert backend.told <= 3 * number
        assert backend.searches <= number / 80
    assert backend.searches < 500


def test_little_is_read_at_once():
    backend = Backend(lately(LIMIT - 1))
    assert list(read(backend.search, NOW - WEEK, NOW, Told())) == backend.times
    assert backend.searches == 1


def test_more_in_a_moment_than_an_answer_holds_is_said_and_the_rest_is_read():
    moment = NOW - WEEK // 2
    backend, told = Backend([moment] * 600 + evenly(2_000)), Told()
    found = list(read(backend.search, NOW - WEEK, NOW, told))
    assert set(found) == set(backend.times)
    (notice,) = told.notices
    assert "not all of it is shown" in notice


def test_traces_that_go_on_all_the_time_are_not_asked_for_without_end():
    """Each search finds all of them."""
    asked = []

    def search(low: int, high: int) -> Found[int]:
        asked.append((low, high))
        return Found(list(range(LIMIT)), True, 1.0, [high] * LIMIT)

    told = Told()
    assert set(read(search, NOW - WEEK, NOW, told)) == set(range(LIMIT))
    assert len(asked) <= 300
    assert asked[-1][0] == NOW - WEEK, "all that was left, at once"
    assert told.notices


@pytest.mark.parametrize("at", [0, 5 * SECOND, WEEK // 2])
def test_a_trace_that_goes_on_and_of_which_the_beginning_is_told_makes_no_window_small(at):
    """As Tempo tells of a trace the first hundred spans, in whichever of its hours it is found."""
    backend, begun = Backend(lately(LIMIT + 100)), NOW - WEEK + at

    def search(low: int, high: int) -> Found[int]:
        found = backend.search(low, high)
        if backend.searches > 100:
            raise AssertionError(f"a window of {high - low} ns")
        there = [begun] if high >= begun else []
        return Found(found.traces + there, found.full, found.share, [*found.times, *there])

    assert set(read(search, NOW - WEEK, NOW, Told())) == {*backend.times, begun}


def test_an_answer_that_is_too_long_is_asked_for_in_halves():
    backend, told = Backend(evenly(100), limit=1_000), Told()

    def search(low: int, high: int) -> Found[int]:
        found = backend.search(low, high)
        return found if len(found.traces) < 40 else Found([], True)

    assert set(read(search, NOW - WEEK, NOW, told)) == set(backend.times)
    assert told.notices == ()
    assert backend.searches < 20
