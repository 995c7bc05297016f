"""Chat calls that are tied by the ids of tool calls."""

from __future__ import annotations

import re
from typing import Any

import pytest
from echo_kit import (
    call_id,
    called,
    chunks,
    completion,
    gave_back,
    in_pieces,
    iterated,
    linked_to,
    places,
    previous_turns,
    said,
    tool_call,
    user,
)
from session_kit import calls

from otel_llm_sessions.sessions.keys import PROCESS
from otel_llm_sessions.testing import capture_spans

PATH = "/chat/completions"

WAYS = ["plain", "stream", "pieces without index", "raw", "streamed raw"]


@pytest.fixture
def agent(api, server):
    """Makes one call: sends messages, gets the answer given, and returns it as the message that is sent back."""

    def turn(sent: list[Any], answer: Any, how: str = "plain", id_: str = "", **arguments: Any) -> list[Any]:
        made = completion(answer, **({"id": id_} if id_ else {}))
        if "stream" in how or "pieces" in how:
            deltas = in_pieces(answer.get("tool_calls", ()), indexed=how != "pieces without index")
            server.script_stream(chunks(made, deltas or [{"content": answer["content"]}]), path=PATH)
        else:
            server.script(made, path=PATH)
        asked = {"model": "m", "messages": sent, **arguments}
        if how == "raw":
            api.finish(api.client.chat.completions.with_raw_response.create(**asked))
        elif how == "streamed raw":
            read_raw(api, asked)
        elif how == "plain":
            api.chat(**asked)
        else:
            api.read(api.chat(**asked, stream=True))
        return [answer]

    return turn


def read_raw(api: Any, asked: dict[str, Any]) -> None:
    """Read the bytes of a stream."""
    entered = api.client.chat.completions.with_streaming_response.create(**asked, stream=True)
    if hasattr(entered, "__aenter__"):

        async def read() -> None:
            async with entered as reply:
                _ = [line async for line in reply.iter_lines()]

        return api.finish(read())
    with entered as reply:
        _ = list(reply.iter_lines())
    return None


@pytest.mark.parametrize("how", WAYS)
def test_a_tool_loop_is_one_session_named_by_its_first_reply(agent, spans, how):
    tool = tool_call()
    sent = [user()]
    sent += [*agent(sent, called(tool), how=how), *gave_back(tool)]
    sent += [*agent(sent, said(), how=how), user("And more?")]
    sent += agent(sent, said(), how=how)
    agent([*sent, user("And more?")], said(), how=how)
    assert places(spans) == [(1, "new", 1), (1, "tool_call", 2), (1, "tool_call", 3), (1, "tool_call", 4)]
    assert previous_turns(spans) == [None, 0, 1, 2]
    first = calls(spans)[0]
    assert first.attributes["session.id"] == first.attributes["gen_ai.response.id"]


@pytest.mark.parametrize("how", WAYS)
def test_ten_tool_calls_at_once_ten_times_over_are_one_session_in_order(agent, spans, how):
    sent = [user()]
    for _ in range(10):
        tools = [tool_call() for _ in range(10)]
        sent += [*agent(sent, called(*tools), how=how), *reversed(gave_back(*tools))]
    agent(sent, said(), how=how)
    assert places(spans) == [(1, "new", 1), *((1, "tool_call", turn) for turn in range(2, 12))]
    assert previous_turns(spans) == [None, *range(10)]


@pytest.mark.parametrize("echo", ["output", "call"])
def test_either_side_of_a_tool_call_ties(agent, spans, echo):
    tool = tool_call()
    agent([user()], called(tool))
    agent([user(), *(gave_back(tool) if echo == "output" else [called(tool), user("Never mind")])], said())
    assert places(spans) == [(1, "new", 1), (1, "tool_call", 2)]


