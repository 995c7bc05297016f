"""``HISTORY``: plain chat history, which carries no id, ties the calls of a conversation (docs/sessions.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from history_kit import WAYS, Talk
from loopback_client import MODEL
from provider_kit import CHAT_TOOL
from session_kit import attribute, calls, linked_to, sessions_of

from otel_llm_sessions import session
from otel_llm_sessions.testing import CapturedSpans, capture_spans

SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture(params=["session", "turn"])
def spans(request: pytest.FixtureRequest) -> Iterator[CapturedSpans]:
    with capture_spans(history=True, traces=request.param) as captured:
        yield captured


BACK = {
    "the message itself": lambda message: message,
    "its dict": lambda message: message if isinstance(message, dict) else message.model_dump(),
    "role and content": lambda message: {
        "role": "assistant", "content": message["content"] if isinstance(message, dict) else message.content
    },
}  # fmt: skip


@pytest.mark.parametrize("back", BACK)
@pytest.mark.parametrize("way", WAYS)
def test_the_turns_of_a_conversation_are_one_session(api, spans, way, back):
    talk = Talk(api, SYSTEM, way=way, back=BACK[back])
    for text in ("Hello", "Tell me about leaves", "Thanks"):
        talk.say(text)
    first, second, third = calls(spans)
    assert sessions_of(spans) == [first.attributes["gen_ai.response.id"]] * 3
    assert attribute(spans, "llm_session.source") == ["new", "history", "history"]
    assert attribute(spans, "llm_session.turn") == [1, 2, 3]
    assert (linked_to(second), linked_to(third)) == ([first.context.span_id], [second.context.span_id])
    assert [span.attributes.get("gen_ai.conversation.id") for span in calls(spans)] == [None] * 3


def test_interleaved_conversations_stay_apart(api, spans):
    talks = [Talk(api, SYSTEM) for _ in range(5)]
    for turn in range(3):
        for number, talk in enumerate(talks):
            talk.say(f"I am visitor {number}, this is my question {turn}")
    of_each = [{*sessions_of(spans)[number::5]} for number in range(5)]
    assert [len(found) for found in of_each] == [1] * 5
    assert len(set().union(*of_each)) == 5


def test_conversations_that_open_alike_are_apart_as_soon_as_they_differ(api, spans):
    ann, bob = Talk(api, SYSTEM), Talk(api, SYSTEM)
    for talk in (ann, bob):
        talk.say("Hello")  # the model says the same to both: nobody can tell who goes on
    for text in ("leaves", "roots"):
        ann.say(f"I am Ann, tell me about {text}")
        bob.say(f"I am Bob, tell me about {text}")
    found = sessions_of(spans)
    assert found[2] == found[4] != found[3] == found[5]
    assert attribute(spans, "llm_session.source") == ["new"] * 4 + ["history"] * 2


def test_without_the_setting_a_history_says_nothing(api):
    with capture_spans() as spans:
        talk = Talk(api)
        talk.say("Hello")
        talk.say("Go on")
    assert sessions_of(spans) == [None, None]


def test_the_same_beginning_continued_twice_is_one_session(api, spans):
    talk = Talk(api)
    talk.say("Hello")
    fork = Talk(api, *talk.messages)
    talk.say("Tell me about leaves")
    fork.say("Tell me about roots")
    fork.say("Thanks")
    assert len({*sessions_of(spans)}) == 1
    assert attribute(spans, "llm_session.turn") == [1, 2, 2, 3]
    first, _, other, last = calls(spans)
    assert linked_to(other) == [first.context.span_id]
    assert linked_to(last) == [other.context.span_id]


def test_a_reply_made_anew_is_of_the_same_session(api, spans):
    talk = Talk(api)
    talk.say("Hello")
    talk.say("Go on")
    del talk.messages[-1]
    talk.messages.append(talk.asked(temperature=2))
    talk.say("Thanks")
    assert len({*sessions_of(spans)}) == 1
    assert attribute(spans, "llm_session.turn") == [1, 2, 2, 3]


@pytest.mark.parametrize(
    "change",
    [
        lambda messages: [{"role": "system", "content": "Be long."}, *messages[1:]],  # another system prompt
        lambda messages: [messages[0], *messages[3:]],  # the oldest turn left out
        lambda messages: [*messages[:-1], {"role": "assistant", "content": "What I never said"}],
    ],
    ids=["system", "trimmed", "edited"],
)
def test_a_history_that_was_changed_tells_nothing(api, spans, change):
    talk = Talk(api, SYSTEM)
    talk.say("Hello")
    talk.say("Go on")
    talk.messages = change(talk.messages)
    talk.say("Thanks")
    first, second, third = sessions_of(spans)
    assert first == second != third
    assert attribute(spans, "llm_session.source") == ["new", "history", "new"]


def test_what_counts_is_the_last_reply_that_is_sent_back(api, spans):
    talk = Talk(api)
    talk.say("Hello")
    talk.say("Go on")
    del talk.messages[-1]
    talk.say("Are you there?")
    assert len({*sessions_of(spans)}) == 1
    assert attribute(spans, "llm_session.turn") == [1, 2, 2]


def test_examples_in_a_prompt_are_nobodys_turns(api, spans):
    examples = [SYSTEM, {"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}]
    talks = [Talk(api, *examples), Talk(api, *examples)]
    for number, talk in enumerate(talks):
        talk.say(f"{number}+1")
        talk.say("Thanks")
    one, same, other, same_again = sessions_of(spans)
    assert one == same != other == same_again
    assert attribute(spans, "llm_session.source") == ["new", "history"] * 2


def test_turns_at_once_go_on_from_the_same_turn(api, spans):
    talk = Talk(api)
    talk.say("Hello")
    branches = [Talk(api, *talk.messages) for _ in range(4)]
    for number, branch in enumerate(branches):
        branch.say(f"Question {number}")
    assert len({*sessions_of(spans)}) == 1
    assert attribute(spans, "llm_session.turn") == [1, 2, 2, 2, 2]


@pytest.mark.parametrize("way", ["stream=False", "stream=True"])
def test_each_of_several_choices_can_be_gone_on_with(api, spans, way):
    question = {"role": "user", "content": "Hello"}
    arguments: dict[str, Any] = {"model": MODEL, "messages": [question], "n": 3}
    if way == "stream=False":
        replies = [choice.message.content for choice in api.chat(**arguments).choices]
    else:
        replies = ["", "", ""]
        for chunk in api.read(api.chat(**arguments, stream=True)):
            for choice in chunk.choices:
                replies[choice.index] += choice.delta.content or ""
    assert len({*replies}) == 3
    for reply in replies:
        Talk(api, question, {"role": "assistant", "content": reply}).say("Go on")
    assert len({*sessions_of(spans)}) == 1


@pytest.mark.parametrize("left", ["closed", "forgotten"])
def test_of_a_stream_that_was_left_what_was_read_is_known(api, spans, left):
    talk = Talk(api)
    talk.messages.append({"role": "user", "content": "Tell me a long story"})
    stream = api.chat(messages=talk.messages, stream=True)
    read = "".join(chunk.choices[0].delta.content or "" for chunk in api.read(stream, at_most=3))
    assert read
    talk.messages.append({"role": "assistant", "content": read})
    talk.say("Go on")
    assert len({*sessions_of(spans)}) == 1
    assert attribute(spans, "llm_session.source") == ["new", "history"]


def test_an_explicit_session_is_inherited_and_wins(api, spans):
    talk = Talk(api)
    with session("mine"):
        talk.say("Hello")
    talk.say("Go on")
    talk.say("Thanks", extra_headers={"x-session-id": "another"})
    assert sessions_of(spans) == ["mine", "mine", "another"]
    assert attribute(spans, "llm_session.source") == ["context", "history", "header"]
    assert linked_to(calls(spans)[2]) == [calls(spans)[1].context.span_id]


def test_a_failed_call_leaves_nothing(api, spans):
    talk = Talk(api)
    with pytest.raises(Exception, match="503"):
        talk.say("Hello", extra_headers={"x-loopback-mode": "status=503"})
    talk.messages.pop()
    talk.say("Hello")
    talk.say("Go on")
    failed, first, second = sessions_of(spans)
    assert first == second != failed


def test_one_question_leaves_no_session_trace_behind(api):
    with capture_spans(history=True) as spans:
        Talk(api).say("Hello")
        assert [span.name for span in spans] == ["chat gpt-4o-mini"]


def test_a_second_turn_proves_the_session(api):
    with capture_spans(history=True) as spans:
        talk = Talk(api)
        talk.say("Hello")
        talk.say("Go on")
        first, second = calls(spans)
        (root,) = [span for span in spans if span.attributes.get("llm_session.root")]
        (marker,) = [span for span in spans if span.name == "turn"]
    assert root.attributes["session.id"] == second.attributes["session.id"] == first.attributes["gen_ai.response.id"]
    assert second.parent.span_id == marker.parent.span_id == root.context.span_id
    assert first.parent is None
    assert marker.links[0].context.span_id == first.context.span_id


def test_a_picture_is_part_of_what_was_said(api, spans):
    def of(picture: str) -> list[Any]:
        url = {"url": f"data:image/png;base64,{picture * 1000}"}
        return [
            {"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": url}]}
        ]

    talks = [Talk(api, *of(picture)) for picture in "AB"]
    for talk in talks:
        talk.messages.append(talk.asked())
        talk.say("Thanks")
    one, same, other, same_again = sessions_of(spans)
    assert one == same != other == same_again


def test_a_stream_that_says_that_it_is_complete_is_remembered_before_it_is_left(api, spans):
    talk = Talk(api)
    talk.messages.append({"role": "user", "content": "Hello"})
    texts, stream = [], api.chat(messages=talk.messages, stream=True)
    iterator = aiter(stream) if hasattr(stream, "__aiter__") else iter(stream)
    while True:
        chunk = api.finish(anext(iterator)) if hasattr(iterator, "__anext__") else next(iterator)
        texts.append(chunk.choices[0].delta.content or "")
        if chunk.choices[0].finish_reason:
            break
    talk.messages.append({"role": "assistant", "content": "".join(texts)})
    talk.say("Go on")
    talk.say("Thanks")
    api.finish(stream.close())
    assert len({*sessions_of(spans)}) == 1
    assert attribute(spans, "llm_session.turn") == [2, 3, 1]  # by their ends


@pytest.mark.parametrize("way", ["stream=False", "stream=True"])
@pytest.mark.parametrize(("ids", "source"), [("", "tool_call"), ("short_ids", "history")])
def test_an_agents_tools_are_part_of_its_history(api, spans, way, ids, source):
    """The ids of tool calls tell more, where they are any."""
    arguments = {"tools": [CHAT_TOOL], "extra_headers": {"x-loopback-mode": ids}}
    talk = Talk(api, SYSTEM, way=way, back=BACK["its dict"])
    for text in ("What is the weather in Rome?", "And what is the weather in Paris?"):
        called = BACK["its dict"](talk.say(text, **arguments))
        (call,) = called["tool_calls"]
        talk.messages.append({"role": "tool", "tool_call_id": call["id"], "content": "Sunny"})
        talk.messages.append(talk.back(talk.asked(**arguments)))
    assert len({*sessions_of(spans)}) == 1
    assert attribute(spans, "llm_session.source") == ["new", *[source] * 3]
    assert attribute(spans, "llm_session.turn") == [1, 2, 3, 4]
