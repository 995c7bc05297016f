"""The viewer's JSON API, over any source."""

from __future__ import annotations

import json
from argparse import Namespace
from contextlib import closing
from dataclasses import replace

import pytest
from viewer_kit import (
    BEGIN,
    SECOND,
    Kept,
    app_of,
    client_of,
    message,
    root,
    serving,
    span_id_of,
    talk,
    trace_id_of,
    turn,
)

from otel_llm_sessions import semconv
from otel_llm_sessions.cli import main
from otel_llm_sessions.view.commands import export
from otel_llm_sessions.view.commands.desk import Desk
from otel_llm_sessions.view.database import Database
from otel_llm_sessions.view.otlp_json import read_logs_json, read_spans_json
from otel_llm_sessions.view.sources.viewer import Viewer
from otel_llm_sessions.view.spans import ReceivedLink, ReceivedLog

ROW = {
    "id", "name", "user", "tags", "services", "turns", "models", "input_tokens", "output_tokens", "cost", "currency",
    "errors", "first", "last",
}  # fmt: skip
TURN = {
    "turn", "part", "trace_id", "span_id", "response_id", "model", "source", "start", "end", "input_tokens",
    "output_tokens", "cost", "error", "input", "output", "attributes",
}  # fmt: skip


def test_sessions_are_listed_with_the_fields_that_are_documented():
    said = {semconv.LLM_SESSION_NAME: "refund", semconv.USER_ID: "u-1", semconv.LLM_SESSION_TAGS: ("beta",)}
    answer = client_of(Kept(talk("s1", 2, **said))).get("/api/sessions")
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert told.keys() == {"sessions", "next_cursor"}
    assert told["next_cursor"] is None
    (row,) = told["sessions"]
    assert row.keys() == ROW
    assert (row["name"], row["user"], row["tags"], row["turns"]) == ("refund", "u-1", ["beta"], 2)
    assert (row["input_tokens"], row["output_tokens"], row["cost"]) == (300, 20, None)
    assert row["first"].endswith("Z")


def test_pages_are_followed_by_cursor():
    spans = [span for number in range(1, 6) for span in talk(f"s{number}", 1, trace=number)]
    client, found, cursor = client_of(Kept(spans)), [], ""
    while cursor is not None:
        told = client.get("/api/sessions", params={"limit": 2, "cursor": cursor}).json()
        found += [row["id"] for row in told["sessions"]]
        cursor = told["next_cursor"]
    assert sorted(found) == ["s1", "s2", "s3", "s4", "s5"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"user": "anna"}, {"a"}),
        ({"errors": "true"}, {"b"}),
        ({"min_turns": "2"}, {"a"}),
        ({"name": "REF"}, {"a"}),
        ({"text": "nan"}, {"b"}),
        ({"since": "2099-01-01T00:00:00Z"}, set()),
        ({"sort": "turns", "limit": "1"}, {"a"}),
    ],
)
def test_filters_are_those_of_the_command_line(asked, found):
    spans = talk("a", 2, trace=1, **{semconv.USER_ID: "anna", semconv.LLM_SESSION_NAME: "refund"})
    spans += [root("b", trace=2), turn("b", 1, trace=2, asked=[message("user", "Banana bread?")], error="timeout")]
    told = client_of(Kept(spans)).get("/api/sessions", params=asked).json()
    assert {row["id"] for row in told["sessions"]} == found


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=many", "limit"),
        ("limit=0", "limit"),
        ("since=yesterday", "since"),
        ("sort=size", "sort"),
        ("errors=maybe", "errors"),
        ("min_turns=-1", "min_turns"),
        ("cursor=elsewhere", "cursor"),
        ("modle=gpt", "modle"),
        ("sort=last&sort=cost", "sort"),
        (f"text={'x' * 1001}", "text"),
    ],
)
def test_a_wrong_parameter_is_named_in_one_line(query, named):
    answer = client_of(Kept()).get(f"/api/sessions?{query}")
    assert answer.status_code == 400
    assert answer.json().keys() == {"error"}
    assert named in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_a_session_has_its_row_and_its_turns():
    answer = client_of(Kept(talk("s1", 2))).get("/api/sessions/s1").json()
    assert answer.keys() == ROW | {"turn_count"}
    assert answer["turn_count"] == len(answer["turns"]) == 2
    first = answer["turns"][0]
    assert first.keys() == TURN
    assert first["turn"] == 1
    assert first["input"][0]["role"] == "user"
    assert first["attributes"][semconv.RESPONSE_ID] == first["response_id"] == "resp_1_1"
    assert first["error"] is None


@pytest.mark.parametrize(
    ("session_id", "address"),
    [
        ("a/b", "a%2Fb"),
        ("a/b", "a%2fb"),
        ("ünïcode ✓", "%C3%BCn%C3%AFcode%20%E2%9C%93"),
        ("a\nb\r\n", "a%0Ab%0D%0A"),
        ("a?b#c&d=e%2F", "a%3Fb%23c%26d%3De%252F"),
        ("a+b", "a+b"),
        ("..", "~.."),
        (".", "~."),
        ("~.", "~~."),
        ("~a", "~a"),
        ("...", "..."),
        ("half \ud800 a pair", "half%20%ED%A0%80%20a%20pair"),
    ],
)
def test_any_id_is_found_by_its_percent_encoded_form(session_id, address):
    for query in ("", "?format=otlp"):
        answer = client_of(Kept(talk(session_id, 1))).get(f"/api/sessions/{address}{query}")
        assert answer.status_code == 200
        json.loads(answer.content)


