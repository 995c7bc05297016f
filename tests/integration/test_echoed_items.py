"""Responses calls that are tied by the ids of items in their input."""

from __future__ import annotations

from typing import Any

import pytest
from echo_kit import (
    events,
    function_call,
    iterated,
    linked_to,
    message,
    output_of,
    places,
    previous_turns,
    reasoning,
    response,
    user,
    without_ids,
)
from session_kit import calls

PATH = "/responses"


@pytest.fixture
def agent(api, server):
    """Makes one call: sends an input, gets the items given as its answer, and returns these."""

    def turn(sent: list[Any], *items: Any, how: str = "plain", **arguments: Any) -> list[Any]:
        made = response(*items)
        if how == "stream":
            server.script_stream(events(made), path=PATH)
            api.read(api.respond(input=sent, stream=True, **arguments))
        else:
            server.script(made, path=PATH)
            api.respond(input=sent, **arguments)
        return list(items)

    return turn


HOW = pytest.mark.parametrize("how", ["plain", "stream"])


@HOW
def test_a_tool_loop_that_sends_its_items_back_is_one_session(agent, spans, how):
    called = function_call()
    sent = [user()]
    sent += [*agent(sent, reasoning(), called, how=how), output_of(called)]
    sent += [*agent(sent, message(), how=how), user("And more?")]
    agent(sent, message(), how=how)
    assert places(spans) == [(1, "new", 1), (1, "item", 2), (1, "item", 3)]
    assert previous_turns(spans) == [None, 0, 1]


@HOW
def test_short_random_call_ids_tie_together_with_the_call_that_is_beside_them(agent, spans, how):
    called = function_call('{"a": 1, "b": 2.0}', id=None, call_id="0G84QFMp3")
    agent([user()], called, how=how)
    agent([user(), {**called, "arguments": '{"b":2,"a":1}'}, output_of(called)], message())
    agent([user(), output_of(called)], message())  # alone, in the process that saw it
    agent([user(), {**called, "arguments": '{"a":1}'}, output_of(called)], message())
    assert places(spans) == [(1, "new", 1), (1, "item", 2), (1, "item", 2), (2, "new", 1)]


@HOW
def test_texts_whose_ids_the_framework_drops_are_counted(agent, spans, how):
    called = function_call()
    sent = [user()]
    sent += [*agent(sent, called, how=how), output_of(called)]
    for _ in range(4):
        sent += [*agent(sent, message(), how=how), user("And more?")]
        sent = without_ids(*sent)
    agent(sent, message(), how=how)
    assert places(spans) == [(1, "new", 1), *((1, "item", turn) for turn in range(2, 7))]
    assert previous_turns(spans) == [None, 0, 1, 2, 3, 4]


def test_the_turn_before_is_that_of_the_id_that_stands_last(agent, spans):
    one = agent([user()], message())
    two = agent([user(), *one, user()], message())
    agent([user(), *one, user("Something else")], message())  # a fork
    agent([user(), *two, *one, user()], message())  # in another order
    assert places(spans) == [(1, "new", 1), (1, "item", 2), (1, "item", 2), (1, "item", 2)]
    assert previous_turns(spans) == [None, 0, 0, 0]


def test_another_session_among_the_ids_is_linked_to(agent, spans):
    one, two = agent([user()], message()), agent([user()], message())
    agent([*one, *two, user()], message())
    assert places(spans) == [(1, "new", 1), (2, "new", 1), (2, "item", 2)]
    first, _, third = calls(spans)
    (other,) = linked_to(third, "other_session")
    assert other == first.parent.span_id, "the root of the other session"


def test_references_and_encrypted_reasoning_tie_calls_that_are_not_stored(agent, spans):
    thought, answer = agent([user()], reasoning(), message(), store=False, include=["reasoning.encrypted_content"])
    agent([{"type": "item_reference", "id": thought["id"]}, user()], message(), store=False)
    agent([thought, *without_ids(answer), user()], message(), store=False)
    agent([{"id": answer["id"]}, user()], message(), store=False)
    assert places(spans) == [(1, "new", 1), (1, "item", 2), (1, "item", 2), (1, "item", 2)]


