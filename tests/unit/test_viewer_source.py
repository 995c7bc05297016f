"""Our own viewer as a source, and how any program is asked over HTTP: against a real server on loopback."""

from __future__ import annotations

import json
import socket

import pytest
from web_kit import web

from otel_llm_sessions.view.otlp_json import logs_json, spans_json
from otel_llm_sessions.view.query import Query, query_of
from otel_llm_sessions.view.source import Unreachable
from otel_llm_sessions.view.sources.site import LONGEST_ANSWER, Site
from otel_llm_sessions.view.sources.viewer import PER_PAGE, Viewer
from otel_llm_sessions.view.spans import ReceivedLog, ReceivedSpan

ROW = {
    "id": "s/1 é",
    "name": "refund",
    "user": None,
    "tags": ["beta"],
    "services": ["shop"],
    "turns": 3,
    "models": ["gpt-4o-mini"],
    "input_tokens": 12,
    "output_tokens": None,
    "cost": 0.25,
    "currency": "USD",
    "errors": 1,
    "first": "2026-01-31T12:00:00.000001Z",
    "last": "2026-01-31T12:00:02Z",
}
NOON = 1_769_860_800_000_000_000


def answering(*answers):
    left = iter(answers)
    return lambda asked: (200, json.dumps(next(left)).encode())


def test_a_row_of_the_api_is_a_session_and_its_times_are_whole():
    with web(answering({"sessions": [ROW], "next_cursor": None})) as there:
        page = Viewer(there.url).sessions(Query())
    (session,) = page.sessions
    assert (session.id, session.name, session.user, session.tags) == ("s/1 é", "refund", None, ("beta",))
    assert (session.turns, session.input_tokens, session.output_tokens, session.cost) == (3, 12, None, 0.25)
    assert (session.first, session.last) == (NOON + 1_000, NOON + 2_000_000_000)
    assert page.next_cursor is None


def test_it_asks_as_the_query_says_and_sends_the_headers():
    query = query_of({"since": "2026-01-31T12:00:00Z", "user": "ü&=", "errors": "1", "min_turns": "2", "limit": "7"})
    with web(answering({"sessions": []})) as there:
        Viewer(there.url + "/base/", {"Authorization": "Bearer t"}).sessions(query)
    (asked,) = there.asked
    assert asked.path == "/base/api/sessions"
    assert query_of(asked.said) == query
    assert asked.headers["Authorization"] == "Bearer t"


def test_what_is_more_than_a_page_is_asked_for_page_by_page_and_told():
    def answer(asked):
        begin = int(asked.said.get("cursor", "0"))
        number = min(int(asked.said["limit"]), PER_PAGE, 1_200 - begin)
        rows = [{**ROW, "id": f"s-{begin + at}"} for at in range(number)]
        end = begin + number
        return 200, json.dumps({"sessions": rows, "next_cursor": str(end) if end < 1_200 else None}).encode()

    told = []
    with web(answer) as there:
        whole = Viewer(there.url).sessions(Query(limit=10_000), told.append)
        some = Viewer(there.url).sessions(Query(limit=PER_PAGE + 1))
    assert [one.id for one in whole.sessions] == [f"s-{at}" for at in range(1_200)]
    assert whole.next_cursor is None
    assert told == ["500 sessions", "1,000 sessions"]
    assert (len(some.sessions), some.next_cursor) == (PER_PAGE + 1, str(PER_PAGE + 1))


def test_a_viewer_that_gives_the_same_cursor_for_ever_is_not_asked_for_ever():
    with web(lambda asked: (200, json.dumps({"sessions": [ROW], "next_cursor": "x"}).encode())) as there:
        page = Viewer(there.url).sessions(Query(limit=100))
    assert len(there.asked) == len(page.sessions) == 2


def test_a_session_is_its_spans_whatever_its_id_is():
    span = ReceivedSpan("chat", "ab" * 16, "cd" * 8, start=1, end=2, attributes={"session.id": "a/b?é"})
    event = ReceivedLog("gen_ai.evaluation.result", 3, None, {"a": "b"}, "ab" * 16, "cd" * 8)
    said = {"otlp": spans_json([span]), "otlp-logs": logs_json([event])}
    with web(lambda asked: (200, said[asked.said["format"]].encode())) as there:
        arrived = Viewer(there.url).session("a/b?é")
    assert (arrived.spans, arrived.logs) == ((span,), (event,))
    assert {asked.path for asked in there.asked} == {"/api/sessions/a%2Fb%3F%C3%A9"}


