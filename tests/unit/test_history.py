"""Digests of chat histories: what comes back equals what was received, and whatever differs does not."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage

from otel_llm_sessions.openai.evidence import evidence_of
from otel_llm_sessions.openai.history import Histories, History, HistoryReader
from otel_llm_sessions.openai.message import form_of, form_of_item, plain_forms, plain_items
from otel_llm_sessions.openai.server import Server
from otel_llm_sessions.sessions.digest import DigestSource
from otel_llm_sessions.sessions.link import SessionId
from otel_llm_sessions.sessions.resolver import only_key
from otel_llm_sessions.sessions.sources import Given

# Said by anybody, with what delimiters there are.
words = st.text(st.sampled_from('ab \n\0":,[]{}é\U0001f600'), max_size=6) | st.text(max_size=12)
names = st.sampled_from(["add", "look_up"])
ids = st.sampled_from(["call_1", "call_2", ""])
arguments = st.dictionaries(st.sampled_from("abc"), st.integers(0, 2) | st.text(max_size=2), max_size=2)
parts = st.one_of(
    words.map(lambda text: {"type": "text", "text": text}),
    words.map(lambda url: {"type": "image_url", "image_url": {"url": f"data:{url}"}}),
)
calls = st.builds(
    lambda id_, name, given: {"id": id_, "type": "function", "function": {"name": name, "arguments": given}},
    ids, names, arguments.map(json.dumps),
)  # fmt: skip
replies = st.builds(
    lambda text, called: {"role": "assistant", "content": text or None, **({"tool_calls": called} if called else {})},
    words, st.lists(calls, max_size=2),
).filter(lambda reply: (reply["content"] or "").strip() or "tool_calls" in reply)  # fmt: skip
asked = st.one_of(
    st.builds(lambda role, text: {"role": role, "content": text}, st.sampled_from(["system", "user"]), words),
    st.builds(lambda said: {"role": "user", "content": said}, st.lists(parts, min_size=1, max_size=3)),
    st.builds(lambda id_, text: {"role": "tool", "tool_call_id": id_, "content": text}, ids, words),
)
conversations = st.lists(asked, min_size=1, max_size=4)


def written_anew(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    said = json.dumps(json.loads(function["arguments"]), indent=1)
    return {**call, "function": {**function, "arguments": said, "parsed_arguments": {}}}


# How clients and applications send a reply back.
WAYS = {
    "as it was": lambda reply: reply,
    "as a dict of a model": lambda reply: ChatCompletionMessage.model_validate(reply).model_dump(),
    "as a dict of a model, without what was not set": lambda reply: (
        ChatCompletionMessage.model_validate(reply).model_dump(exclude_unset=True)
    ),
    "as the model": ChatCompletionMessage.model_validate,
    "with nulls": lambda reply: {
        "refusal": None, "annotations": [], "audio": None, "function_call": None, "tool_calls": None, **reply,
    },
    "without nulls": lambda reply: {name: value for name, value in reply.items() if value is not None},
    "with an empty text for none": lambda reply: {**reply, "content": reply["content"] or ""},
    "as a list of one part": lambda reply: {**reply, "content": [{"type": "text", "text": reply["content"] or ""}]},
    "as a list of parts": lambda reply: {
        **reply,
        "content": [{"type": "text", "text": each, "annotations": None} for each in reply["content"] or ""],
    },
    "stripped": lambda reply: {**reply, "content": (reply["content"] or "").strip()},
    "with its reasoning": lambda reply: {**reply, "reasoning_content": "hm", "thinking_blocks": [{"thinking": "hm"}]},
    "with what was parsed": lambda reply: {**reply, "parsed": {"a": 1}, "annotations": [{"type": "url_citation"}]},
    "with arguments written anew": lambda reply: {
        **reply, **({"tool_calls": [*map(written_anew, reply["tool_calls"])]} if "tool_calls" in reply else {})
    },
    "with the keys in another order": lambda reply: dict(reversed(reply.items())),
}  # fmt: skip


def of(histories: Histories, messages: Any) -> History:
    found = histories.of(messages)
    assert found is not None
    return found


@pytest.mark.parametrize("way", WAYS)
@given(st.sampled_from(["as a dict of a model", "as the model", "without nulls"]), conversations, replies, asked)
@settings(max_examples=50)
def test_what_is_sent_back_equals_what_was_received(way, received, messages, reply, question):
    there, here = Histories(), Histories()
    left = there.replied(of(there, messages), WAYS[received](reply))
    assert left is not None
    sent_back = [*messages, WAYS[way](reply), question]
    assert of(here, sent_back).replied == of(there, sent_back).replied == left


@given(conversations, replies, conversations, replies)
def test_two_conversations_have_the_same_digest_only_if_they_say_the_same(one, reply, another, other):
    histories = Histories()
    left = histories.replied(of(histories, one), reply), histories.replied(of(histories, another), other)
    assert (left[0] == left[1]) == (said([*one, reply]) == said([*another, other]))


@pytest.mark.parametrize("way", WAYS)
@given(asked | replies)
@settings(max_examples=50)
def test_what_is_told_of_a_message_at_a_glance_is_what_it_says(way, message):
    sent = WAYS[way](message) if message["role"] == "assistant" else message
    (glanced,) = plain_forms([sent])
    assert glanced in (None, form_of(sent))


@given(
    st.sampled_from(["function_call", "function_call_output", "message", None]),
    st.dictionaries(st.sampled_from(["id", "status", "output", "extra"]), words),
    st.dictionaries(st.sampled_from(["call_id", "name", "arguments"]), words | st.none()),
    st.sampled_from(["user", "assistant", "system", None]),
    st.none() | words | words.map(lambda text: [{"type": "output_text", "text": text, "annotations": []}]),
)
def test_what_is_told_of_an_item_at_a_glance_is_what_it_says(kind, beside, called, role, content):
    fields = {"type": kind, "role": role, "content": content}
    item = {**{name: value for name, value in fields.items() if value is not None}, **beside, **called}
    (glanced,) = plain_items([item])
    assert glanced is None or glanced == form_of_item(item)


def said(messages: list[dict[str, Any]]) -> list[Any]:
    """What messages say, written down as simply as can be."""
    return [said_by(message) for message in messages]


def said_by(message: dict[str, Any]) -> Any:
    content, found = message["content"], list[Any]()
    for part in content if isinstance(content, list) else [{"type": "text", "text": content or ""}]:
        if part["type"] == "text" and found and isinstance(found[-1], str):
            found[-1] += part["text"]
        else:
            found.append(part["text"] if part["type"] == "text" else part)
    if message["role"] == "assistant":
        found = [found[0].strip()]
    called = [
        [call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])]
        for call in message.get("tool_calls", [])
    ]
    beside = [part for part in found if part != ""]
    return [message["role"], beside, called, message.get("tool_call_id") or ""]


@given(st.lists(asked | replies, min_size=1, max_size=8), st.lists(st.integers(0, 7), max_size=8))
def test_what_is_known_of_a_beginning_changes_no_digest(messages, ends):
    warm = Histories()
    for end in ends:
        warm.of(copy.deepcopy(messages[: end + 1]))
    assert warm.of(messages) == Histories().of(messages)


def test_the_beginning_that_is_tied_to_ends_with_the_last_reply():
    histories, first = Histories(), [{"role": "user", "content": "Hello"}]
    assert of(histories, first).replied is None
    reply = {"role": "assistant", "content": "Hi"}
    left = of(histories, [*first, reply]).replied
    assert left == histories.replied(of(histories, first), reply)
    assert (
        of(histories, [*first, reply, {"role": "user", "content": "Go on"}, {"role": "system", "content": "!"}]).replied
        == left
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([{"role": "system", "content": "Be brief."}], [{"role": "system", "content": "Be long."}]),
        ([{"role": "system", "content": "a"}], [{"role": "developer", "content": "a"}]),
        ([{"role": "user", "content": "a", "name": "ann"}], [{"role": "user", "content": "a", "name": "bob"}]),
        ([{"role": "user", "parts": ["a"]}], [{"role": "user", "parts": ["b"]}]),
        ([{"role": "user", "content": {"text": "a"}}], [{"role": "user", "content": {"text": "b"}}]),
        ([{"role": "user", "content": "a", "seed": -1}], [{"role": "user", "content": "a", "seed": -2}]),
        ([{"role": "user", "content": "a", "seed": 1}], [{"role": "user", "content": "a", "seed": True}]),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], [{"role": "user", "content": "ab"}]),
        (
            [{"role": "user", "content": 'a\0["user"]\0b'}],
            [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        ),
        (
            [{"role": "tool", "content": "1", "tool_call_id": "call_1"}],
            [{"role": "tool", "content": "1", "tool_call_id": "call_2"}],
        ),
    ],
)
def test_whatever_the_application_says_otherwise_is_another_conversation(one, other):
    histories = Histories()
    assert of(histories, one).whole != of(histories, other).whole


def test_a_refusal_is_what_a_reply_says():
    histories = Histories()
    asked = of(histories, [{"role": "user", "content": "Tell me"}])
    refusal = histories.replied(asked, {"role": "assistant", "content": None, "refusal": "No."})
    parts = histories.replied(asked, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]})
    assert refusal == parts == histories.replied(asked, {"role": "assistant", "content": "No."}) is not None


def test_a_spoken_reply_is_known_by_its_id():
    histories = Histories()
    asked = of(histories, [{"role": "user", "content": "Tell me"}])
    audio = {"id": "audio_1", "data": "UklGRg==", "expires_at": 1, "transcript": "Well"}
    spoken = histories.replied(asked, {"role": "assistant", "content": None, "audio": audio})
    assert spoken == histories.replied(asked, {"role": "assistant", "audio": {"id": "audio_1"}})
    assert spoken != histories.replied(asked, {"role": "assistant", "audio": {"id": "audio_2"}})


@pytest.mark.parametrize(
    "reply", [{}, {"content": None}, {"content": " \n"}, {"content": []}, {"tool_calls": []}, None, "Hi", 1]
)
def test_a_reply_that_says_nothing_leaves_nothing(reply):
    histories = Histories()
    assert histories.replied(of(histories, [{"role": "user", "content": "Hello"}]), reply) is None


@pytest.mark.parametrize(
    "messages",
    [
        None, [], {}, "Hello", 1, ["Hello"], [None], [1], [[]], [{}], [{"content": "a"}],
        [{"role": None, "content": "a"}],
        [{"role": ["user"], "content": "a"}], [{"role": "u" * 1000, "content": "a"}],
        [{"role": "user", "content": [b"a"]}],
        [{"role": "user", "content": [object()]}], [{"role": "user", "content": [{1: "a"}]}],
        [{"role": "user", "content": "a", 1: 2}],
    ],
)  # fmt: skip
def test_of_odd_messages_there_is_no_digest(messages):
    assert Histories().of(messages) is None


def test_of_what_is_deeper_than_can_be_looked_into_there_is_no_digest():
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert Histories().of([{"role": "user", "content": deep}]) is None


@pytest.mark.parametrize(
    "content", ["\ud800", "\0", [{"type": "text", "text": "\udfff"}], [{"type": "x", "y": float("nan")}], 1, True]
)
def test_whatever_json_says_has_a_digest(content):
    assert Histories().of([{"role": "user", "content": content}]) is not None


def test_a_mark_that_a_gateway_has_wander_says_nothing():
    histories, marked = Histories(), {"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}
    plain = of(histories, [{"role": "user", "content": "Hello"}])
    assert of(histories, [{"role": "user", "content": [marked]}]).whole == plain.whole


def test_no_word_is_kept_and_no_more_than_is_said():
    histories = Histories(most=8)
    for number in range(100):
        asked = of(histories, [{"role": "user", "content": f"secret {number}"}])
        histories.replied(asked, {"role": "assistant", "content": f"secret reply {number}"})
    assert len(histories.known) == 8
    assert "secret" not in repr(histories.known)


def test_a_key_that_others_may_leave_is_claimed_once_and_written_by_who_owns_it():
    read = HistoryReader(DigestSource("key", str), is_sure=True).read([{"role": "user", "content": "Hello"}])
    assert read is not None
    (key,) = read.left([{"role": "assistant", "content": "Hi"}])
    assert read.split([key, "another"]) == (["another"], [key])
    assert read.split([key, "another"]) == (["another"], [])
    read.owns(key)
    assert read.split([key, "another"]) == ([key, "another"], [])
    assert read.left([{"role": "assistant", "content": "Hi"}]) == [key]
    assert read.split([key]) == ([key], [])


def test_evidence_that_a_history_is_added_to_no_longer_has_one_key():
    server = Server("socket.test", 443, "openai", "socket.test:443", "socket.test", None, True)
    evidence = evidence_of("chat_completions", Given(SessionId("chat-42"), "body"), None, {"model": "m"}, server)
    said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    read = HistoryReader(DigestSource("key", str), is_sure=True).read([*said, {"role": "user", "content": "Why?"}])
    assert read is not None
    tied = read.tied(evidence)
    assert (evidence.key or only_key(evidence), tied.key or only_key(tied)) == ("s:chat-42", "")