def test_an_approval_ties_to_what_asked_for_it(agent, spans):
    (asked,) = agent([user()], {"type": "mcp_approval_request", "id": message()["id"], "name": "n", "arguments": "{}"})
    agent([{"type": "mcp_approval_response", "approval_request_id": asked["id"], "approve": True}], message())
    assert places(spans) == [(1, "new", 1), (1, "item", 2)]


def test_what_a_request_ends_with_is_remembered_where_nobody_knows_it(agent, spans):
    restored = {**message(), "role": "user"}
    agent([restored], *(without_ids(message())))
    agent([restored, *without_ids(message()), user()], message())
    assert places(spans) == [(1, "new", 1), (1, "item", 2)]


def test_examples_that_many_requests_begin_with_tie_nobody(agent, spans):
    called = function_call()
    examples = [user("1 + 1?"), called, output_of(called), *without_ids(message())]
    for question in ("Mine", "Yours"):
        sent = [*examples, user(question)]
        sent += [*without_ids(*agent(sent, message())), user("And more?")]
        agent(sent, message())
    assert places(spans) == [(1, "new", 1), (2, "new", 1), (3, "new", 1), (4, "new", 1)]


def test_the_response_before_wins_over_items_and_what_is_given_over_both(agent, api, server, spans):
    made = response(message())
    server.script(made, path=PATH)
    api.respond()
    other = agent([user()], message())
    agent(other, message(), previous_response_id=made["id"])
    agent(other, message(), metadata={"session_id": "mine"})
    agent(other, message(), extra_headers={"baggage": "x=1"})
    assert places(spans) == [(1, "new", 1), (2, "new", 1), (1, "chain", 2), (3, "metadata", 2), (2, "item", 2)]
    first, second, third, fourth, _ = calls(spans)
    assert linked_to(third, "other_session") == [second.parent.span_id]
    assert linked_to(fourth, "other_session") == [second.parent.span_id]


def test_an_item_that_is_known_wins_over_a_response_that_nobody_knows(agent, spans):
    items = agent([user()], message())
    agent([*items, user()], message(), previous_response_id="resp_" + "0123456789abcdef" * 3)
    assert places(spans) == [(1, "new", 1), (1, "item", 2)]


@pytest.mark.parametrize("name", ["msg_0", "msg_1234", "__fake_id__", "", None, 7, "item\n1", "x" * 2000, ["a"], {}])
def test_ids_that_may_be_anybodys_tie_nobody(agent, spans, name):
    items = agent([user()], {**message(), "id": name})
    agent([*items, user()], message())
    assert places(spans) == [(1, "new", 1), (2, "new", 1)]


@pytest.mark.parametrize("odd", ["text", 7, [None], ["a"], [[]], [{"id": {}}], {"id": "x"}, [{"call_id": []}], []])
def test_inputs_that_are_none_are_survived(agent, spans, odd):
    agent(odd, message())
    assert places(spans) == [(1, "new", 1)]


def test_a_stream_that_is_left_early_has_left_what_it_brought(api, server, spans):
    called, made = function_call(), None
    made = response(called, message())
    server.script_stream(events(made), path=PATH)
    stream = api.respond(stream=True)
    for event in iterated(api, stream):
        if event.type == "response.output_item.done":
            break
    server.script(response(message()), path=PATH)
    api.respond(input=[user(), called, output_of(called)])
    api.read(stream, at_most=0)
    assert sorted(places(spans)) == [(1, "item", 2), (1, "new", 1)]


def test_a_long_loop_is_looked_up_by_the_last_of_its_items(agent, spans):
    sent: list[Any] = [user()]
    for _ in range(20):
        called = function_call()
        sent += [*agent(sent, called), output_of(called)]
    assert len(sent) > 40
    assert places(spans) == [(1, "new", 1), *((1, "item", turn) for turn in range(2, 21))]
