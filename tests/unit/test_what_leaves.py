"""What leaves the viewer's database leaves whole, and in the order that docs/viewing.md says."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sqlite3
from pathlib import Path

import pytest
from database_kit import BEGINNING, SECOND, hexed, left, marked_turn, said, session, size_of, turn

from otel_llm_sessions.view import database as database_module
from otel_llm_sessions.view import keeping
from otel_llm_sessions.view.database import Database
from otel_llm_sessions.view.otlp_writing import spans_request
from otel_llm_sessions.view.query import Query
from otel_llm_sessions.view.spans import ReceivedLog, ReceivedSpan

pytestmark = pytest.mark.usefixtures("closed_databases")

EVENT = "gen_ai.client.inference.operation.details"


def ids(database: Database, **asked) -> list[str]:
    return sorted(one.id for one in database.sessions(Query(limit=200, **asked)).sessions)


def rows(path: Path, sql: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def plain(number: int, size: int = 5_000) -> ReceivedSpan:
    """A span of a request in which no model is called."""
    return ReceivedSpan("GET /", hexed(f"plain {number}", 32), "01" * 8, attributes={"a": "x" * size})


@pytest.fixture
def clock(monkeypatch):
    """The time, which stands still until it is set."""
    now = [float(BEGINNING)]
    monkeypatch.setattr("time.time", lambda: now[0])
    return now


def test_of_a_shared_trace_the_words_events_and_resources_of_who_leaves_go_too(tmp_path, clock):
    path = tmp_path / "kept.db"
    database = Database(path, keep=100.0)
    spans, events = [], []
    for name, at in (("old", 0), ("new", 500)):
        call = dataclasses.replace(
            turn(name, at=at, gen_ai__input__messages=said(f"asked by {name}")),
            trace_id="dd" * 16, resource={"host.name": f"host of {name}"},
        )  # fmt: skip
        told = {"gen_ai.output.messages": said(f"answered to {name}")}
        spans.append(call)
        events.append(ReceivedLog(EVENT, call.end, None, told, call.trace_id, call.span_id))
    database.add(spans, events)
    clock[0] += 550
    database.settle()
    assert ids(database) == ["new"]
    assert database.session("new").spans == (spans[1],)
    assert database.session("new").logs == (events[1],)
    assert ids(database, text="asked") == ids(database, text="answered") == ["new"]
    database.close()
    assert rows(path, "SELECT said FROM words ORDER BY said") == [("answered to new",), ("asked by new",)]
    assert rows(path, "SELECT count(*) FROM span") == rows(path, "SELECT count(*) FROM log") == [(1,)]
    assert [b"host of old" in resource for (resource,) in rows(path, "SELECT resource FROM origin")].count(True) == 0


@pytest.mark.parametrize("kind", ["spans", "events"])
def test_what_no_session_claims_pushes_no_session_out(tmp_path, clock, monkeypatch, kind):
    monkeypatch.setattr(database_module, "LONGEST", 60.0)  # however busy the machine is
    database = Database(tmp_path / "kept.db", max_size=1_000_000)
    for name in ("a", "b", "c"):
        database.add(session(name))
    database.settle()
    for batch in range(5):
        spans = [plain(batch * 500 + number) for number in range(500)]
        events = [ReceivedLog(EVENT, 1, None, dict(span.attributes), span.trace_id, span.span_id) for span in spans]
        database.add(*((spans,) if kind == "spans" else ((), events)))
        database.tend(lambda: True)  # as while more waits to be written
        assert size_of(tmp_path / "kept.db") <= 1_000_000
    assert ids(database) == ["a", "b", "c"]
    assert left(database) == {"age": 0, "size": 0}


def test_spans_that_a_session_may_claim_soon_wait_where_they_take_little(clock):
    database = Database(max_size=1_000_000)
    call = turn("late")
    before = dataclasses.replace(plain(0), trace_id=call.trace_id)
    database.add([before])
    for number in range(60):
        database.add([*session(f"s{number:02}", 3, number, gen_ai__input__messages=said("word " * 3000))])
        while database.tend():
            pass
    assert left(database)["size"] > 0
    database.add([call])
    assert before in database.session("late").spans


def test_what_only_a_marker_of_nobody_claimed_leaves_too(tmp_path, clock):
    database = Database(tmp_path / "kept.db", keep=100.0)
    spans = [
        dataclasses.replace(
            span, attributes={name: value for name, value in span.attributes.items() if name != "session.id"}
        )
        for span in marked_turn("a", 1, "request")
    ]
    database.add(spans)
    clock[0] += 1000
    database.settle()
    database.close()
    for table in ("span", "stray", "marked", "origin"):
        assert rows(tmp_path / "kept.db", f"SELECT count(*) FROM {table}") == [(0,)], table


def test_a_resource_that_no_span_has_any_more_is_gone_when_the_file_is_opened_again(tmp_path):
    path, call = tmp_path / "kept.db", turn("a")
    database = Database(path)
    database.add([dataclasses.replace(call, resource={"host.name": "before"})])
    more = {**call.attributes, "user.id": "u-1"}
    database.add([dataclasses.replace(call, attributes=more, resource={"host.name": "after"})])
    database.close()
    Database(path).close()
    ((resource,),) = rows(path, "SELECT resource FROM origin")
    assert b"after" in resource


def test_a_resource_that_comes_without_spans_is_not_kept(tmp_path):
    request = spans_request([plain(0)])
    del request.resource_spans[0].scope_spans[0].spans[:]
    database = Database(tmp_path / "kept.db")
    database.keep([request])
    database.close()
    assert rows(tmp_path / "kept.db", "SELECT count(*) FROM origin") == [(0,)]


def test_sessions_of_a_clock_that_is_far_ahead_leave_when_there_is_no_room(tmp_path):
    database = Database(tmp_path / "kept.db", max_size=1_000_000)
    for number, end in enumerate((1 << 62, (1 << 63) - 1, (1 << 64) - 1) * 10):
        call = turn(f"s{number}", gen_ai__input__messages=said("word " * 20_000))
        database.add([dataclasses.replace(call, start=end - SECOND, end=end)])
        database.settle()
    assert size_of(tmp_path / "kept.db") <= 1_000_000
    assert 0 < len(ids(database)) < 30


def test_what_is_kept_for_longer_than_there_is_time_is_kept():
    database = Database(keep=999_999_999 * 7 * 86_400.0)
    database.add(session("a"))
    database.settle()
    assert ids(database) == ["a"]


@pytest.mark.parametrize("path", sorted(Path(keeping.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_statements_are_those_that_sqlite_331_takes(path):
    """Python 3.10 comes with such a SQLite on older systems, and no test of ours runs there."""
    text = path.read_text()
    for newer in (r"\bMATERIALIZED\b", r"\bRETURNING\b", r"\bIIF\(", r"->>", r"\bSTRICT\b", r"\bDROP COLUMN\b"):
        assert not re.search(newer, text), newer
    for statement in re.findall(r'"""(.*?)"""', text, re.DOTALL):
        assert "HAVING" not in statement or "GROUP BY" in statement, statement
