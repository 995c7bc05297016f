"""Sessions read from Tempo: from its recorded answers, and from a server that answers as it does (tempo_kit)."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator

import pytest
from exports_kit import Export, load_all, misread
from tempo_kit import INDEX, Limits, answer_to, emulated, groups_of, recorded, recorded_traces, request_of
from traceql_kit import parsed
from viewer_kit import talk
from web_kit import Web, web

from otel_llm_sessions.view.otlp_writing import spans_request
from otel_llm_sessions.view.query import SECOND, Query
from otel_llm_sessions.view.sessions import sessions_of
from otel_llm_sessions.view.source import Page, Unreachable
from otel_llm_sessions.view.sources.opening import open_source
from otel_llm_sessions.view.sources.site import Site
from otel_llm_sessions.view.sources.tempo import EVERYTHING, Tempo, TempoSource, quoted
from otel_llm_sessions.view.sources.told import Told

DAY = 86_400 * SECOND
THEN = Query(since=1_795_690_286 * SECOND, until=1_795_693_946 * SECOND, limit=100)
"""The hour of the recorded answers."""
LACKING = {
    "event_only": "words",  # those are in log records
    "parent_session": "children",  # only the child's root tells of its parent
}
TRACES = [number for number, one in enumerate(INDEX, 1) if "/traces/" in one["request"] and one["bytes"] > 100]


@pytest.fixture(scope="module")
def exports() -> list[Export]:
    return load_all(time.time_ns(), "tempo")


@pytest.fixture(scope="module")
def served(exports) -> Iterator[Web]:
    """What answers as a Tempo that has all recorded exports, moved to now."""
    with emulated(groups_of(message for export in exports for message in export.traces)) as tempo:
        yield tempo


def test_tempo_is_known_by_its_echo():
    with recorded() as served:
        assert open_source(served.url).name == f"Tempo at {served.url}"


@pytest.mark.parametrize("number", TRACES)
def test_recorded_traces_are_read_in_both_forms(number):
    with recorded() as served:
        trace_id = request_of(number)[0].rpartition("/")[2]
        tempo = Tempo(Site(served.url), has_v2="v2" in INDEX[number - 1]["file"])
        spans = tempo.trace(trace_id, Told())
    assert spans and {span.trace_id for span in spans} == {trace_id}
    assert all(len(span.span_id) == 16 and int(span.span_id, 16) for span in spans)
    assert all(0 < span.start <= span.end for span in spans)
    assert {span.resource["service.name"] for span in spans} == {"check"}
    (root,) = (span for span in spans if not span.parent_id)
    assert root.name == "session" and root.attributes["session.id"] and root.attributes["llm_session.part"] == 1
    (session,) = (one for one in sessions_of(tempo.mended(spans)) if one.id == root.attributes["session.id"])
    assert [turn.number for turn in session.turns] == sorted(turn.number for turn in session.turns)
    assert session.turns and session.parts[0].root is not None


def test_a_trace_that_tempo_does_not_know_is_none():
    with recorded() as served:
        for has_v2 in (True, False):
            assert Tempo(Site(served.url), has_v2=has_v2).trace("0" * 31 + "1", Told()) == []


def test_what_tempo_says_of_a_bad_query_is_said():
    with recorded() as served, pytest.raises(Unreachable, match="400 Bad Request: invalid TraceQL query: parse error"):
        TempoSource(Site(served.url)).sessions(THEN)


def test_the_sessions_of_the_recorded_hour_are_listed():
    recorded_values = {one["value"] for one in answer_to(9)["tagValues"]}
    with emulated(recorded_traces()) as served:
        page = TempoSource(Site(served.url)).sessions(THEN)
    assert {one.id for one in page.sessions} == recorded_values
    turns = {one["turns"] for one in map(dataclasses.asdict, page.sessions)}
    assert turns == {3, 4} and all(one.services == ("check",) for one in page.sessions)


def test_all_recorded_exports_are_listed_as_the_receiver_has_them(exports, served):
    expected = {one.id: one for export in exports for one in (each.summary() for each in sessions_of(export.spans))}
    page = TempoSource(Site(served.url)).sessions(Query(since=time.time_ns() - 7 * DAY, limit=10_000))
    assert {one.id: one for one in page.sessions} == expected
    assert page.notices == ()


@pytest.mark.slow
@pytest.mark.parametrize("has_v2", [True, False], ids=["v2", "v1"])
def test_each_recorded_session_is_read_whole(exports, has_v2):
    groups = groups_of(message for export in exports for message in export.traces)
    with emulated(groups, Limits(has_v2=has_v2)) as served:
        assert misread(exports, open_source(served.url), LACKING) == []


def test_a_session_that_nobody_knows_is_none(served):
    source = TempoSource(Site(served.url))
    assert source.session("nobody") is None
    assert source.session('no"body\\ }|{') is None


def test_queries_look_at_spans_and_not_at_whole_traces():
    fields = parsed(EVERYTHING).selected
    assert fields and not [name for name in fields if ":" in name or name.startswith("root")]


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a\nb", "é", "\x00", "`", "a}b|{"])
def test_any_id_is_a_text_of_the_query(text):
    assert parsed(f"{{ span.session.id = {quoted(text)} }}").matches(lambda name: text)


def test_pages_follow_one_another_in_a_stable_order(served):
    source = TempoSource(Site(served.url))
    since = time.time_ns() - 7 * DAY
    whole = source.sessions(Query(since=since, limit=10_000)).sessions
    for sort in ("last", "turns", "tokens", "cost", "duration"):
        query, found = Query(since=since, sort=sort, limit=7), []
        while True:
            page = source.sessions(query)
            found += page.sessions
            if page.next_cursor is None:
                break
            assert len(page.sessions) == 7
            query = dataclasses.replace(query, cursor=page.next_cursor)
        assert found == Query(sort=sort).ordered(whole)


def test_a_cursor_goes_on_in_another_process_too(served):
    query = Query(since=time.time_ns() - 7 * DAY, limit=5)
    first = TempoSource(Site(served.url)).sessions(query)
    second = TempoSource(Site(served.url)).sessions(dataclasses.replace(query, cursor=first.next_cursor))
    both = TempoSource(Site(served.url)).sessions(dataclasses.replace(query, limit=10))
    assert first.sessions + second.sessions == both.sessions


@pytest.mark.parametrize("cursor", ["x", "e30=", "W10=", "WzEsMl0=", "é", "=" * 9, "WyJ0IiwxLEluZmluaXR5LCJ4Il0="])
def test_a_cursor_that_is_none_is_wrong(served, cursor):
    with pytest.raises(ValueError, match="cursor is not valid"):
        TempoSource(Site(served.url)).sessions(Query(cursor=cursor))


@pytest.mark.slow
@pytest.mark.parametrize(
    "limits",
    [Limits(most_traces=100), Limits(most_spans=20), Limits(most_hours=24 * 2), Limits(most_traces=10, most_spans=10)],
    ids=["traces", "spans", "hours", "traces and spans"],
)
def test_what_a_tempo_refuses_is_asked_in_smaller_pieces(exports, limits):
    groups = groups_of(message for export in exports for message in export.traces)
    expected = {one.id: one for export in exports for one in (each.summary() for each in sessions_of(export.spans))}
    with emulated(groups, limits) as served:
        page = TempoSource(Site(served.url)).sessions(Query(since=time.time_ns() - 7 * DAY, limit=10_000))
    cut = [one for one in page.notices if "not all of it" in one]
    assert cut or {one.id: one for one in page.sessions} == expected


@pytest.mark.slow
def test_many_sessions_are_read_in_few_searches_and_page_by_page():
    number, begin = 1_000, time.time_ns() - 3 * 3600 * SECOND
    spans = [one for at in range(number) for one in talk(f"s{at}", 2, trace=at + 1, begin=begin + 10 * at * SECOND)]
    with emulated(groups_of([spans_request(spans).SerializeToString()])) as served:
        source, told, found = TempoSource(Site(served.url), limit=50), [], []
        query = Query(since=begin - SECOND, limit=300)
        while query is not None:
            page = source.sessions(query, told.append)
            found += page.sessions
            query = dataclasses.replace(query, cursor=page.next_cursor) if page.next_cursor else None
    assert page.notices == ()
    assert [one.id for one in found] == [f"s{number - 1 - at}" for at in range(number)]
    assert {one.turns for one in found} == {2}
    assert len(served.asked) < 3 * number / 50
    assert told and told[-1].endswith("traces")


def test_what_was_cut_off_is_said(exports):
    groups = groups_of(message for export in exports for message in export.traces)
    with emulated(groups) as served:
        page = TempoSource(Site(served.url), limit=5).sessions(Query(since=time.time_ns() - 7 * DAY))
    assert page.notices and "not all of it is shown" in page.notices[0]


def test_a_long_session_is_read_by_its_trace_where_a_search_tells_only_some_of_its_spans(exports):
    groups = groups_of(message for export in exports for message in export.traces)
    with emulated(groups, Limits(most_spans=5)) as served:
        source = TempoSource(Site(served.url))
        page = source.sessions(Query(since=time.time_ns() - 7 * DAY, limit=10_000))
    longest = max((one.summary() for export in exports for one in sessions_of(export.spans)), key=lambda one: one.turns)
    assert longest.turns > 5 and longest.turns in {one.turns for one in page.sessions if one.id == longest.id}


def test_a_session_of_days_is_read_once_and_others_before_it_all_the_same():
    """Searches find it in each of its hours, and tell its first spans alone."""
    now, turns = time.time_ns(), 120
    long = [
        dataclasses.replace(span, start=now - 3 * DAY + at * DAY // 40, end=now - 3 * DAY + at * DAY // 40 + SECOND)
        for at, span in enumerate(talk("long", turns, trace=1))
    ]
    short = [one for at in range(30) for one in talk(f"s{at}", 1, trace=2 + at, begin=now - (1_000 - 30 * at) * SECOND)]
    with emulated(groups_of([spans_request([*long, *short]).SerializeToString()])) as served:
        page = TempoSource(Site(served.url), limit=20).sessions(Query(limit=1_000))
    assert {one.id: one.turns for one in page.sessions} == {"long": turns, **{f"s{at}": 1 for at in range(30)}}
    assert len([asked for asked in served.asked if "/traces/" in asked.path]) == 1
    assert len(served.asked) < 40


def test_a_session_whose_trace_tempo_does_not_answer_is_counted_in_part_and_the_others_in_whole():
    begin = time.time_ns() - 3_600 * SECOND
    spans = [*talk("long", 120, trace=1, begin=begin), *talk("short", 2, trace=2, begin=begin)]
    with emulated(groups_of([spans_request(spans).SerializeToString()]), Limits(most_of_trace=10_000)) as served:
        page = TempoSource(Site(served.url)).sessions(Query())
    assert {one.id: one.turns for one in page.sessions} == {"long": 99, "short": 2}
    assert [one for one in page.notices if "counted in part" in one and "response larger than the max" in one]


def test_a_search_that_did_not_end_is_said(exports):
    with emulated([], Limits(jobs=(2, 7))) as served:
        page = TempoSource(Site(served.url)).sessions(Query(since=time.time_ns() - DAY))
    assert page == Page((), None, ("Tempo searched only 2 of 7 parts of what it has: sessions may be missing",))


def test_a_trace_that_is_told_in_part_is_said(exports):
    groups = groups_of(message for export in exports for message in export.traces)
    with emulated(groups, Limits(status="PARTIAL")) as served:
        arrived = TempoSource(Site(served.url)).session(exports[0].sessions[0]["id"])
    assert arrived is not None and "Tempo told only a part of trace" in arrived.notices[0]


@pytest.mark.parametrize(
    "answer",
    [
        {"traces": [7, None, {"traceID": 5}, {"traceID": "ab", "spanSets": 7}, {"traceID": "ab", "spanSets": [7]}]},
        {"traces": [{"traceID": "ab", "spanSets": [{"spans": [7, {}, {"attributes": [7, {"key": 1}]}]}]}]},
        {"traces": None, "metrics": 7},
        {"traces": {}, "metrics": {"completedJobs": "x", "totalJobs": None}},
    ],
)
def test_odd_answers_to_a_search_are_left_out(answer):
    with web(lambda asked: (200, json.dumps(answer).encode())) as served:
        source = TempoSource(Site(served.url))
        try:
            assert source.sessions(Query(since=time.time_ns() - DAY)).sessions == ()
        except Unreachable as away:
            assert str(away).isprintable()


def test_nothing_is_asked_again_for_a_moment_and_the_next_page_is_of_the_same_reading(served):
    source, query = TempoSource(Site(served.url)), Query(since=time.time_ns() - 7 * DAY, limit=5)
    first = source.sessions(query)
    asked = len(served.asked)
    source.sessions(dataclasses.replace(query, cursor=first.next_cursor))
    source.sessions(dataclasses.replace(query, errors=True, since=query.since + 1))
    assert len(served.asked) == asked
