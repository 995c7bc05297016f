"""Which sessions are read from spans: joined, ordered and counted, whatever of them arrived."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from view_kit import REQUEST_1, REQUEST_2, SECOND, SESSION_TRACE, call, ids_of, link, marker, response, root, span

from otel_llm_sessions.view.sessions import sessions_of
from otel_llm_sessions.view.spans import ReceivedEvent, ReceivedLog
from otel_llm_sessions.view.turns import Node

OTHER_TRACE = "6f" * 16


def only(spans: Any, logs: Any = ()) -> Any:
    (session,) = sessions_of(spans, logs)
    return session


def walked(nodes: Iterable[Node]) -> list[Node]:
    """Nodes and all below them, parents first."""
    found, waiting = [], list(nodes)[::-1]
    while waiting:
        found.append(waiting.pop())
        waiting += found[-1].children[::-1]
    return found


# --- what belongs together ---------------------------------------------------------------------------------------


def test_sessions_that_are_traces_and_those_that_are_not_are_read_at_once():
    top = root()
    spans = [top, call(1, parent=top), call(1, "b" * 32, "s-2", at=5), call(2, "c" * 32, "s-2", at=6)]
    assert ids_of(sessions_of(spans)) == [("s-1", [1]), ("s-2", [1, 2])]


def test_nothing_goes_by_names():
    top = root(name="chat gpt-4o-mini")
    inside = call(1, REQUEST_1, name="session")
    session = only([replace(top, name="turn"), inside, marker(inside, 1, top, name="session")])
    assert [(turn.number, turn.call, turn.is_marker) for turn in session.turns] == [(1, inside, True)]
    assert sessions_of([span("session"), span("turn"), span("chat m")]) == []


def test_a_marker_and_its_call_are_one_turn_of_which_tokens_and_cost_count_once():
    top = root()
    used = {"gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4, "gen_ai.usage.cost.amount": 0.5}
    inside = call(1, REQUEST_1, attributes=used)
    of_marker = {"llm_session.usage.input_tokens": 3, "llm_session.usage.output_tokens": 4}
    stands = marker(inside, 1, top, attributes={"session.id": "s-1", "llm_session.turn": 1, **of_marker})
    session = only([inside, stands, top])
    assert (len(session.turns), session.input_tokens, session.output_tokens, session.summary().cost) == (1, 3, 4, 0.5)
    alone = only([stands, top])
    assert (alone.turns[0].call, alone.input_tokens, alone.output_tokens) == (None, 3, 4), "the call did not arrive"


def test_two_markers_of_one_call_are_one_turn():
    inside, one, other = call(1, REQUEST_1), root(), root(at=1)
    assert len(only([inside, one, other, marker(inside, 1, one), marker(inside, 1, other)]).turns) == 1


def test_a_call_below_a_tool_of_another_session_is_its_own_sessions():
    top, other = root(), root("s-2", OTHER_TRACE)
    tool = span("tool", parent=top)
    inside = call(1, parent=tool, session="s-2", at=1)
    spans = [top, tool, inside, other, marker(inside, 1, other, "s-2")]
    first, second = sorted(sessions_of(spans), key=lambda session: session.id)
    assert (first.turns, [turn.call for turn in second.turns]) == ((), [inside])
    ((node,), (stands,)) = (first.nodes, second.nodes)
    assert [(one.span, one.turn) for one in walked([node])] == [(tool, None), (inside, None)]
    assert stands.turn is second.turns[0]


def test_calls_whose_session_only_a_span_above_says_belong_to_it():
    top = root()
    tool = span("tool", parent=top)
    agent = span("agent", REQUEST_1, gen_ai__operation__name="invoke_agent", session__id="s-2")
    spans = [top, tool, call(parent=tool, session=None), agent, call(None, REQUEST_1, None, parent=agent, at=1)]
    assert ids_of(sessions_of(spans)) == [("s-1", [0]), ("s-2", [0])]
    visit = replace(agent, attributes={"session.id": "a browser's visit"})
    assert sessions_of([visit, call(None, REQUEST_1, None, parent=visit)]) == [], "of which models know nothing"


@pytest.mark.parametrize("operation", ["fetch_response", "cancel_response", "embeddings", "execute_tool", 5])
def test_what_makes_no_model_work_is_no_turn(operation):
    top = root()
    other = call(parent=top, attributes={"gen_ai.operation.name": operation})
    assert only([top, other]).turns == ()


def test_a_session_of_which_only_the_root_arrived_is_there():
    session = only([root(at=3)])
    assert (session.turns, session.summary().first, session.services) == ((), 4 * SECOND, ("shop",))


# --- what was filed under the id of the response before -----------------------------------------------------------


def test_turns_that_are_filed_under_the_response_before_go_on_with_its_session():
    top = root("named")
    filed = ("named", "named", "resp_2", "resp_2", "resp_4")
    replies = [
        response(f"resp_{at}", f"resp_{at - 1}" if at > 1 else None, session=session, at=at)
        for at, session in enumerate(filed, 1)
    ]
    numbered = [
        replace(one, attributes={**one.attributes, "llm_session.turn": turn, "llm_session.source": "chain"})
        for one, turn in zip(replies, (1, 2, 2, 3, 2), strict=True)
    ]
    session = only([top, *reversed(numbered)])
    assert (session.id, session.aliases) == ("named", ("resp_2", "resp_4"))
    assert [turn.number for turn in session.turns] == [1, 2, 3, 4, 5]
    assert [turn.follows for turn in session.turns] == [None, *session.turns[:-1]]


def test_a_session_that_is_named_by_the_oldest_response_that_a_process_found_goes_on_with_its_session():
    begun = [response(f"resp_{at}", f"resp_{at - 1}" if at > 1 else None, session="named", at=at) for at in (1, 2, 3)]
    later = response("resp_9", "resp_3", session="resp_2", at=9, attributes={"llm_session.source": "chain_partial"})
    assert ids_of(sessions_of([*begun, later])) == [("named", [0, 0, 0, 0])]


def test_a_name_that_was_shortened_is_that_of_its_response():
    long = "resp_" + "x" * 465
    name = f"{long[:24]}~{hashlib.sha256(long.encode()).hexdigest()[:32]}"
    spans = [
        response("resp_1", session="named"),
        response(long, "resp_1", session="named"),
        response("r", long, session=name),
    ]
    assert [session.id for session in sessions_of(spans)] == ["named"]


def test_where_several_sessions_have_that_response_nothing_says_which_is_meant():
    spans = [response("1", session="alice"), response("1", session="bob"), response("2", "1", session="1", at=3)]
    assert [session.id for session in sessions_of(spans)] == ["alice", "bob", "1"]


def test_a_session_that_is_only_called_like_a_response_of_another_one_is_itself():
    spans = [response("7", session="alice"), call(1, "b" * 32, "7")]
    assert [session.id for session in sessions_of(spans)] == ["7", "alice"]


def test_names_that_lead_in_a_circle_are_one_session():
    spans = [response("b", "a", session="a"), response("a", "b", session="b", at=1)]
    assert ids_of(sessions_of(spans)) == [("a", [0, 0])]


# --- order -----------------------------------------------------------------------------------------------------


def test_forks_are_in_order_of_their_number_and_begin():
    late, early, after = call(2, at=7), call(2, at=3), call(3, at=5)
    assert [turn.span for turn in only([call(1), after, late, early]).turns][1:] == [early, late, after]


def test_where_some_turns_have_no_number_all_are_in_order_of_their_begin():
    spans = [call(2, at=1), call(at=2), call(1, at=3)]
    assert [turn.span for turn in only(reversed(spans)).turns] == spans


def test_a_process_that_begins_to_count_anew_comes_after_all_that_there_was():
    first, again, meanwhile = linked(3, 1), linked(2, 10), linked(2, 2.5)
    assert [turn.span for turn in only([*again, *first]).turns] == [*first, *again]
    assert [turn.number for turn in only([*meanwhile, *first]).turns] == [1, 1, 2, 2, 3]


def linked(turns: int, at: float) -> list[Any]:
    """Calls of which each goes on from the one before, a second later."""
    made: list[Any] = []
    for turn in range(1, turns + 1):
        links = (link(made[-1], "previous_turn"),) if made else ()
        made.append(call(turn, at=at + turn - 1, links=links))
    return made


def test_links_tell_the_turn_before_also_where_a_backend_forgets_what_they_are():
    one, other = call(1), call(1, at=1)
    second = call(2, at=2, links=(link(other, "previous_turn"),))
    third = call(3, at=3, links=(link(second),))
    session = only([one, other, second, third])
    assert [turn.follows and turn.follows.span for turn in session.turns] == [None, None, other, second]


# --- parts -----------------------------------------------------------------------------------------------------


def test_turns_of_a_part_whose_root_is_lost_say_which_part_it_is():
    top = root()
    lost = root(trace_id=OTHER_TRACE, part=2)
    inside = call(2, REQUEST_1, attributes={"llm_session.part": 2})
    stands = marker(inside, 2, lost, llm_session__part=2)
    session = only([top, call(1, parent=top, attributes={"llm_session.part": 1}), inside, stands])
    assert [(part.number, part.trace_id, part.root) for part in session.parts] == [
        (1, SESSION_TRACE, top),
        (2, OTHER_TRACE, None),
    ]
    assert [turn.part for turn in session.turns] == [1, 2]


def test_sessions_without_traces_have_no_parts():
    assert only([call(1, REQUEST_1)]).parts == ()


def test_a_call_stands_in_the_request_that_is_topmost():
    request = span("GET /", REQUEST_1)
    middle = span("handler", REQUEST_1, request)
    lost = replace(span("lost", REQUEST_2))
    below_lost = span("handler", REQUEST_2, lost)
    spans = [
        request,
        middle,
        call(1, REQUEST_1, parent=middle),
        below_lost,
        call(2, REQUEST_2, parent=below_lost, at=1),
    ]
    assert [turn.request for turn in only(spans).turns] == [request, below_lost]


def test_spans_that_are_their_own_parents_end_nothing():
    one = replace(call(1, REQUEST_1), parent_id="a" * 16)
    other = replace(span("x", REQUEST_1), span_id="a" * 16, parent_id=one.span_id)
    assert [turn.request for turn in only([one, other]).turns] == [other]


def test_trees_of_any_depth_are_built():
    spans = [root()]
    for at in range(3000):
        spans.append(span(parent=spans[-1], at=at))
    session = only([*spans, call(1, parent=spans[-1])])
    assert len(walked(session.nodes)) == 3001


def test_a_session_is_the_child_of_that_whose_root_its_own_links_to_as_its_parent():
    top = root()
    child = root("s-2", OTHER_TRACE, at=1, links=(link(top, "parent_session"),))
    near = root("s-3", REQUEST_1, at=2, links=(link(top, "other_session"),))
    of = {session.id: (session.parents, session.children) for session in sessions_of([child, near, top])}
    assert of == {"s-1": ((), ("s-2",)), "s-2": (("s-1",), ()), "s-3": ((), ())}


def test_the_parent_of_a_session_is_known_by_its_turns_where_its_root_is_lost():
    top = root()
    stands = call(1, parent=top, attributes={"llm_session.part": 1})
    child = root("s-2", OTHER_TRACE, at=1, links=(link(top, "parent_session"),))
    of = {session.id: (session.parents, session.children) for session in sessions_of([child, stands])}
    assert of == {"s-1": ((), ("s-2",)), "s-2": (("s-1",), ())}


# --- one call of which several tell -------------------------------------------------------------------------------


def test_of_nested_model_calls_the_innermost_counts_with_what_only_those_around_it_say():
    outer = call(None, REQUEST_1, attributes={"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 1})
    inner = call(None, REQUEST_1, None, parent=outer, attributes={"gen_ai.usage.input_tokens": 6})
    session = only([outer, inner])
    assert [turn.span_id for turn in session.turns] == [inner.span_id]
    assert (session.input_tokens, session.output_tokens) == (6, 1)


def test_a_model_call_around_several_is_none_itself():
    outer = call(None, REQUEST_1, attributes={"gen_ai.usage.input_tokens": 11, "gen_ai.usage.output_tokens": 3})
    inner = [call(None, REQUEST_1, parent=outer, at=at, attributes={"gen_ai.usage.input_tokens": 5}) for at in (1, 2)]
    session = only([outer, *inner])
    assert (len(session.turns), session.input_tokens, session.output_tokens) == (2, 10, None)


def test_a_model_call_that_is_a_turn_counts_whatever_is_told_of_it_inside():
    outer = call(1, REQUEST_1)
    assert [turn.span for turn in only([outer, call(None, REQUEST_1, parent=outer)]).turns] == [outer]


def test_calls_with_replies_of_their_own_are_calls_of_their_own():
    outer = response("resp_1", trace_id=REQUEST_1)
    assert len(only([outer, response("resp_2", trace_id=REQUEST_1, parent=outer)]).turns) == 2


# --- what comes twice ---------------------------------------------------------------------------------------------


def test_of_a_span_that_comes_twice_the_one_that_says_more_counts():
    whole = call(1, attributes={"gen_ai.usage.input_tokens": 5})
    begun = replace(whole, attributes={"session.id": "s-1"}, end=0)
    for spans in ([whole, begun], [begun, whole]):
        assert only(spans).input_tokens == 5


@pytest.mark.parametrize("none", ["", "0" * 16])
def test_spans_without_ids_of_their_own_are_each_one(none):
    one, other = (replace(call(number, at=number), span_id=none, parent_id=none) for number in (1, 2))
    session = only([one, other, replace(one)])
    assert [turn.number for turn in session.turns] == [1, 2]
    first, second = (turn.span_id for turn in session.turns)
    assert (len(first), len(second)) == (16, 16) and first != second
    assert [turn.request for turn in session.turns] == [None, None], "nothing stands below what has no id"
    assert [turn.span_id for turn in only([other, one]).turns] == [first, second], "its page keeps its address"


def test_an_event_that_says_what_a_span_says_is_one_judgement():
    top = root()
    judged = response("resp_1", parent=top)
    said = {"gen_ai.evaluation.name": "thumbs", "gen_ai.evaluation.score.value": 1, "gen_ai.response.id": "resp_1"}
    seen = span("x", parent=top, at=5, links=(link(judged),), attributes={"session.id": "s-1", **said})
    event = ReceivedLog("gen_ai.evaluation.result", 6 * SECOND, None, said, judged.trace_id, judged.span_id)
    assert [one.score for one in only([top, judged, seen], [event, event]).evaluations] == [1]
    again = replace(event, time=9 * SECOND)
    assert [one.time for one in only([top, judged, seen], [event, again]).evaluations] == [6 * SECOND, 9 * SECOND]
    (alone,) = only([top, judged], [event]).evaluations
    assert (alone.turn.span, alone.span) == (judged, None)
    (of_session,) = only([top], [replace(event, attributes={**said, "session.id": "s-1"}, span_id="")]).evaluations
    assert of_session.turn is None
    assert only([top], [event]).evaluations == (), "of what, is not known"


def test_contents_come_from_the_event_of_the_calls_span():
    inside, top = call(1, REQUEST_1, status="ERROR"), root()
    said = {"gen_ai.input.messages": ({"role": "user", "parts": ({"type": "text", "content": "Hi"},)},)}
    said["error.message"] = "Too many."
    event = ReceivedLog("gen_ai.client.inference.operation.details", 1, None, said, inside.trace_id, inside.span_id)
    (turn,) = only([top, inside, marker(inside, 1, top)], [event]).turns
    assert [(message.role, message.parts[0].text) for message in turn.input] == [("user", "Hi")]
    assert (turn.error, turn.error_text) == ("error", "Too many.")


# --- what is said of a session ------------------------------------------------------------------------------------


def test_a_row_says_what_the_turns_say_together():
    top = root(attributes={"user.id": "u-1"})
    about = {"llm_session.name": "refund", "llm_session.tags": ("beta",), "gen_ai.usage.input_tokens": 2}
    first = call(
        1, parent=top, attributes={**about, "gen_ai.usage.cost.amount": 1, "gen_ai.usage.cost.currency": "USD"}
    )
    second = call(
        2,
        parent=top,
        at=5,
        status="ERROR",
        resource={"service.name": "other"},
        attributes={"gen_ai.response.model": "m"},
    )
    row = only([second, first, top]).summary()
    assert (row.id, row.name, row.user, row.tags, row.services) == (
        "s-1",
        "refund",
        "u-1",
        ("beta",),
        ("shop", "other"),
    )
    assert (row.turns, row.models, row.errors) == (2, ("gpt-4o-mini", "m"), 1)
    assert (row.input_tokens, row.output_tokens, row.cost, row.currency) == (2, None, 1.0, "USD")
    assert (row.first, row.last) == (SECOND, 6 * SECOND + 1_000_000)


def test_costs_of_several_currencies_are_no_sum():
    spans = [
        call(turn, attributes={"gen_ai.usage.cost.amount": 1, "gen_ai.usage.cost.currency": currency})
        for turn, currency in enumerate(("USD", "EUR"), 1)
    ]
    row = only(spans).summary()
    assert (row.cost, row.currency) == (None, None)


def test_an_error_that_only_an_exception_tells_is_told():
    raised = ReceivedEvent("exception", 1, {"exception.type": "openai.APIError", "exception.message": "No."})
    (turn,) = only([call(1, status="ERROR", events=(raised,))]).turns
    assert (turn.error, turn.error_text) == ("openai.APIError", "No.")


def test_five_hundred_turns_are_read_in_well_under_a_tenth_of_a_second():
    top = root()
    calls = [
        call(at, f"{at:032x}", parent=span("GET /", f"{at:032x}"), at=at, attributes={f"a{at}": at for at in range(25)})
        for at in range(1, 501)
    ]
    spans = [top, *calls, *(marker(one, at, top) for at, one in enumerate(calls, 1))]
    spans += [replace(span("GET /", one.trace_id), span_id=one.parent_id) for one in calls]
    took = []
    for _ in range(5):
        begun = time.process_time()
        session = only(spans)
        took.append(time.process_time() - begun)
    assert len(session.turns) == 500
    assert min(took) < 0.1
