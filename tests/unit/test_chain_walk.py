"""The walk up a chain: pure, from what the provider and the store tell."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llm_sessions.openai.carried import Carried, write
from otel_llm_sessions.openai.chain_walk import MAX_STEPS, Walk, is_response
from otel_llm_sessions.sessions.keys import response_key
from otel_llm_sessions.sessions.link import SessionId, SessionLink, SessionTrace, SpanRef
from otel_llm_sessions.sessions.names import name_of_response

KEYS = ("session.id", "session_id")
SERVER = "a.test"
TRACE = SessionTrace(7, 8, 1, 1, 5, 1)


def named(text: str) -> str:
    """An id that is one of a kind, with its number at the end."""
    return f"{hashlib.sha256(text.encode()).hexdigest()[:40]}_{text}"


def number_of(id_: str | None) -> int:
    assert id_ is not None
    return int(id_.rpartition("_")[2][1:])


def response(number: int, **fields: Any) -> dict[str, Any]:
    previous = named(f"r{number - 1}") if number > 1 else None
    return {"id": named(f"r{number}"), "previous_response_id": previous, "created_at": 1000 + number, **fields}


def walked(turns: int, special: dict[int, dict[str, Any]] | None = None) -> Walk:
    """A walk up a chain of so many responses, as far as it goes."""
    walk = Walk(named(f"r{turns}"), KEYS, SERVER)
    while walk.asking is not None:
        number = number_of(walk.asking)
        walk.take(response(number, **(special or {}).get(number, {})))
    return walk


def link(session_id: str = "S", turn: int = 3, trace: SessionTrace | None = TRACE) -> SessionLink:
    return SessionLink(SessionId(session_id), "new", turn, SpanRef(1, 2, 1), 1, 2, trace=trace)


@given(st.integers(1, MAX_STEPS))
def test_a_chain_is_named_by_its_first_response_and_counts_its_turns(turns):
    walk = walked(turns)
    previous = walk.previous()
    assert walk.is_complete
    assert previous is not None
    assert (previous.session_id, previous.source, previous.turn) == (named("r1"), "new", turns)
    assert [link.turn for _, link in walk.records("server")] == list(range(turns, 0, -1))
    assert {link.session_id for _, link in walk.records("server")} == {named("r1")}


@given(st.integers(1, 20), st.data())
def test_the_newest_name_on_the_way_wins_and_the_turn_is_the_depth(turns, data):
    named = data.draw(st.sets(st.integers(1, turns), min_size=1))
    walk = walked(turns, {number: {"metadata": {"session_id": f"s{number}"}} for number in named})
    previous = walk.previous()
    assert previous is not None
    assert (previous.session_id, previous.source, previous.turn) == (f"s{max(named)}", "metadata", turns)


@given(st.integers(1, 20), st.integers(0, 19), st.integers(1, 1000))
def test_what_a_turn_carries_ends_the_walk_there(turns, steps, turn):
    at = max(1, turns - steps)
    carried = write(Carried(SessionId("S"), SpanRef(3, 4, 1), "header", turn, 9, TRACE))
    asked = []
    walk = Walk(named(f"r{turns}"), KEYS, SERVER)
    while walk.asking is not None:
        number = number_of(walk.asking)
        asked.append(number)
        walk.take(response(number, **({"metadata": carried} if number == at else {})))
    assert asked == list(range(turns, at - 1, -1))
    previous = walk.previous()
    assert previous is not None
    assert (previous.session_id, previous.source, previous.trace) == ("S", "header", TRACE)
    assert previous.turn == turn + turns - at
    assert (previous.span == SpanRef(3, 4, 1)) == (at == turns)


@given(st.integers(1, 20), st.integers(1, 1000))
def test_what_the_store_knows_ends_the_walk(steps, turn):
    walk = Walk(named("r100"), KEYS, SERVER)
    for number in range(100, 100 - steps, -1):
        walk.take(response(number))
    walk.know(link(turn=turn))
    previous = walk.previous()
    assert walk.is_complete
    assert previous is not None
    assert (previous.session_id, previous.turn, previous.trace) == ("S", turn + steps, TRACE)


def test_what_the_store_knows_at_once_is_the_answer_itself():
    walk = Walk(named("r1"), KEYS, SERVER)
    walk.know(link())
    assert walk.previous() == link()
    assert walk.records("server") == []


def test_a_conversation_names_the_session():
    for conversation in ("conv_1", {"id": "conv_1"}):
        previous = walked(1, {1: {"conversation": conversation}}).previous()
        assert previous is not None
        assert (previous.session_id, previous.source) == ("conv_1@a.test", "conversation")


def test_a_beginning_that_is_gone_names_the_session_for_everybody():
    walk = Walk(named("r9"), KEYS, SERVER)
    walk.take(response(9))
    walk.lose(gone=True)
    previous = walk.previous()
    assert not walk.is_complete
    assert previous is not None
    assert (previous.session_id, previous.source, previous.turn) == (named("r8"), "chain_partial", 2)
    assert walk.records("server") == []


def partial(session_id: str, turn: int) -> SessionLink:
    return link(session_id, turn)._replace(source="chain_partial")


@given(st.lists(st.integers(2, 9), min_size=1, max_size=4), st.integers(1, 9), st.booleans())
def test_turns_that_nobody_could_place_are_placed_when_their_beginning_is_known(gaps, turns, is_stored):
    """Each gap: a turn of so many in a session that was named by the response before it, for want of a better name."""
    walk = Walk(named("p0"), KEYS, SERVER)
    for number, gap in enumerate(gaps):
        assert walk.asking == named(f"p{number}")
        walk.know(partial(named(f"p{number + 1}" if number + 1 < len(gaps) else f"r{turns}"), gap))
    if is_stored:
        walk.know(link("S", turns))
    else:
        while walk.asking is not None:
            walk.take(response(number_of(walk.asking)))
    depth = turns + sum(gaps) - len(gaps)
    previous = walk.previous()
    assert walk.is_complete
    assert previous is not None
    assert (previous.session_id, previous.turn) == ("S" if is_stored else named("r1"), depth)
    assert previous.span == link().span
    assert previous.trace == (TRACE if is_stored else None)
    passed = walk.records("server")[: len(gaps)]
    assert [keys for keys, _ in passed] == [
        [response_key(named(f"p{number}"), "server")] for number in range(len(gaps))
    ]
    assert [link.turn for _, link in passed] == [depth - sum(gaps[:number]) + number for number in range(len(gaps))]
    assert {link.session_id for _, link in passed} == {previous.session_id}


def test_a_chain_that_has_no_end_within_reach_is_told_from_one_that_was_lost():
    assert walked(MAX_STEPS + 1).is_endless
    assert walked(MAX_STEPS + 1).answered == named(f"r{MAX_STEPS + 1}")
    assert not walked(MAX_STEPS).is_endless
    lost = Walk(named("r9"), KEYS, SERVER)
    lost.take(response(9))
    lost.lose(gone=False)
    assert not lost.is_endless
    assert not walked(MAX_STEPS + 1, {MAX_STEPS: {"metadata": {"session_id": "s"}}}).is_endless


def test_a_turn_that_nobody_can_place_stays_where_it_was():
    walk = Walk(named("p"), KEYS, SERVER)
    walk.know(partial(named("r9"), 4))
    walk.lose(gone=True)
    assert (walk.previous(), walk.is_complete, walk.records("server")) == (None, False, [])


def test_a_turn_that_is_named_by_itself_is_asked_for():
    walk = Walk(named("p"), KEYS, SERVER)
    assert not walk.know(partial(named("p"), 1))
    assert walk.asking == named("p")


def test_turns_that_name_each_other_end_the_walk():
    walk = Walk(named("p"), KEYS, SERVER)
    walk.know(partial(named("q"), 2))
    walk.know(partial(named("p"), 2))
    assert (walk.asking, walk.previous(), walk.is_complete) == (None, None, False)


def counted(number: int, **fields: Any) -> dict[str, Any]:
    previous = f"resp_{number - 1}" if number > 1 else None
    return {"id": f"resp_{number}", "previous_response_id": previous, **fields}


def session_of(walk: Walk) -> str:
    previous = walk.previous()
    assert previous is not None
    return previous.session_id


def test_a_beginning_that_is_not_one_of_a_kind_is_made_so():
    walks = [Walk("resp_2", KEYS, SERVER) for _ in range(2)]
    for walk in walks:
        walk.take(counted(2))
        walk.take(counted(1))
    first, second = map(session_of, walks)
    assert first.startswith("resp_1@a.test~")
    assert second.startswith("resp_1@a.test~")
    assert first != second
    assert {link.session_id for _, link in walks[0].records("server")} == {first}


def test_who_learns_of_the_first_turns_span_gives_the_session_the_name_that_it_has():
    span = SpanRef(3, 4, 1)
    walk = Walk("resp_1", KEYS, SERVER)
    walk.take(counted(1, metadata=write(Carried(None, span, "new", 1, 9, None))))
    assert session_of(walk) == name_of_response("resp_1", SERVER, span)


def test_a_name_that_was_made_is_not_asked_for_but_the_turn_itself_and_kept_where_nobody_knows_a_better_one():
    made = name_of_response("resp_3", SERVER)
    walk = Walk("resp_4", KEYS, SERVER)
    assert not walk.know(partial(made, 2))
    assert walk.asking == "resp_4"
    walk.take(counted(4))
    walk.lose(gone=True)
    assert (session_of(walk), walk.is_complete) == (made, False)


def test_a_chain_that_goes_on_with_what_is_no_id_ends_there():
    for previous in ("x" * 2000, "a\nb"):
        walk = Walk(named("r9"), KEYS, SERVER)
        walk.take(response(9, previous_response_id=previous))
        assert (walk.asking, walk.previous(), walk.is_complete) == (None, None, False)


def test_a_walk_that_fails_knows_nothing():
    for take in (0, 3):
        walk = Walk(named("r9"), KEYS, SERVER)
        for number in range(9, 9 - take, -1):
            walk.take(response(number))
        walk.lose(gone=False)
        assert (walk.previous(), walk.is_complete, walk.records("server")) == (None, False, [])


def test_a_walk_that_fails_after_a_name_keeps_the_name():
    walk = Walk(named("r9"), KEYS, SERVER)
    walk.take(response(9, metadata={"session_id": "mine"}))
    walk.lose(gone=False)
    previous = walk.previous()
    assert walk.is_complete
    assert previous is not None
    assert (previous.session_id, previous.turn) == ("mine", 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
odd_responses = st.fixed_dictionaries(
    {"id": st.text(min_size=1, max_size=8)},
    optional=dict.fromkeys(
        ("previous_response_id", "metadata", "conversation", "created_at", "completed_at", "model"), json_values
    ),
)


@given(st.lists(odd_responses, min_size=1, max_size=60))
def test_whatever_a_server_sends_the_walk_ends_and_numbers_are_counts(replies):
    walk = Walk(named("r0"), KEYS, SERVER)
    for reply in replies:
        if walk.asking is None:
            break
        walk.take(reply)
    if walk.asking is not None:
        walk.lose(gone=True)
    assert walk.asking is None
    for _, link in walk.records("server"):
        assert link.turn >= 1
        assert 0 <= link.start <= link.end
        assert link.session_id


@given(json_values)
def test_only_what_has_an_id_is_a_response(value):
    assert is_response(value) == (isinstance(value, dict) and isinstance(value.get("id"), str) and bool(value["id"]))


@pytest.mark.parametrize(("model", "kept"), [("a\ud800", "a\ufffd"), ("x" * 1000, "x" * 256), (5, ""), (None, "")])
def test_the_model_of_a_response_that_was_retrieved_is_fit_for_an_attribute(model, kept):
    walk = walked(2, {1: {"model": model}})
    assert [link.model for _, link in walk.records("server")][-1] == kept
