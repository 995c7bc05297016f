"""What the demo calls wrong."""

import re
from dataclasses import replace

import pytest

from otel_llm_sessions.demo.expectations import EXAMPLES, Example, problems
from otel_llm_sessions.view.sessions import sessions_of
from otel_llm_sessions.view.spans import ReceivedLink, ReceivedSpan

EXAMPLE = Example("shop.py", sessions=1, sources=("new", "chain"))
TRACE = "5e" * 16
ROOT = ReceivedSpan("session", TRACE, "a0" * 8, attributes={"session.id": "s-1", "llm_session.root": True})
OTHER_ROOT = replace(ROOT, trace_id="6f" * 16, attributes={**ROOT.attributes, "session.id": "s-2"})


def call(turn, source, **changes):
    links = (ReceivedLink(TRACE, f"c{turn - 1}" * 8, {"llm_session.link": "previous_turn"}),) if turn > 1 else ()
    attributes = {
        "session.id": "s-1",
        "gen_ai.operation.name": "chat",
        "llm_session.turn": turn,
        "llm_session.source": source,
    }
    attributes |= changes.pop("attributes", {})
    plain = ReceivedSpan("chat m", TRACE, f"c{turn}" * 8, ROOT.span_id, start=turn, links=links, attributes=attributes)
    return replace(plain, **changes)


GOOD = [ROOT, call(1, "new"), call(2, "chain")]


def found(spans, example=EXAMPLE):
    return " / ".join(problems(example, sessions_of(spans)))


def test_what_is_right_has_no_problems():
    assert problems(EXAMPLE, sessions_of(GOOD)) == []


def test_it_is_right_without_session_traces_too():
    assert problems(EXAMPLE, sessions_of([replace(span, parent_id="") for span in GOOD[1:]])) == []


@pytest.mark.parametrize(
    ("spans", "problem"),
    [
        ([], r"0 session\(s\) arrived, 1 expected"),
        (
            [*GOOD, OTHER_ROOT],
            r"2 session\(s\) arrived, 1 expected",
        ),
        (GOOD[:2], r"its turns are \[1\], expected \[1, 2\]"),
        ([*GOOD, call(3, "chain")], r"its turns are \[1, 2, 3\], expected \[1, 2\]"),
        ([*GOOD[:2], call(2, "context")], "found by new, context, expected new, chain"),
        ([*GOOD[:2], call(2, "chain", links=())], "turn 2 has no link to turn 1"),
        (
            [*GOOD[:2], call(2, "chain", status="ERROR", attributes={"error.type": "400"})],
            "turn 2 failed: 400",
        ),
        ([*GOOD[:2], call(2, "chain", attributes={"session.id": "s-2"})], "its turns say session.id s-1, s-2"),
    ],
)
def test_what_is_wrong_is_said(spans, problem):
    assert re.search(problem, found(spans))


def test_a_call_in_a_request_stands_in_the_requests_trace():
    in_request = replace(EXAMPLE, in_request=True)
    assert "turn 1 should stand in a request's trace" in found(GOOD, in_request)
    request = ReceivedSpan("POST /chat", "b1" * 16, "b1" * 8)
    nested = call(1, "new", trace_id=request.trace_id, parent_id=request.span_id)
    marker = ReceivedSpan(
        "turn",
        TRACE,
        "d1" * 8,
        ROOT.span_id,
        links=(ReceivedLink(nested.trace_id, nested.span_id),),
        attributes={"session.id": "s-1", "llm_session.turn": 1},
    )
    one_turn = replace(in_request, sources=("new",))
    assert found([ROOT, request, nested, marker], one_turn) == ""
    assert "turn 1 should not be a marker" in found([ROOT, request, nested, marker], EXAMPLE)
    assert "marker whose call did not arrive" in found([ROOT, marker], one_turn)


def test_a_turn_that_the_provider_tells_of_stands_in_a_trace_of_its_own():
    told = replace(EXAMPLE, sources=("new", "provider"))
    assert "turn 2 should be a marker" in found([*GOOD[:2], call(2, "provider")], told)
    elsewhere = call(2, "provider", trace_id="e1" * 16, parent_id="")
    link = (ReceivedLink(elsewhere.trace_id, elsewhere.span_id),)
    attributes = {"session.id": "s-1", "llm_session.turn": 2}
    marker = ReceivedSpan("turn", TRACE, "d2" * 8, ROOT.span_id, start=2, links=link, attributes=attributes)
    assert found([*GOOD[:2], elsewhere, marker], told) == ""


def test_every_example_of_the_table_has_a_service_name_of_its_own():
    assert len({example.service for example in EXAMPLES}) == len(EXAMPLES)