@pytest.mark.parametrize("address", ["other", "a/b", "%FF%FE", "s1/", "s1%00", ""])
def test_an_unknown_session_is_404(address):
    answer = client_of(Kept([*talk("s1", 1), *talk("a/b", 1, trace=2)])).get(f"/api/sessions/{address}")
    assert answer.status_code == 404
    assert "error" in answer.json()


def test_no_other_session_is_answered_that_comes_along(capsys):
    stamped = replace(turn("bar", 2, at=5), name="GET /", attributes={semconv.SESSION_ID: "foo"})
    with closing(Database()) as database:
        database.add([*talk("bar", 1), stamped])
        database.settle()
        for query in ("", "?format=otlp", "?format=otlp-logs"):
            assert client_of(database).get(f"/api/sessions/foo{query}").status_code == 404
        assert client_of(database).get("/sessions/foo").status_code == 404
        for form in ("jsonl", "otlp"):
            assert export.run(Namespace(ids=["foo"], format=form), Desk(database)) == 1
    assert capsys.readouterr().out == ""


def test_an_id_under_which_turns_were_filed_leads_to_their_session_and_not_to_its_parent():
    link = ReceivedLink(trace_id_of(1), span_id_of(0, 1), {semconv.LLM_SESSION_LINK: "parent_session"})
    below, *turns = talk("below", 1, trace=2, begin=BEGIN + SECOND)
    filed = turn("resp_2_1", 1, trace=3, at=30, **{semconv.REQUEST_PREVIOUS_RESPONSE_ID: "resp_2_1"})
    with closing(Database()) as database:
        database.add([*talk("above", 1), replace(below, links=(link,)), *turns, filed])
        database.settle()
        assert client_of(database).get("/api/sessions/resp_2_1").json()["id"] == "below"


def test_a_session_is_told_as_otlp():
    kept = Kept(talk("s1", 2))
    kept.logs.append(ReceivedLog("gen_ai.evaluation.result", 3, None, {"a": "b"}, kept.spans[0].trace_id, "cd" * 8))
    events = client_of(kept).get("/api/sessions/s1?format=otlp-logs")
    assert read_logs_json(events.content) == kept.logs
    answer = client_of(kept).get("/api/sessions/s1?format=otlp")
    assert answer.headers["content-type"] == "application/json"
    assert {span.span_id for span in read_spans_json(answer.content)} == {span.span_id for span in kept.spans}
    assert client_of(kept).get("/api/sessions/s1?format=xml").status_code == 400


def test_health_says_that_it_is_the_viewer():
    answer = client_of(Kept()).get("/api/health").json()
    assert (answer["status"], answer["viewer"]) == ("ok", "otel-llm-sessions")


def test_what_a_source_leaves_out_is_said():
    told = client_of(Kept(talk("s1", 1), notices=("3 sessions left",))).get("/api/sessions").json()
    assert told["notices"] == ["3 sessions left"]


def test_what_is_left_out_of_a_session_is_said_to_programs_and_to_viewers_of_the_viewer(capsys):
    kept = Kept(talk("s1", 1))
    assert "notices" not in client_of(kept).get("/api/sessions/s1").json()
    known = kept.session
    kept.session = lambda session_id: replace(known(session_id), notices=("only 50,000 spans were read",))
    for query in ("", "?format=otlp"):
        told = client_of(kept).get(f"/api/sessions/s1{query}")
        assert told.json()["notices"] == ["only 50,000 spans were read"]
    assert len(read_spans_json(told.content)) == 2
    with serving(app_of(kept)) as url:
        assert Viewer(url).session("s1").notices == ("only 50,000 spans were read",)
        for command in (["show", "s1"], ["export", "s1"], ["export", "s1", "--format", "otlp"]):
            assert main([*command, "--from", url]) == 0
            assert capsys.readouterr().err.startswith("only 50,000 spans were read\n")


def test_a_source_that_does_not_answer_is_502_with_what_was_tried():
    kept = Kept()
    kept.away = "Jaeger at http://localhost:16686 does not answer"
    for path in ("/api/sessions", "/api/sessions/x"):
        answer = client_of(kept).get(path)
        assert (answer.status_code, answer.json()) == (502, {"error": kept.away})
    for path in ("/", "/sessions/x"):
        answer = client_of(kept).get(path)
        assert answer.status_code == 502
        assert kept.away in answer.text


def test_a_failure_of_our_own_tells_nothing_of_itself_and_keeps_the_headers():
    class Broken(Kept):
        def sessions(self, query, progress=None):
            raise RuntimeError("a secret of the machine")

    answer = client_of(Broken()).get("/api/sessions")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"\xff\x00", {"a": (1, None)}, "\ud800", 2**80])
def test_any_value_of_any_attribute_is_answered_as_json(value):
    kept = Kept([root("s1"), turn("s1", 1, odd=value, **{semconv.USAGE_INPUT_TOKENS: value})])
    answer = client_of(kept).get("/api/sessions/s1")
    assert answer.status_code == 200

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(answer.content, parse_constant=refuse)


def test_other_methods_are_not_allowed_and_other_paths_are_not_there():
    client = client_of(Kept())
    assert client.post("/api/sessions").status_code == 405
    assert client.get("/api/elsewhere").status_code == 404
    assert client.get("/api/elsewhere").json().keys() == {"error"}
    assert client.head("/api/health").status_code == 200


def test_times_are_rfc_3339_in_utc():
    told = client_of(Kept([root("s1"), turn("s1", 1, begin=BEGIN, took=1.5)])).get("/api/sessions/s1").json()
    assert told["turns"][0]["start"] == "2026-09-21T14:13:20.000000000Z"
    assert BEGIN % SECOND == 0
