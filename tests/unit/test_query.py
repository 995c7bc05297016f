"""Which sessions a query asks for, and how texts say it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llm_sessions.view.query import SECOND, Query, moment, query_of
from otel_llm_sessions.view.summaries import Summary

NOW = 1_800_000_000 * SECOND
ONE = Summary(
    "resp_1",
    name="Refund",
    user="u-1",
    tags=("beta",),
    services=("web", "worker"),
    turns=3,
    models=("gpt-5.1", "o5"),
    input_tokens=100,
    output_tokens=20,
    cost=0.5,
    currency="USD",
    errors=1,
    first=NOW - 3600 * SECOND,
    last=NOW - 60 * SECOND,
)


@pytest.mark.parametrize(
    ("said", "is_asked_for"),
    [
        ({}, True),
        ({"since": "2m"}, True),
        ({"since": "59s"}, False),
        ({"until": "2h"}, False),
        ({"until": "30m"}, True),
        ({"service": "worker"}, True),
        ({"service": "work"}, False),
        ({"user": "u-1"}, True),
        ({"user": "u"}, False),
        ({"model": "gpt-5"}, True),
        ({"model": "5.1"}, False),
        ({"name": "fun"}, True),
        ({"name": "buy"}, False),
        ({"errors": "true"}, True),
        ({"min_turns": "3"}, True),
        ({"min_turns": "4"}, False),
    ],
)
def test_a_session_is_asked_for_by_what_its_row_says(said, is_asked_for):
    assert query_of(said, NOW).matches(ONE) is is_asked_for


def test_sessions_without_errors_are_left_out_where_errors_are_asked_for():
    assert not query_of({"errors": "1"}).matches(replace(ONE, errors=0))


@pytest.mark.parametrize("text", ["RESP", "refund", "u-1", "bet", "worker", "o5"])
def test_a_text_is_looked_for_in_all_that_a_row_shows(text):
    assert query_of({"text": text}).is_said_in(ONE)


def test_a_text_that_no_column_has_is_not_said():
    assert not query_of({"text": "elsewhere"}).is_said_in(ONE)


@pytest.mark.parametrize("sort", ["last", "turns", "tokens", "cost", "duration"])
def test_the_greatest_comes_first_and_what_says_nothing_last(sort):
    nothing = Summary("nothing")
    more = replace(ONE, id="more", turns=9, input_tokens=999, cost=9.0, last=NOW)
    assert [one.id for one in query_of({"sort": sort}).ordered([nothing, ONE, more])] == ["more", "resp_1", "nothing"]


@pytest.mark.parametrize(
    ("said", "time"),
    [
        ("90s", NOW - 90 * SECOND),
        ("2w", NOW - 14 * 86_400 * SECOND),
        ("999999999w", 0),
        ("1970-01-01T00:00:01Z", SECOND),
        ("1970-01-01T01:00:01.5+01:00", SECOND + SECOND // 2),
        ("1970-01-02", 86_400 * SECOND),
        ("1970-01-01 00:01", 60 * SECOND),
        ("1970-01-01T00:00:00.123456789z", 123_456_789),
        ("1970-01-01T00:00:00.25-00:30", 1800 * SECOND + SECOND // 4),
        ("1969-01-01T00:00:00z", 0),
    ],
)
def test_a_time_is_an_age_or_rfc_3339(said, time):
    assert moment(said, now=NOW) == time


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(timezone.utc)))
def test_every_time_is_read_as_it_was_written(at):
    assert timedelta(microseconds=moment(at.isoformat()) // 1000) == at - datetime(1970, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("since", "yesterday"),
        ("since", "h"),
        ("since", "2026-01-31T25:00:00Z"),
        ("since", "2026-01-31T12:00:00.1234567891Z"),
        ("until", "-3h"),
        ("until", "1" * 40 + "d"),
        ("min_turns", "-1"),
        ("min_turns", "٣"),
        ("limit", "0"),
        ("limit", "10001"),
        ("sort", "name"),
        ("errors", "perhaps"),
        ("text", "x" * 1001),
    ],
)
def test_what_is_not_valid_is_named_with_what_is_allowed(name, value):
    with pytest.raises(ValueError, match=rf"{name} .*is not valid: expected"):
        query_of({name: value})


@given(st.dictionaries(st.sampled_from(list(Query.__slots__)), st.text()))
def test_whatever_is_said_is_read_or_refused_with_its_name(said):
    try:
        query_of(said)
    except ValueError as error:
        assert any(str(error).startswith(name) for name in said)