def test_conversations_that_are_interleaved_stay_apart(agent, spans):
    sents, tools = [[user()], [user()]], [tool_call(), tool_call()]
    for sent, tool in zip(sents, tools, strict=True):
        sent += [*agent(sent, called(tool)), *gave_back(tool)]
    for sent in sents:
        agent(sent, said())
    assert places(spans) == [(1, "new", 1), (2, "new", 1), (1, "tool_call", 2), (2, "tool_call", 2)]


def test_a_call_that_is_answered_by_words_has_no_session(agent, spans):
    agent([user()], said())
    agent([user(), *gave_back(tool_call())], said())
    assert places(spans) == [(None, None, None)] * 2


def test_another_conversation_among_the_messages_is_linked_to(agent, spans):
    one, two = tool_call(), tool_call()
    agent([user()], called(one))
    agent([user()], called(two))
    agent([user(), called(one), *gave_back(one), called(two), *gave_back(two)], said())
    assert places(spans) == [(1, "new", 1), (2, "new", 1), (2, "tool_call", 2)]
    first, _, third = calls(spans)
    assert linked_to(third, "other_session") == [first.get_span_context().span_id]


@pytest.mark.parametrize("id_", ["call_0", "functions.add:0", "", "0", "call_12345678", None, 7, "x" * 2000, "call\n1"])
@pytest.mark.parametrize("how", ["plain", "stream"])
def test_ids_that_may_be_anybodys_tie_nobody(agent, spans, id_, how):
    tool = {**tool_call(), "id": id_}
    agent([user()], called(tool), how=how)
    agent([user(), called(tool), *gave_back(tool)], said())
    assert places(spans)[1] == (None, None, None)


NINE = "0G84QFMp3"


def test_short_random_ids_tie_together_with_the_call_that_is_beside_them(agent, spans):
    tool = tool_call(NINE, arguments='{"a": 1, "b": [2.0]}')
    agent([user()], called(tool))
    anew = tool_call(NINE, arguments='{"b":[2],"a":1}')
    agent([user(), called(anew), *gave_back(anew)], said())
    other = tool_call(NINE, arguments='{"a": 2}')
    agent([user(), called(other), *gave_back(other)], said())
    assert places(spans) == [(1, "new", 1), (1, "tool_call", 2), (None, None, None)]


@pytest.mark.parametrize("how", WAYS)
def test_short_random_ids_tie_whatever_way_the_reply_came(agent, spans, how):
    tool = tool_call(NINE)
    agent([user()], called(tool), how=how)
    agent([user(), called(tool), *gave_back(tool)], said(), how=how)
    assert places(spans) == [(1, "new", 1), (1, "tool_call", 2)]


def test_the_output_alone_of_a_call_with_a_short_id_ties_where_the_call_was_seen(agent, spans):
    tool = tool_call(NINE)
    agent([user()], called(tool))
    agent([user(), *gave_back(tool)], said())
    assert places(spans) == [(1, "new", 1), (1, "tool_call", 2)]


def test_a_session_that_is_given_goes_on_from_its_newest_turn(agent, spans):
    tool = tool_call()
    named = {"extra_body": {"litellm_session_id": "mine"}}
    agent([user()], called(tool), **named)
    sent = [user(), called(tool), *gave_back(tool)]
    agent(sent, said(), **named)
    agent([*sent, said("one"), said("more"), user()], said(), **named)
    agent(sent, said())
    assert places(spans) == [(1, "body", 1), (1, "body", 2), (1, "body", 3), (1, "tool_call", 2)]


def test_a_stream_whose_end_nobody_reads_has_left_its_tool_calls(api, server, spans):
    tool = tool_call(NINE)
    server.script_stream(chunks(completion(called(tool)), in_pieces([tool])), path=PATH)
    stream = api.chat(stream=True)
    for chunk in iterated(api, stream):
        if chunk.choices[0].finish_reason:
            break
    server.script(completion(said()), path=PATH)
    api.chat(messages=[user(), called(tool), *gave_back(tool)])
    api.read(stream, at_most=0)
    assert sorted(places(spans)) == [(1, "new", 1), (1, "tool_call", 2)]


