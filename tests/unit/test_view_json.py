"""Sessions as JSON: the fields that the API promises, and values that any reader of JSON can read."""

from __future__ import annotations

import json

import pytest
from exports_kit import load
from view_kit import SECOND, call, root

from otel_llm_sessions.view.json_form import session_json, summary_json, time_json
from otel_llm_sessions.view.sessions import sessions_of
from otel_llm_sessions.view.summaries import Summary

ROW = [
    "id", "name", "user", "tags", "services", "turns", "models", "input_tokens", "output_tokens", "cost", "currency",
    "errors", "first", "last",
]  # fmt: skip
TURN = [
    "turn", "part", "trace_id", "span_id", "response_id", "model", "source", "start", "end", "input_tokens",
    "output_tokens", "cost", "error", "input", "output", "attributes",
]  # fmt: skip


def test_a_row_has_the_promised_fields():
    (session,) = sessions_of([root(at=1), call(1, at=2, parent=root())])
    row = summary_json(session.summary())
    assert list(row) == ROW
    assert (row["id"], row["turns"], row["tags"], row["cost"]) == ("s-1", 1, [], None)
    assert row["first"] == "1970-01-01T00:00:03.000000000Z"


def test_a_session_has_them_and_its_turns():
    export = load("content")
    (session,) = sessions_of(export.spans, export.logs)
    told = json.loads(json.dumps(session_json(session)))
    assert list(told) == [*ROW, "turn_count"]
    assert (told["turn_count"], [list(turn) for turn in told["turns"]]) == (2, [TURN] * 2)
    first = told["turns"][0]
    assert (first["turn"], first["part"], first["source"], first["error"]) == (1, 1, "context", None)
    assert first["input"][1] == {"role": "user", "parts": [{"type": "text", "content": "What is 2 + 2?"}]}
    assert first["output"][0]["finish_reason"] == "stop"
    assert first["attributes"]["session.id"] == "content-1"


def test_what_is_unknown_is_null():
    (session,) = sessions_of([call(session="s")])
    (turn,) = session_json(session)["turns"]
    unknown = {name for name, value in turn.items() if value is None}
    assert unknown == {
        "turn", "part", "response_id", "source", "input_tokens", "output_tokens", "cost", "error", "input", "output",
    }  # fmt: skip
    row = summary_json(Summary("s"))
    assert (row["name"], row["first"], row["last"]) == (None, None, None)


def test_turns_have_addresses_where_there_is_a_page():
    (session,) = sessions_of([call(1)])
    (turn,) = session_json(session, lambda trace_id, span_id: f"http://x/{trace_id}/{span_id}")["turns"]
    assert turn["trace_url"] == f"http://x/{turn['trace_id']}/{turn['span_id']}"


@pytest.mark.parametrize(
    ("at", "told"),
    [
        (0, None), (-5, None), (1, "1970-01-01T00:00:00.000000001Z"),
        (1_700_000_000 * SECOND + 5, "2023-11-14T22:13:20.000000005Z"), (2**64 - 1, "2554-07-21T23:34:33.709551615Z"),
        (10**30, None),
    ],
)  # fmt: skip
def test_times_are_rfc_3339_in_utc(at, told):
    assert time_json(at) == told


def test_attributes_of_any_value_are_json():
    deep: object = "x"
    for _ in range(5000):
        deep = {"a": deep}
    odd = {"nan": float("nan"), "bytes": b"\xff", "tuple": (1, None), "deep": deep, "set": {1}, "big": 2**80}
    (session,) = sessions_of([call(1, attributes=odd)])
    told = json.loads(json.dumps(session_json(session), allow_nan=False))["turns"][0]["attributes"]
    assert (told["nan"], told["bytes"], told["tuple"], told["set"]) == ("nan", "ff", [1, None], "{1}")