def test_it_knows_a_sessions_page_and_leads_to_traces_where_the_viewer_does():
    template = "http://jaeger/trace/{trace_id}?uiFind={span_id}"
    with web(answering({"status": "ok", "trace_url": template}, {"status": "ok", "trace_url": None})) as there:
        leads, leads_not = Viewer(there.url), Viewer(there.url)
        assert leads.page_url("a/b é") == f"{there.url}/sessions/a%2Fb%20%C3%A9"
        assert leads.trace_url("ab", "cd") == "http://jaeger/trace/ab?uiFind=cd"
        assert leads.trace_url("ef") == "http://jaeger/trace/ef?uiFind="
        assert leads_not.trace_url("ab") is None
    assert len(there.asked) == 2


def test_an_unknown_session_is_none():
    with web(lambda asked: (404, b'{"error": "unknown"}')) as there:
        assert Viewer(there.url).session("x") is None


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, b"out of\nmemory", "500 Internal Server Error: out of memory"),
        (401, b"<html>login</html>", "401 Unauthorized"),
        (302, b"", "302 Found"),
        (200, b"<html>", "no JSON"),
        (200, b"[" * 100_000, "no JSON"),
        (200, b"[]", "does not answer as a viewer does"),
        (0, b"", "closed"),
    ],
    ids=("error", "page", "elsewhere", "html", "deep", "list", "nothing"),
)
def test_what_is_no_answer_of_a_viewer_is_said_in_one_line(status, body, said):
    with (
        web(lambda asked: (status, body, {"Location": "http://127.0.0.1:1/"})) as there,
        pytest.raises(Unreachable) as raised,
    ):
        Viewer(there.url).sessions(Query())
    assert said in str(raised.value)
    assert there.url in str(raised.value)
    assert "\n" not in str(raised.value)


def test_odd_rows_are_as_much_as_can_be_read_of_them():
    odd = {"id": "x", "turns": "3", "cost": "much", "models": [1, "m"], "first": "never", "tags": {}, "errors": True}
    rows = [None, 3, {}, {"id": 5}, odd]
    with web(answering({"sessions": rows, "notices": ["40 left", 3]}, {"sessions": "none"})) as there:
        page = Viewer(there.url).sessions(Query())
        assert Viewer(there.url).sessions(Query()).sessions == ()
    (session,) = page.sessions
    assert (session.turns, session.cost, session.models, session.first, session.errors) == (0, None, ("m",), 0, 0)
    assert page.notices == ("40 left",)


def test_headers_are_for_one_place_alone():
    """A redirection elsewhere must not take a token along."""
    with web(answering({"sessions": []})) as other:
        there = web(lambda asked: (307, b"", {"Location": other.url + "/api/sessions"}))
        with there as first, pytest.raises(Unreachable, match="307"):
            Viewer(first.url, {"Authorization": "Bearer t"}).sessions(Query())
    assert other.asked == []


def test_a_place_that_does_not_answer_is_said_with_the_reason():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(Unreachable, match=f"GET {url}/api/sessions: Connection refused"):
            Viewer(url).sessions(Query())


def test_a_place_that_is_silent_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        site = Site(f"http://127.0.0.1:{silent.getsockname()[1]}", patience=0.05)
        with pytest.raises(Unreachable, match="no answer in time"):
            site.get("/")


@pytest.mark.parametrize(
    "url", ["localhost:4318", "ftp://x", "http://", "http://u:secret@h", "http://h:99999", "http://[::1", ""]
)
def test_what_is_no_address_is_refused_without_showing_it(url):
    with pytest.raises(ValueError) as raised:
        Site(url)
    assert "secret" not in str(raised.value)


def test_loopback_is_never_asked_through_a_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with web(lambda asked: (200, b"x")) as there:
        assert Site(there.url).get("/") == b"x"


def test_an_answer_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr("otel_llm_sessions.view.sources.site.LONGEST_ANSWER", 1 << 20)
    assert LONGEST_ANSWER > 1 << 28
    with web(lambda asked: (200, b"x" * (2 << 20))) as there, pytest.raises(Unreachable, match="more than 1 MiB"):
        Site(there.url).get("/")
