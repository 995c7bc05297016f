"""The viewer's database: what arrives, in whatever order and however often, is one row and one session."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
import os
import random
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from database_kit import BEGINNING, SECOND, hexed, left, marked_turn, root, said, session, size_of, trace_of, turn

from otel_llm_sessions.view.database import Database, Unusable
from otel_llm_sessions.view.keeping import arriving, summing
from otel_llm_sessions.view.query import Query
from otel_llm_sessions.view.sessions import sessions_of
from otel_llm_sessions.view.spans import ReceivedLink, ReceivedLog, ReceivedSpan

pytestmark = pytest.mark.usefixtures("closed_databases")


@pytest.fixture(params=["memory", "file"])
def database(request, tmp_path):
    database = Database(tmp_path / "kept.db" if request.param == "file" else None)
    yield database
    database.close()


def ids(database: Database, **asked) -> list[str]:
    return [one.id for one in database.sessions(Query(**asked)).sessions]


def test_a_session_is_one_row_and_everything_of_it(database):
    database.add(session("a", 3, llm_session__name="Refund", user__id="u-1"))
    database.settle()
    (row,) = database.sessions(Query()).sessions
    (one,) = sessions_of(database.session("a").spans)
    assert row == one.summary()
    assert (row.turns, row.input_tokens, row.output_tokens, row.services) == (3, 60, 6, ("shop",))
    assert (row.name, row.user, row.models) == ("Refund", "u-1", ("gpt-5",))
    assert (row.first, row.last) == (BEGINNING * SECOND, (BEGINNING + 121) * SECOND)
    assert sorted(map(repr, database.session("a").spans)) == sorted(
        map(repr, session("a", 3, llm_session__name="Refund", user__id="u-1"))
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_arrival_and_how_often_change_nothing(database, seed):
    spans = [
        *session("a"),
        *session("b", 2),
        *marked_turn("a", 4, "request", 300),
        *marked_turn("b", 3, "request", 300),
    ]
    spans += [turn("resp_a_3", 5, 400, gen_ai__request__previous_response__id="resp_a_3")]
    shuffled = spans + spans[::2]
    random.Random(seed).shuffle(shuffled)
    for span in shuffled:
        database.add([span])
        if seed % 2:
            database.settle()
    database.settle()
    rows = {row.id: row for row in database.sessions(Query()).sessions}
    assert rows == {one.id: one.summary() for one in sessions_of(spans)}
    assert {name: row.turns for name, row in rows.items()} == {"a": 5, "b": 3}
    assert {hexed("request", 32), trace_of("a"), trace_of("resp_a_3")} == {
        span.trace_id for span in database.session("a").spans
    }
    assert database.session("resp_a_3") is not None, "the id under which a turn was filed leads there too"


def test_a_span_comes_back_with_all_that_came_of_it(database):
    link = ReceivedLink(trace_of("b"), root("b").span_id, {"llm_session.link": "previous_turn"}, "ot=th:c")
    more = {"scope": "otel_llm_sessions", "trace_state": "ot=th:8", "dropped": (1, 2, 3), "links": (link,)}
    spans = [
        dataclasses.replace(turn("a", number), scope_version=version, **more)
        for number, version in ((1, "0.1"), (2, ""))
    ]
    event = ReceivedLog(
        "gen_ai.evaluation.result", 5, None, {"a": 1}, trace_of("a"), spans[0].span_id, scope="s", scope_version="2"
    )
    database.add(spans, [event])
    arrived = database.session("a")
    assert (sorted(arrived.spans, key=lambda span: span.start), arrived.logs) == (spans, (event,))


def test_of_a_span_that_comes_twice_the_one_stays_that_says_more(database):
    early, late = turn("a"), turn("a", user__id="u-2")
    for spans in ([early], [late], [early]):
        database.add(spans)
    database.settle()
    assert database.sessions(Query()).sessions[0].user == "u-2"
    assert database.session("a").spans == (late,)


def test_a_trace_of_many_sessions_is_read_without_the_turns_of_the_others(database):
    spans = []
    for number in range(50):
        one = turn(f"s{number}")
        spans.append(ReceivedSpan(one.name, "cc" * 16, hexed(f"{number}", 16), attributes=one.attributes))
    database.add(spans)
    assert len(database.session("s7").spans) == 1


def test_parents_and_children_come_with_a_session(database):
    parent, link = (
        root("parent"),
        ReceivedLink(trace_of("parent"), root("parent").span_id, {"llm_session.link": "parent_session"}),
    )
    database.add([parent, turn("parent"), root("child", 5, (link,)), turn("child")])
    assert parent in database.session("child").spans
    assert root("child", 5, (link,)) in database.session("parent").spans


def test_events_belong_to_their_calls(database):
    call = turn("a")
    event = ReceivedLog(
        "gen_ai.client.inference.operation.details", 1, None, {"gen_ai.input.messages": said("Where is it?")},
        call.trace_id, call.span_id,
    )  # fmt: skip
    line = ReceivedLog("", 1, "a line of a log", {}, call.trace_id, call.span_id)
    database.add([call], [event, event, line])
    database.settle()
    assert database.session("a").logs == (event,)
    assert ids(database, text="where") == ["a"]


def test_words_names_and_ids_are_found(database):
    database.add([root("s-1"), turn("s-1", gen_ai__input__messages=said("Ou est le café, bitte?"))])
    database.add([root("s-2"), turn("s-2", user__id="Zoë", llm_session__name="Half %_ done")])
    database.settle()
    for text, found in {
        "cafe": ["s-1"],
        "BITTE": ["s-1"],
        "est bit": ["s-1"],
        "-2": ["s-2"],
        "ZOË": ["s-2"],
        "%_": ["s-2"],
        "gpt": ["s-1", "s-2"],
        "text": [],
        '" OR "': [],
        "*": [],
        "nothing of it": [],
        "AND NOT (": [],
        "\x00": [],
        "\ud800": [],
    }.items():
        assert ids(database, text=text) == found, text


def test_any_text_can_be_looked_for(database):
    database.add([turn("a", gen_ai__output__messages=said("It calls get_weather (resp_1)."))])
    database.settle()
    for text in ("get_weather", "resp_1", "_weather", "ne\u0301_", "\u19b0 weather \u19da"):
        assert ids(database, text=text) == (["a"] if text.isascii() else []), text
    generator = random.Random(11)
    for _ in range(300):
        letters = generator.choices(("_", "a", " ", "\u0301", '"', "*"), k=20)
        letters += map(chr, generator.choices(range(1, 0xD800), k=100))
        generator.shuffle(letters)
        ids(database, text="".join(letters))
    for text in ("a " * 500, "_a" * 500):
        ids(database, text=text)


def test_half_a_character_costs_no_span(database):
    messages = '[{"role": "user", "parts": [{"type": "text", "content": "Is the \\ud83d whole?"}]}]'
    database.add([turn("a", gen_ai__input__messages=messages), turn("b", gen_ai__input__messages=said("whole"))])
    database.settle()
    assert ids(database, text="whole") == ["a", "b"]


def test_a_session_that_cannot_be_counted_hurts_no_other(database, monkeypatch, caplog):
    counted = summing.sessions_of

    def picky(spans, logs):
        if any(span.attributes["session.id"] in ("a", "c") for span in spans):
            raise ZeroDivisionError
        return counted(spans, logs)

    monkeypatch.setattr(summing, "sessions_of", picky)
    database.add([*session("a"), *session("b"), *session("c")])
    database.settle()
    assert ids(database) == ["b"]
    assert [record.message for record in caplog.records] == [
        "a session cannot be counted, its row stays as it is: ZeroDivisionError"
    ]
    monkeypatch.setattr(summing, "sessions_of", counted)
    database.add([turn("a", 4)])
    database.settle()
    assert ids(database) == ["a", "b"], "it is counted again when more of it arrives"


def test_nothing_is_known_of_an_id_that_nobody_said(database):
    database.add(session("a"))
    for unknown in ("b", "", "\ud800", "a\x00"):
        assert database.session(unknown) is None


def test_ids_and_values_of_any_kind_are_kept(database):
    odd = ["a/b", "a\nb", "\x00", "'); DROP TABLE span; --", "\u202eright to left", "x" * 100_000, "né\u0301"]
    for each in odd:
        database.add(
            [root(each), turn(each, user__id=5, llm_session__name=[1, {"a": None}], llm_session__tags=b"\xff")]
        )
    database.add([turn("strange", gen_ai__usage__input_tokens="many", gen_ai__usage__output_tokens=1 << 62)])
    database.settle()
    assert set(ids(database)) == {*odd, "strange"}
    assert all(database.session(each).spans for each in odd)


def test_filters_and_orders_are_those_of_the_query(database):
    generator = random.Random(5)
    for number in range(60):
        service, model = generator.choice(("a", 'quote " and \\', "ünï")), generator.choice(("gpt-5", "gpt-4.1", 'm"'))
        spans = session(
            f"s{number}", generator.randint(1, 4), generator.randint(0, 90), gen_ai__response__model=model,
            user__id=generator.choice(("u-1", "u-2")), llm_session__name=generator.choice(("Straße", "STRASSE 5", "")),
            gen_ai__usage__cost__amount=generator.choice((0.5, 1.25)), gen_ai__usage__cost__currency="USD",
        )  # fmt: skip
        changes = {"resource": {"service.name": service}}
        if generator.random() < 0.3:
            changes["status"] = "ERROR"
        database.add(
            [ReceivedSpan(**{**{name: getattr(span, name) for name in span.__slots__}, **changes}) for span in spans]
        )
    database.settle()
    rows = database.sessions(Query(limit=100)).sessions
    assert len(rows) == 60
    at = (BEGINNING + 45) * SECOND
    filters = (
        {"since": at}, {"until": at}, {"service": 'quote " and \\'}, {"service": "ün"},
        {"user": "u-1"}, {"model": "gpt"},
        {"model": 'm"'}, {"name": "strasse"}, {"errors": True}, {"min_turns": 3}, {"text": "ü"}, {"since": 1 << 80},
    )  # fmt: skip
    for asked in filters:
        for sort in ("last", "turns", "tokens", "cost", "duration"):
            query = Query(**asked, sort=sort, limit=7)
            expected = [one.id for one in query.ordered(filter(query.matches, rows)) if query.is_said_in(one)]
            found, cursor = [], ""
            while cursor is not None:
                page = database.sessions(Query(**asked, sort=sort, limit=7, cursor=cursor))
                found, cursor = found + [one.id for one in page.sessions], page.next_cursor
            assert found == expected, query


LONG = [
    base64.urlsafe_b64encode(json.dumps(position).encode()).decode()
    for position in ([1 << 63, 1, "a"], [1, -(1 << 64), "a"], [float("inf"), 1, "a"])
]


@pytest.mark.parametrize("cursor", ["x", "W10", "WzEsMl0", "é", "\ud800", "bnVsbA", "WyJhIiwxLDJd", *LONG])
def test_a_cursor_that_is_none_is_said_to_be_none(database, cursor):
    database.add(session("a"))
    with pytest.raises(ValueError, match="cursor is not valid"):
        database.sessions(Query(cursor=cursor))


def test_what_a_failed_write_knew_is_forgotten_before_another_writes(database, monkeypatch):
    tried = []

    def write():
        tried.append(database._storage._lock.acquire(blocking=False))
        if tried[-1]:
            database._storage._lock.release()

    def forget():
        other = threading.Thread(target=write)
        other.start()
        other.join()

    def fails(self):
        raise sqlite3.OperationalError("disk is full")

    monkeypatch.setattr(database._origins, "forget", forget)
    monkeypatch.setattr("otel_llm_sessions.view.keeping.arriving.Arriving.done", fails)
    with pytest.raises(sqlite3.OperationalError):
        database.add([turn("a")])
    assert tried == [False]


def test_what_is_read_sees_all_of_a_write_or_nothing(tmp_path, monkeypatch):
    database = Database(tmp_path / "kept.db")
    written, seen = arriving.each, []

    def size() -> int:
        arrived = database.session("a")
        return len(arrived.spans) if arrived else 0

    def amid(*arguments):
        written(*arguments)
        seen.append(pool.submit(size).result())

    monkeypatch.setattr(arriving, "each", amid)
    with ThreadPoolExecutor(1) as pool:
        for number in range(1, 4):
            seen.clear()
            database.add([turn("a", number), turn("a", -number)])
            assert set(seen) == {2 * (number - 1)}
            assert size() == 2 * number
            database.tend()
    database.close()


def test_who_reads_does_not_wait_for_who_writes(tmp_path):
    database = Database(tmp_path / "kept.db")
    database.add(session("a"))
    database.settle()
    with ThreadPoolExecutor(1) as others, database._storage.writing():
        assert [one.id for one in others.submit(database.sessions, Query()).result(30).sessions] == ["a"]
        assert others.submit(database.session, "a").result(30)
    database.close()


async def test_who_waits_is_told_of_changes(database):
    waiting = asyncio.create_task(database.changes.wait(database.changes.revision, 30))
    await asyncio.sleep(0)
    await asyncio.to_thread(lambda: (database.add(session("a")), database.settle()))
    assert await waiting > 0
    assert await database.changes.wait(database.changes.revision, 0.01) == database.changes.revision
    assert await database.changes.wait(-1, 30) == database.changes.revision


class TestFile:
    def test_it_outlives_the_viewer_and_is_its_owners_alone(self, tmp_path):
        path = tmp_path / "kept.db"
        path.touch(0o644)
        database = Database(path)
        database.add(session("a"))
        for suffix in ("", "-wal", "-shm"):
            assert stat.S_IMODE(os.stat(f"{path}{suffix}").st_mode) == 0o600, suffix
        database.close()
        database.close()
        database = Database(path)
        database.settle()
        assert ids(database) == ["a"]
        assert len(database.session("a").spans) == 4
        database.close()

    def test_two_viewers_on_one_file_are_one_too_many(self, tmp_path):
        first = Database(tmp_path / "kept.db")
        with pytest.raises(Unusable, match=r"kept\.db is in use by another viewer"):
            Database(tmp_path / "kept.db")
        first.close()
        Database(tmp_path / "kept.db").close()

    def test_a_newer_schema_is_left_alone(self, tmp_path):
        Database(tmp_path / "kept.db").close()
        with sqlite3.connect(tmp_path / "kept.db") as newer:
            newer.execute("PRAGMA user_version = 9")
        newer.close()
        with pytest.raises(Unusable, match="newer version of otel-llm-sessions .its schema is 9"):
            Database(tmp_path / "kept.db")

    def test_what_is_no_viewers_database_is_left_alone(self, tmp_path):
        (tmp_path / "text").write_text("no database at all, but a text that somebody wrote " * 50)
        with sqlite3.connect(tmp_path / "other") as other:
            other.execute("CREATE TABLE mine (a)")
        other.close()
        for name in ("text", "other"):
            os.chmod(tmp_path / name, 0o664)
        for name, words in {
            "text": "cannot be used",
            "other": "something else than a viewer's",
            ".": "cannot",
            "a/b": "No such",
        }.items():
            with pytest.raises(Unusable, match=words) as raised:
                Database(tmp_path / name)
            assert "\n" not in str(raised.value)
        assert "somebody wrote" in (tmp_path / "text").read_text()
        assert {stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("text", "other")} == {0o664}

    def test_a_viewers_file_that_others_may_read_is_its_owners_alone_again(self, tmp_path):
        path = tmp_path / "kept.db"
        Database(path).close()
        os.chmod(path, 0o644)
        database = Database(path)
        database.add(session("a"))
        for suffix in ("", "-wal", "-shm"):
            assert stat.S_IMODE(os.stat(f"{path}{suffix}").st_mode) == 0o600, suffix
        database.close()

    def test_a_write_that_fails_leaves_nothing(self, tmp_path, monkeypatch):
        database = Database(tmp_path / "kept.db")
        whole = turn("a")
        monkeypatch.setattr("otel_llm_sessions.view.keeping.arriving.is_marker", lambda span: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            database.add([whole])
        monkeypatch.undo()
        database.settle()
        assert (ids(database), database.session("a")) == ([], None)
        database.add([whole])
        database.settle()
        assert ids(database) == ["a"]
        assert database.sessions(Query()).sessions[0].services == ("shop",)
        database.close()


class TestLeaving:
    def test_the_oldest_leave_first_and_whole(self, tmp_path):
        database = Database(tmp_path / "kept.db", max_size=2_000_000)
        for number in range(60):
            at = number * 1000
            words = said("word " * 2000)
            spans = [
                *session(f"s{number:02}", 3, at, gen_ai__input__messages=words),
                *marked_turn(f"s{number:02}", 4, f"r{number}", at),
            ]
            database.add([dataclasses.replace(span, resource={"process.pid": number}) for span in spans])
            while database.tend():
                assert size_of(tmp_path / "kept.db") <= 2_000_000
        kept = sorted(ids(database, limit=100))
        assert 0 < len(kept) < 60
        assert kept == [f"s{number:02}" for number in range(60 - len(kept), 60)]
        assert left(database) == {"age": 0, "size": 60 - len(kept)}
        assert all(len(database.session(each).spans) == 7 for each in kept)
        assert database.session("s00") is None
        assert ids(database, text="word", limit=100) == kept[::-1]
        counts = tables(tmp_path / "kept.db")
        assert counts["span"] == 7 * len(kept)
        assert counts["member"] == counts["marked"] == counts["session"] == len(kept)
        assert (counts["stray"], counts["origin"]) == (0, len(kept))
        assert all(span.resource for span in database.session(kept[0]).spans)

    def test_what_is_old_leaves(self, monkeypatch):
        database = Database(keep=100.0)
        database.add([*session("old", 1), *session("new", 1, 500)])
        monkeypatch.setattr("time.time", lambda: BEGINNING + 550.0)
        database.settle()
        assert ids(database) == ["new"]
        assert left(database) == {"age": 1, "size": 0}
        assert database.sessions(Query()).notices == ("1 session has left: older than is kept (--keep)",)

    def test_a_trace_of_two_sessions_loses_the_turns_of_the_one_that_leaves(self, monkeypatch):
        database = Database(keep=100.0)
        old, new = turn("old"), turn("new", at=500)
        shared = [
            ReceivedSpan(one.name, "dd" * 16, one.span_id, start=one.start, end=one.end, attributes=one.attributes)
            for one in (old, new)
        ]
        monkeypatch.setattr("time.time", lambda: BEGINNING + 550.0)
        database.add(shared)
        database.settle()
        assert ids(database) == ["new"]
        assert database.session("new").spans == (shared[1],)

    def test_what_no_session_claims_leaves_first_but_not_at_once(self, tmp_path, monkeypatch):
        database = Database(tmp_path / "kept.db", max_size=1_000_000)
        plain = [
            ReceivedSpan("GET /", hexed(f"{number}", 32), "01" * 8, attributes={"a": "x" * 5000})
            for number in range(250)
        ]
        database.add(session("a"))
        now = [1_790_000_000.0]
        monkeypatch.setattr("time.time", lambda: now[0])
        database.add(plain)
        now[0] += 3600
        database.settle()
        assert ids(database) == ["a"]
        assert 0 < tables(tmp_path / "kept.db")["span"] < 250
        assert size_of(tmp_path / "kept.db") < 1_000_000


def tables(path) -> dict[str, int]:
    """How many rows each table of a file has."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = ("span", "log", "member", "marked", "session", "stray", "response", "stale", "origin")
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}
