"""A session is found by every id that leads to it, as it is pasted into the search."""

from __future__ import annotations

import dataclasses
import time

import pytest
from database_kit import hexed, marked_turn, root, session, trace_of, turn

from otel_llm_sessions.view.database import Database
from otel_llm_sessions.view.query import Query, query_of
from otel_llm_sessions.view.sessions import sessions_of
from otel_llm_sessions.view.spans import ReceivedLink

pytestmark = pytest.mark.usefixtures("closed_databases")


@pytest.fixture
def database():
    database = Database()
    database.add([*session("a"), *session("b", 2), *marked_turn("b", 3, "request", 300)])
    late = turn("b_late", 2, 500, gen_ai__request__previous_response__id="resp_b_2")
    filed = {**late.attributes, "session.id": "resp_b_2", "llm_session.source": "chain_partial"}
    database.add([dataclasses.replace(late, attributes=filed)])
    database.settle()
    yield database
    database.close()


@pytest.mark.parametrize(
    ("pasted", "found"),
    [
        ("resp_a_2", ["a"]),
        (" resp_b_1\n", ["b"]),
        ("resp_b_2", ["b"]),
        ("resp_b_late_2", ["b"]),
        (trace_of("a"), ["a"]),
        (trace_of("b").upper(), ["b"]),
        (hexed("request", 32), ["b"]),
        ("resp_a_9", []),
        ("resp_a", []),
        ("0" * 32, []),
    ],
    ids=["response", "with spaces", "filed under", "filed", "trace", "capitals", "request", "unknown",
         "a part", "no trace"],
)  # fmt: skip
def test_the_id_of_a_response_or_a_trace_leads_to_its_session(database, pasted, found):
    assert [one.id for one in database.sessions(query_of({"text": pasted})).sessions] == found


def test_ids_are_found_beside_filters_and_pages(database):
    assert database.sessions(Query(text="resp_a_2", errors=True)).sessions == ()
    assert [one.id for one in database.sessions(Query(text="resp_a_2", limit=1, sort="cost")).sessions] == ["a"]


@pytest.mark.parametrize("none", ["", "0" * 16])
def test_spans_without_ids_are_kept_each(database, none):
    turns = [dataclasses.replace(turn("odd", number, 60 * number), span_id=none, parent_id=none) for number in (1, 2)]
    for _ in range(2):
        database.add(turns)
    database.settle()
    (row,) = (one for one in database.sessions(Query()).sessions if one.id == "odd")
    assert (row.turns, row.input_tokens) == (2, 30)
    assert sorted(database.session("odd").spans, key=lambda span: span.start) == turns


def test_a_parent_is_known_whose_root_has_not_arrived(database):
    link = ReceivedLink(trace_of("parent"), root("parent").span_id, {"llm_session.link": "parent_session"})
    in_part = {"llm_session__part": 1}
    database.add([turn("parent", **in_part), turn("parent", 2, 9, **in_part), root("child", 5, (link,)), turn("child")])
    database.settle()
    for name, parents, children in (("child", ("parent",), ()), ("parent", (), ("child",))):
        (found,) = (one for one in sessions_of(database.session(name).spans) if one.id == name)
        assert (found.parents, found.children) == (parents, children)


@pytest.mark.slow
def test_a_look_for_ids_goes_through_an_index():
    database = Database()
    for begin in range(0, 3_000, 500):
        database.add([span for number in range(begin, begin + 500) for span in session(f"s{number}", 1, number)])
    database.settle()
    query, taken = Query(text="resp_s7_1"), []
    for _ in range(5):
        begun = time.perf_counter()
        assert [one.id for one in database.sessions(query).sessions] == ["s7"]
        taken.append(time.perf_counter() - begun)
    database.close()
    assert min(taken) < 0.1