@pytest.mark.parametrize("pieces", [3, None], ids=["closed", "without an end"])
def test_a_stream_that_is_cut_short_has_left_the_ids_that_it_brought(api, server, spans, pieces):
    tool = tool_call()
    server.script_stream(chunks(completion(called(tool)), in_pieces([tool]), reason=None), path=PATH)
    api.read(api.chat(stream=True), at_most=pieces)
    server.script(completion(said()), path=PATH)
    api.chat(messages=[user(), called(tool), *gave_back(tool)])
    assert places(spans) == [(1, "new", 1), (1, "tool_call", 2)]


@pytest.mark.parametrize(
    "odd",
    [
        [None],
        ["text"],
        [{"role": "tool", "tool_call_id": {}}],
        [{"role": "assistant", "tool_calls": 7}],
        [{"role": "assistant", "tool_calls": [None, 7, {}, {"id": []}]}],
        {"role": "user"},
        "text",
        7,
        [],
    ],
)
def test_messages_that_are_none_are_survived(agent, spans, odd):
    agent(odd, called(tool_call()))
    assert places(spans) == [(1, "new", 1)]


def test_other_servers_and_other_apis_know_ids_that_are_one_of_a_kind(api, server, spans):
    tool = tool_call(call_id())
    server.script(completion(called(tool)), path=PATH)
    api.chat()
    output = {"type": "function_call_output", "call_id": tool["id"], "output": "3"}
    api.respond(input=[user(), output])
    assert places(spans) == [(1, "new", 1), (1, "item", 2)]


@pytest.mark.parametrize("id_", [NINE, "call_7rYooqsGfzqpUt2do4ecR0T6"])
def test_another_process_ties_by_the_same_ids(api, server, shared_url, id_):
    tool = tool_call(id_)
    found = []
    for answer, sent in ((called(tool), []), (said(), [called(tool), *gave_back(tool)])):
        server.script(completion(answer), path=PATH)
        with capture_spans(store=shared_url) as spans:
            api.chat(messages=[user(), *sent])
        found += calls(spans)
    first, second = found
    assert second.attributes["session.id"] == first.attributes["session.id"]
    assert second.attributes["llm_session.turn"] == 2


@pytest.mark.usefixtures("patient")
def test_the_output_alone_of_a_call_with_a_short_id_ties_in_no_other_process(api, server, shared_url, monkeypatch):
    tool, found = tool_call(NINE), []
    alone, with_its_call = gave_back(tool), [called(tool), *gave_back(tool)]
    for process, answer, sent in (
        ("one", called(tool), []),
        ("another", said(), alone),
        ("another", said(), with_its_call),
        ("one", said(), alone),
    ):
        monkeypatch.setattr(PROCESS, "token", process)
        server.script(completion(answer), path=PATH)
        with capture_spans(store=shared_url) as spans:
            api.chat(messages=[user(), *sent])
        found += calls(spans)
    assert places(found) == [(1, "new", 1), (None, None, None), (1, "tool_call", 2), (1, "tool_call", 2)]


COUNTED = "chatcmpl-1"


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("how", WAYS)
def test_replies_that_have_the_same_counted_id_begin_sessions_of_their_own(agent, tmp_path, how):
    found = []
    for _ in range(2):  # two processes, as far as the store can tell
        tool = tool_call()
        with capture_spans(store=f"sqlite:///{tmp_path / 'sessions.db'}") as spans:
            agent([user()], called(tool), how, COUNTED)
            agent([user(), called(tool), *gave_back(tool)], said(), how, COUNTED)
        found += calls(spans)
    assert places(found) == [(1, "new", 1), (1, "tool_call", 2), (2, "new", 1), (2, "tool_call", 2)]
    for span in found:
        assert re.fullmatch(rf"{COUNTED}@127\.0\.0\.1:\d+~[0-9a-f]{{8}}", span.attributes["session.id"])
