"""What was said, as people read it: parts of every kind, and contents that were cut off or are none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from view_kit import call

from otel_llm_sessions.view.cut_json import read_beginning
from otel_llm_sessions.view.sessions import sessions_of
from otel_llm_sessions.view.turns import CUT
from otel_llm_sessions.view.words import MessagePart, words_in

INPUT = "gen_ai.input.messages"
TEMPO_KEEPS = 2048


def parts_of(*parts: Any, as_text: bool = True) -> list[MessagePart]:
    said: Any = [{"role": "assistant", "parts": list(parts)}]
    ((message,), is_cut) = words_in({INPUT: json.dumps(said) if as_text else tuple(said)}, INPUT)
    assert (message.role, is_cut) == ("assistant", False)
    return list(message.parts)


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"type": "text", "content": "Hi"}, MessagePart("text", "Hi")),
        ({"type": "reasoning", "content": "Well…"}, MessagePart("reasoning", "Well…")),
        ({"type": "refusal", "content": "No."}, MessagePart("refusal", "No.")),
        (
            {"type": "tool_call", "id": "c1", "name": "look", "arguments": {"city": "Köln"}},
            MessagePart("tool_call", '{\n  "city": "Köln"\n}', "look", "c1"),
        ),
        ({"type": "tool_call", "id": None, "name": "look", "arguments": None}, MessagePart("tool_call", "", "look")),
        (
            {"type": "tool_call_response", "id": "c1", "response": "21"},
            MessagePart("tool_call_response", "21", id="c1"),
        ),
        ({"type": "tool_call_response", "id": "c1", "result": 0}, MessagePart("tool_call_response", "0", id="c1")),
        (
            {"type": "blob", "modality": "image", "mime_type": "image/png", "size": 5},
            MessagePart("blob", media="image/png", size=5),
        ),
        ({"type": "blob", "modality": "audio", "content": "AAAA"}, MessagePart("blob", media="audio", size=3)),
        (
            {"type": "uri", "modality": "image", "mime_type": None, "uri": "https://x/y.png"},
            MessagePart("uri", "https://x/y.png", media="image"),
        ),
        ({"type": "file", "modality": "image", "file_id": "file_1"}, MessagePart("file", "file_1", media="image")),
        ({"type": "generic", "content": "odd"}, MessagePart("generic", "odd")),
        (
            {"type": "server_tool_call", "id": "w1", "name": "web_search", "server_tool_call": {"query": "x"}},
            MessagePart("server_tool_call", '{\n  "query": "x"\n}', "web_search", "w1"),
        ),
        ({"type": "compaction", "id": "k1"}, MessagePart("compaction", id="k1")),
        ({"type": 5, "content": ["x"]}, MessagePart("", '[\n  "x"\n]')),
        ({}, MessagePart("")),
    ],
    ids=lambda value: "" if isinstance(value, MessagePart) else str(value.get("type")),
)
def test_each_kind_of_part_is_told_for_people(part, told, as_text):
    assert parts_of(part, as_text=as_text) == [told]
    assert parts_of(part, as_text=as_text)[0].fields == part, "and is kept as it was recorded"


def test_messages_as_the_api_has_them_are_read_too():
    said = [{"role": "user", "content": "Hi"}, {"role": "user", "content": [{"type": "text", "text": "x"}, 5]}, 7]
    words = words_in({INPUT: json.dumps(said)}, INPUT)
    assert [message.role for message in words.messages] == ["user", "user"]
    assert words.messages[0].parts == (MessagePart("text", "Hi"),)


@pytest.mark.parametrize(
    ("value", "told"),
    [("Hello", "Hello"), ({"role": "user", "parts": [{"type": "text", "content": "Hello"}]}, "Hello"), ("  ", None)],
)
def test_a_message_alone_and_mere_words_are_shown(value, told):
    messages = words_in({INPUT: value}, INPUT).messages
    assert [message.parts[0].text for message in messages] == ([told] if told else [])


@pytest.mark.parametrize("value", [None, 5, True, (), "[]", "{}", "null", "[null, 5]", b"\xff", float("nan")])
def test_what_is_no_message_is_left_out(value):
    assert words_in({INPUT: value}, INPUT) == ((), False)
    assert words_in({}, INPUT) == ((), False)


# --- cut ---------------------------------------------------------------------------------------------------------


def test_what_tempo_cut_is_shown_as_far_as_it_goes_and_said_to_be_cut():
    said = [
        {"role": "user", "parts": [{"type": "text", "content": "First."}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "name": "look", "arguments": {"at": "x" * 5000}}]},
    ]
    (session,) = sessions_of([call(1, attributes={INPUT: json.dumps(said)[:TEMPO_KEEPS]})])
    (turn,) = session.turns
    first, second = turn.input
    assert first.parts[0].text == "First."
    assert second.parts[0].name == "look"
    assert second.parts[0].text.count("x") > 1800
    assert turn.notices == (CUT,)


def test_what_was_left_out_when_it_was_recorded_is_said():
    whole = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "x"}]}])
    (session,) = sessions_of([call(1, attributes={INPUT: whole, "llm_session.content_cut": 1234})])
    (notice,) = session.turns[0].notices
    assert notice.startswith("1,234 characters")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('[{"parts": [{"type": "text", "content": "Where is', [{"parts": [{"type": "text", "content": "Where is"}]}]),
        ('[{"role": "us', [{"role": "us"}]),
        ('[{"role": "user", "par', [{"role": "user"}]),
        ('[{"role": "user", "parts":', [{"role": "user"}]),
        ('[{"a": 1}, {"b": [1, 2', [{"a": 1}, {"b": [1]}]),
        ('[{"a": 1.5, "b": tr', [{"a": 1.5}]),
        ('["x\\u00e', ["x"]),
        ('["x\\', ["x"]),
        ('["x\\ud83d', ["x"]),
        ('["x\\ud83d\\ude', ["x"]),
        ('["\\ud83d\\ude00', ["😀"]),
        ('["x\n', ["x\n"]),
        ("[", []),
        ("{", {}),
        ("", None),
        ('"x', None),
        ("[}]", []),
        ('{"a" 5}', {"a": 5}),
        ("[1, nonsense, 2]", [1]),
        ('[{"a": "x\ufffd', [{"a": "x\ufffd"}]),
    ],
)  # fmt: skip
def test_json_is_read_as_far_as_it_goes(text, values):
    assert read_beginning(text) == values


def test_json_of_any_depth_and_size_is_read():
    assert read_beginning("[" * 100_000) is not None
    assert words_in({INPUT: "[" * 100_000}, INPUT) == ((), True)
    assert words_in({INPUT: '[{"role": "user", "parts": [' + '{"a":' * 100_000}, INPUT).is_cut
    long = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "x\\" * 500_000}]}])
    ((message,), is_cut) = words_in({INPUT: long[:-3]}, INPUT)
    assert (len(message.parts[0].text), is_cut) == (1_000_000, True)
