"""How much of a content is recorded, and that what is left of it is JSON, whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from effort_kit import own_seconds
from hypothesis import given
from hypothesis import strategies as st

from otel_llm_sessions import semconv
from otel_llm_sessions.telemetry.content.limits import MAX_BYTES, limited
from otel_llm_sessions.telemetry.content.plain import Plain, encode
from otel_llm_sessions.telemetry.content.values import Content

MOST_TIMES = 10
"""How often as long it takes to limit what is much too long as to write it; it takes three times as long."""


def message(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def content(*asked: str, answered: str = "Yes.", **others: Any) -> Content:
    fields = {"system_instructions": [], "tool_definitions": [], **others}
    return Content([message(text) for text in asked], [message(answered, "assistant")], **fields)


def texts(attribute: str) -> list[str]:
    return [part["content"] for said in json.loads(attribute) for part in said["parts"]]


def test_what_is_short_is_recorded_as_it_is():
    left = limited(content("Hello", "Hörst du?"), 100, None)
    assert texts(left.texts[semconv.INPUT_MESSAGES]) == ["Hello", "Hörst du?"]
    assert texts(left.texts[semconv.OUTPUT_MESSAGES]) == ["Yes."]
    assert set(left.texts) == {semconv.INPUT_MESSAGES, semconv.OUTPUT_MESSAGES}
    assert left.cut == 0


def test_each_text_has_so_many_characters_and_what_is_left_out_is_counted():
    left = limited(content("x" * 25, "y" * 10, answered="z" * 12, error="e" * 11), 10, None)
    assert texts(left.texts[semconv.INPUT_MESSAGES]) == ["x" * 10, "y" * 10]
    assert texts(left.texts[semconv.OUTPUT_MESSAGES]) == ["z" * 10]
    assert left.content.error == "e" * 10
    assert left.cut == 15 + 2 + 1


def test_what_says_what_something_is_is_no_text():
    call = {
        "type": "tool_call",
        "name": "look_up_the_weather",
        "id": "call_0123456789",
        "arguments": {"where": "x" * 9},
    }
    left = limited(Content([{"role": "assistant", "parts": [call]}], [], [], []), 5, None)
    assert left.content.input == [{"role": "assistant", "parts": [{**call, "arguments": {"where": "x" * 5}}]}]


def test_of_a_long_conversation_the_oldest_messages_leave_first():
    asked = [f"{number} {'ä' * 10_000}" for number in range(40)]
    left = limited(content(*asked, system_instructions=[{"type": "text", "content": "s"}]), 20_000, None)
    kept = texts(left.texts[semconv.INPUT_MESSAGES])
    assert 5 < len(kept) < 40
    assert kept == asked[-len(kept) :]
    assert sum(len(text.encode()) for text in left.texts.values()) <= MAX_BYTES
    assert left.cut == sum(len(encode(message(text))) for text in asked[: -len(kept)])
    assert left.texts[semconv.SYSTEM_INSTRUCTIONS] == '[{"type":"text","content":"s"}]'
    assert left.content.input == [message(text) for text in kept]


def test_tools_that_leave_no_room_leave_before_what_was_said_last():
    tools = [{"type": "function", "name": f"f{number}", "description": "d" * 8000} for number in range(100)]
    left = limited(content("old", "new", tool_definitions=tools), 20_000, None)
    assert texts(left.texts[semconv.INPUT_MESSAGES])[-1] == "new"
    assert 10 < len(left.content.tool_definitions) < 100
    assert left.cut > 0


def test_a_message_that_is_too_much_by_itself_is_cut():
    left = limited(content("old", "x" * 1_000_000), 2_000_000, None)
    (text,) = texts(left.texts[semconv.INPUT_MESSAGES])
    assert len(text) > MAX_BYTES // 4
    assert left.cut >= 1_000_000 - len(text)


@given(
    st.lists(st.text(max_size=60), max_size=8),
    st.text(max_size=200),
    st.integers(1, 100),
    st.one_of(st.none(), st.integers(0, 400)),
)
def test_the_json_is_whole_whatever_the_limits(asked, answered, limit, longest):
    left = limited(content(*asked, answered=answered), limit, longest)
    for text in left.texts.values():
        assert json.loads(text)
        assert longest is None or len(text) <= longest
    assert [text for text in left.texts if not left.texts[text]] == []
    assert left.content.input == json.loads(left.texts.get(semconv.INPUT_MESSAGES, "[]"))


def test_of_what_fits_not_whole_into_an_attribute_the_newest_is_kept_in_part():
    left = limited(content("old", "x" * 500), 1000, 200)
    (text,) = texts(left.texts[semconv.INPUT_MESSAGES])
    assert set(text) == {"x"}
    assert len(text) >= 50


def test_of_a_message_of_very_many_parts_the_first_are_recorded_soon():
    said = {"role": "user", "parts": [{"type": "text", "content": f"text {number}"} for number in range(20_000)]}
    whole = Content([said], [], [], [])
    took, takes_to_write = (
        min(map(own_seconds, [work] * 3))
        for work in (lambda: limited(whole, 1000, None), lambda: encode(Plain().of(said)))
    )
    assert took < MOST_TIMES * takes_to_write
    left = limited(whole, 1000, None)
    kept = texts(left.texts[semconv.INPUT_MESSAGES])
    assert kept == [f"text {number}" for number in range(len(kept))]
    assert len(kept) > 1000
    assert 0 < left.cut < len(encode(said))
    assert len(left.texts[semconv.INPUT_MESSAGES]) <= MAX_BYTES


@pytest.mark.parametrize("arguments", [list(range(100_000)), {f"key {number}": number for number in range(50_000)}])
def test_of_a_part_that_is_long_without_a_long_text_its_beginning_is_recorded_as_text(arguments):
    part = {"type": "tool_call", "id": "call_1", "name": "add", "arguments": arguments}
    left = limited(Content([], [{"role": "assistant", "parts": [part]}], [], []), 1000, 5000)
    (message,) = json.loads(left.texts[semconv.OUTPUT_MESSAGES])
    (kept,) = message["parts"]
    assert encode(arguments).startswith(kept["arguments"])
    assert len(kept["arguments"]) > 1000
    assert {**kept, "arguments": arguments} == part


def test_of_a_tool_that_is_long_the_beginning_is_recorded():
    tool = {"type": "function", "name": "choose", "parameters": {"enum": ["word"] * 100_000}}
    left = limited(Content([], [], [], [tool]), 1000, None)
    (kept,) = json.loads(left.texts[semconv.TOOL_DEFINITIONS])
    assert kept["name"] == "choose"
    assert kept["parameters"].startswith('{"enum":["word","word"')


# --- plain JSON ---------------------------------------------------------------------------------------------


class Named(str):
    __slots__ = ()


ODD = [
    ("a\0b", "a�b"),
    ("\ud83d", "�"),
    (float("nan"), "nan"),
    (float("inf"), "inf"),
    (2**64, str(2**64)),
    (16**5000, "0x1" + "0" * 5000),
    (Named("x"), "x"),
    (b"bytes", "<bytes>"),
    (object(), "<object>"),
    ((1, None, True), [1, None, True]),
    ({1: 2}, {"1": 2}),
    ({"": 1}, {"\ufffd": 1}),
]


@pytest.mark.parametrize(("value", "expected"), ODD, ids=[repr(row[1])[:20] for row in ODD])
def test_what_json_or_a_backend_cannot_hold_is_made_fit(value, expected):
    made = Plain().of({"value": value})["value"]
    assert made == expected
    assert type(made) in (str, int, list, dict)
    assert json.loads(encode(made)) == expected


def test_a_copy_shares_nothing():
    said = {"parts": [{"content": "a"}]}
    Plain().of(said)["parts"][0]["content"] = "b"
    assert said == {"parts": [{"content": "a"}]}


def test_what_is_too_deep_is_left_out_and_nothing_else():
    deep: Any = "at the bottom"
    for _ in range(100):
        deep = [deep]
    made = Plain().of({"a": deep, "b": "there"})
    assert made["b"] == "there"
    assert "..." in encode(made)
    assert "bottom" not in encode(made)


def test_what_holds_itself_is_too_much():
    twice: list[Any] = []
    twice += [twice, twice]
    with pytest.raises(ValueError, match="too much"):
        Plain().of(twice)
