"""How often a backend is read for lists of sessions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from viewer_kit import talk

from otel_llm_sessions import semconv
from otel_llm_sessions.view.query import SECOND, Query
from otel_llm_sessions.view.sources import searched
from otel_llm_sessions.view.sources.searched import Searched

HOUR = 3_600 * SECOND


class Backend:
    """A backend of ten sessions whose reading takes as long as a test says."""

    name = "a backend"

    def __init__(self) -> None:
        self.looked_for = 0
        self.now = 1_000.0
        self.takes = 0.0
        self.readings = 0
        begin = time.time_ns() - HOUR
        self.traces = [talk(f"s{number}", 1, trace=number, begin=begin + number) for number in range(10)]

    def everything(self, since: int, until: int, told: Any) -> Iterator[list[Any]]:
        self.readings += 1
        self.now += self.takes
        yield from self.traces

    def having(self, attribute: str, value: str, since: int, until: int, told: Any) -> Iterator[list[Any]]:
        self.looked_for += attribute == "session.id"
        self.now += self.takes
        return iter([trace for trace in self.traces if trace[1].attributes.get(attribute) == value])

    def trace(self, trace_id: str, told: Any) -> list[Any]:
        return []

    def mended(self, spans: Any) -> list[Any]:
        return list(spans)


@pytest.fixture
def backend(monkeypatch):
    backend = Backend()
    clock = SimpleNamespace(monotonic=lambda: backend.now, time_ns=time.time_ns)
    monkeypatch.setattr(searched, "time", clock)
    return backend


def test_a_list_of_any_time_is_read_once_in_three_seconds(backend):
    source = Searched(backend)
    for _ in range(5):
        assert source.sessions(Query()).notices == (
            "only the last 7 days were looked through; say since when for more",
        )
        backend.now += 0.5
    assert backend.readings == 1
    later = source.sessions(Query(since=time.time_ns() - 2 * HOUR))
    assert (len(later.sessions), later.notices, backend.readings) == (10, (), 1), "a part of that stretch"
    source.sessions(Query(since=time.time_ns() - 1_000 * HOUR))
    assert backend.readings == 2, "it begins earlier"
    backend.now += 3.5
    source.sessions(Query())
    assert backend.readings == 3


def test_open_pages_leave_a_backend_its_rest(backend):
    """Three tabs that ask again every ten seconds, for ten minutes."""
    source, backend.takes = Searched(backend), 5.0
    for _ in range(60):
        for _ in range(3):
            source.sessions(Query())
        backend.now += 10.0
    assert backend.readings <= 60 * 10 / (5 + 20) + 10


def test_who_goes_from_page_to_page_goes_on_in_one_reading_while_others_look(backend):
    source = Searched(backend)
    first = source.sessions(Query(limit=3))
    second = source.sessions(Query(limit=3, cursor=first.next_cursor))
    for _ in range(20):
        backend.now += 10.0
        source.sessions(Query())
    read = backend.readings
    third = source.sessions(Query(limit=3, cursor=second.next_cursor))
    assert backend.readings == read
    assert [one.id for page in (first, second, third) for one in page.sessions] == [f"s{9 - at}" for at in range(9)]


def test_while_nothing_happens_a_page_is_the_same_with_its_cursor(backend):
    """Then who looks at it asks less and less often."""
    source, pages = Searched(backend), []
    for _ in range(3):
        pages.append(source.sessions(Query(limit=3)))
        backend.now += 100.0
        backend.traces.reverse()  # a backend finds them in any order
    assert (pages[0] == pages[1] == pages[2], backend.readings) == (True, 3)
    backend.traces.append(talk("another", 1, trace=100, begin=time.time_ns() - 2 * HOUR))
    assert source.sessions(Query(limit=3)).next_cursor != pages[0].next_cursor


def test_where_a_reading_has_left_its_next_page_is_of_the_newest(backend):
    source = Searched(backend)
    first = source.sessions(Query(limit=3))
    backend.now += searched.KEPT
    source.sessions(Query())
    second = source.sessions(Query(limit=3, cursor=first.next_cursor))
    assert ([one.id for one in second.sessions], backend.readings) == (["s6", "s5", "s4"], 2)


def test_no_more_than_a_few_readings_are_kept(backend):
    source = Searched(backend)
    cursors = []
    for hours in range(2, 10):
        backend.traces.append(talk(f"another{hours}", 1, trace=100 + hours, begin=time.time_ns() - HOUR))
        page = source.sessions(Query(limit=3, since=time.time_ns() - hours * HOUR))
        cursors.append(page.next_cursor)
        source.sessions(Query(limit=3, since=time.time_ns() - hours * HOUR, cursor=page.next_cursor))
        backend.now += 10.0
    assert backend.readings == 8
    backend.now += 10.0
    for cursor, read in ((cursors[-1], 8), (cursors[-4], 8), (cursors[0], 9)):
        followed = source.sessions(Query(limit=3, since=time.time_ns() - 9 * HOUR, cursor=cursor))
        assert (len(followed.sessions), backend.readings) == (3, read), "the newest are there"


@pytest.mark.parametrize(
    ("text", "found"), [("resp_3_1", ["s3"]), (f"{4:032x}", ["s4"]), ("resp_3", []), ("s5", ["s5"])]
)
def test_the_id_of_a_response_or_a_trace_leads_to_its_session(backend, text, found):
    source = Searched(backend)
    assert [one.id for one in source.sessions(Query(text=text)).sessions] == found
    source.sessions(Query())
    assert backend.readings == 1


def test_the_id_of_a_trace_leads_to_all_sessions_that_have_turns_in_it(backend):
    """As that of a web request in which two agents talk."""
    one, two = (talk(named, 1, trace=50, begin=time.time_ns() - HOUR)[1] for named in ("one", "two"))
    backend.traces.append([one, replace(two, span_id="5" * 16)])
    found = Searched(backend).sessions(Query(text=f"{50:032x}"))
    assert {session.id for session in found.sessions} == {"one", "two"}


def test_open_pages_of_a_session_leave_a_backend_its_rest(backend):
    """Three tabs that ask again every ten seconds, for ten minutes."""
    source, backend.takes = Searched(backend), 0.5
    first = source.session("s1")
    took = backend.now - 1_000.0
    for _ in range(60):
        for _ in range(3):
            assert source.session("s1") == first
        backend.now += 10.0
    assert took >= 1.0
    assert backend.looked_for <= 1 + 60 * 10 / min(5 * took, 60)


def test_a_session_that_is_looked_at_for_the_first_time_is_read_now(backend):
    source, backend.takes = Searched(backend), 5.0
    assert source.session("s9") is not None
    assert source.session("new") is None
    backend.traces.append(talk("new", 1, trace=99))
    assert source.session("new") is not None, "that nothing was there is not kept"
    for number in range(8):
        source.session(f"s{number}")
    looked_for = backend.looked_for
    source.session("s7")
    assert backend.looked_for == looked_for
    source.session("s0")
    assert backend.looked_for == looked_for + 1, "no more than a few are kept"


def test_of_a_session_that_began_before_all_turns_are_counted(backend):
    whole = talk("s3", 5, trace=3, begin=time.time_ns() - HOUR)
    backend.traces[3] = [*whole[:1], *whole[4:]]
    before = [replace(span, trace_id=f"{99:032x}") for span in whole[1:4]]
    backend.having = lambda attribute, value, since, until, told: iter([before] if value == "s3" else [])
    found = {one.id: one for one in Searched(backend).sessions(Query()).sessions}
    assert (len(found), found["s3"].turns, found["s4"].turns) == (10, 5, 1)


def test_what_is_filed_under_more_ids_than_are_looked_for_is_said(backend):
    def partial(number: int) -> Any:
        said = {semconv.LLM_SESSION_SOURCE: "chain_partial", semconv.SESSION_ID: f"resp_1_{number}"}
        spans = talk(f"p{number}", 1, trace=1_000 + number)
        return [replace(span, attributes={**span.attributes, **said}) for span in spans[1:]]

    backend.traces[1] = talk("s1", 60)
    backend.traces += [partial(number) for number in range(1, 61)]
    for trace in backend.traces[10:]:
        trace.insert(0, trace[0])
    assert Searched(backend).session("s1").notices == (
        "its turns are filed under more than 50 ids: not all of it is shown",
    )
