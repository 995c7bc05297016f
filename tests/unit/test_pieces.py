"""Streamed chat replies, put together: what they say is what the whole reply would have said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._models import construct_type
from openai.types.chat import ChatCompletionChunk

from otel_llm_sessions.openai.message import ASSISTANT, form_of
from otel_llm_sessions.openai.pieces import MAX_SIZE, MOST, Pieces

texts = st.text(max_size=12)
calls = st.builds(
    lambda number, name, given: {
        "id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(given)}
    },
    st.integers(0, 99), st.sampled_from(["add", "look_up"]), st.dictionaries(texts, texts, max_size=2),
)  # fmt: skip
messages = st.builds(
    lambda text, refusal, called: {
        "role": "assistant", "content": text or None,
        **({"refusal": refusal} if refusal else {}), **({"tool_calls": called} if called else {}),
    },
    texts, texts, st.lists(calls, max_size=3, unique_by=lambda call: call["id"]),
)  # fmt: skip
shapes = st.fixed_dictionaries(
    {"sizes": st.lists(st.integers(1, 5), min_size=1), "indexed": st.booleans(), "as_models": st.booleans()}
)


def deltas_of(message: dict[str, Any], sizes: list[int], indexed: bool) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": ""}
    for name in ("content", "refusal"):
        yield from ({name: piece} for piece in cut(message.get(name) or "", sizes))
    for index, call in enumerate(message.get("tool_calls", [])):
        place = {"index": index} if indexed else {}
        function = call["function"]
        yield {"tool_calls": [{**place, **call, "function": {"name": function["name"], "arguments": ""}}]}
        for piece in cut(function["arguments"], sizes):
            yield {"tool_calls": [{**place, "function": {"arguments": piece}}]}


def cut(text: str, sizes: list[int]) -> Iterator[str]:
    ends = [0]
    while ends[-1] < len(text):
        ends.append(ends[-1] + sizes[len(ends) % len(sizes)])
    yield from (text[start:end] for start, end in pairwise(ends))


def chunk_of(index: int, delta: dict[str, Any], as_models: bool = False) -> Any:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [{"index": index, "delta": delta}]}
    return ChatCompletionChunk.construct(**chunk) if as_models else chunk


@given(st.lists(messages, min_size=1, max_size=3), shapes)
@settings(max_examples=200)
def test_what_is_put_together_says_what_the_whole_reply_says(whole, shape):
    pieces = Pieces()
    for index, message in enumerate(whole):
        for delta in deltas_of(message, shape["sizes"], shape["indexed"]):
            pieces.add(chunk_of(index, delta, shape["as_models"]))
    assert [form_of(message) for message in pieces.messages()] == [form_of(message, ASSISTANT) for message in whole]


def test_what_was_read_of_a_stream_is_what_there_is():
    pieces = Pieces()
    pieces.add(chunk_of(0, {"role": "assistant", "content": "Hel"}))
    (message,) = pieces.messages()
    assert form_of(message) == ("assistant", "Hel")


def test_parallel_calls_that_a_server_gives_one_index_are_told_apart_by_their_ids():
    pieces = Pieces()
    for id_ in ("call_a", "call_b"):
        pieces.add(
            chunk_of(0, {"tool_calls": [{"index": 0, "id": id_, "function": {"name": "add", "arguments": "{}"}}]})
        )
    assert [call["id"] for call in pieces.messages()[0]["tool_calls"]] == ["call_a", "call_b"]


def test_calls_of_old_and_of_custom_tools():
    pieces = Pieces()
    pieces.add(chunk_of(0, {"function_call": {"name": "add", "arguments": '{"a"'}}))
    pieces.add(chunk_of(0, {"function_call": {"arguments": ": 1}"}}))
    pieces.add(chunk_of(0, {"tool_calls": [{"index": 0, "id": "call_1", "custom": {"name": "sh", "input": "l"}}]}))
    pieces.add(chunk_of(0, {"tool_calls": [{"index": 0, "custom": {"input": "s"}}]}))
    (message,) = pieces.messages()
    assert message["function_call"] == {"name": "add", "arguments": '{"a": 1}'}
    assert message["tool_calls"] == [{"id": "call_1", "type": "custom", "custom": {"name": "sh", "input": "ls"}}]


@pytest.mark.parametrize("made", [dict, partial(construct_type, type_=ChatCompletionChunk)])
def test_a_spoken_reply_has_its_id(made):
    pieces = Pieces()
    for audio in ({"id": "audio_1", "data": "UklG"}, {"data": "Rg=="}):
        chunk = chunk_of(0, {"content": None, "audio": audio})
        pieces.add(chunk if made is dict else made(value=chunk))
    assert pieces.messages()[0]["audio"] == {"id": "audio_1"}


ODD = [None, "", "x", 1, 1.5, True, [], {}, [None], [1], ["x"], {"a": 1}, [[]], [{}]]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "place",
    ["choices", "choice", "index", "delta", "content", "refusal", "tool_calls", "function_call", "audio", "call"],
)
def test_whatever_a_server_sends_is_survived(place, odd):
    pieces = Pieces()
    choice: Any = {
        "index": 0,
        "delta": {"content": "a", **({place: odd} if place != "call" else {"tool_calls": [odd]})},
    }
    if place in ("index", "delta"):
        choice = {**choice, place: odd}
    pieces.add({"choices": odd if place == "choices" else [odd if place == "choice" else choice]})
    pieces.add(chunk_of(0, {"content": "b"}))
    assert pieces.messages()[0]["content"][-1] == "b"


def test_a_long_reply_is_not_kept():
    pieces, text = Pieces(), "a" * (MAX_SIZE // 4)
    for _ in range(6):
        pieces.add(chunk_of(0, {"content": text}))
    assert pieces.messages() == []


def test_no_more_choices_and_calls_are_kept_than_there_can_be():
    pieces = Pieces()
    for number in range(2 * MOST):
        pieces.add(chunk_of(number, {"content": "a"}))
        pieces.add(chunk_of(0, {"tool_calls": [{"index": number, "id": f"call_{number}", "function": {"name": "f"}}]}))
    assert len(pieces.messages()) == len(pieces.messages()[0]["tool_calls"]) == MOST
