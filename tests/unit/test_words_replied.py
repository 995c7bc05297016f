"""What a reply says, in the conventions' form: whole, streamed, cut short, odd."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, get_args

import pytest
from conventions_kit import assert_output
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._models import construct_type
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from test_pieces import chunk_of, deltas_of, messages, shapes
from test_words_asked import PNG, odd, text

from otel_llm_sessions.demo.provider.events import events
from otel_llm_sessions.openai.chunks import SEE_CHUNK
from otel_llm_sessions.openai.evidence import LEFT
from otel_llm_sessions.openai.response import Reply, read_reply
from otel_llm_sessions.openai.routes import CHAT, RESPONSES
from otel_llm_sessions.openai.words.events import MAX_SIZE, Events
from otel_llm_sessions.openai.words.replied import replied

Json = dict[str, Any]


def empty(route: Any, **more: Any) -> Reply:
    return Reply(route, leaves=LEFT[route.api], **{"is_recorded": True, **more})


def said_by(reply: Reply) -> list[Json]:
    said = replied(reply)
    assert_output(said)
    return said


def whole(value: Any, route: Any = CHAT) -> list[Json]:
    reply = empty(route)
    read_reply(reply, value)
    return said_by(reply)


def streamed(chunks: Iterable[Any], route: Any = CHAT, cut_short: bool = False) -> list[Json]:
    reply = empty(route)
    for chunk in chunks:
        SEE_CHUNK[route.api](reply, chunk)
        assert not reply.completes(chunk)  # what is recorded is no evidence by that
    if cut_short:
        reply.cut_short()
    return said_by(reply)


def choice(message: Json, reason: str | None = "stop", index: int = 0) -> Json:
    return {"index": index, "finish_reason": reason, "message": {"role": "assistant", **message}}


def delta(reason: str | None = None, **said: Any) -> Json:
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": said, "finish_reason": reason}]}


def output(*parts: Json, reason: str | None = "stop") -> list[Json]:
    message = {"role": "assistant", "parts": [*parts]}
    return [message if reason is None else {**message, "finish_reason": reason}]


# --- chat -----------------------------------------------------------------------------------------------------


def test_each_choice_is_a_message_with_its_reason() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    reply = {"id": "chatcmpl-1", "choices": [
        choice({"content": "Hi"}), choice({"content": None, "tool_calls": [call]}, "tool_calls", 1),
    ]}  # fmt: skip
    called = {"type": "tool_call", "id": "call_1", "name": "add", "arguments": {"a": 1}}
    expected = [*output(text("Hi")), *output(called, reason="tool_call")]
    assert whole(reply) == whole(construct_type(type_=ChatCompletion, value=reply)) == expected


@given(st.lists(messages, min_size=1, max_size=3), shapes)
@settings(max_examples=100)
def test_a_stream_says_what_the_whole_reply_says(given: Any, shape: Any) -> None:
    chunks = [
        chunk_of(index, said, shape["as_models"])
        for index, message in enumerate(given)
        for said in deltas_of(message, shape["sizes"], shape["indexed"])
    ]
    expected = whole({"choices": [choice(message, None, index) for index, message in enumerate(given)]})
    assert streamed(chunks) == expected


@pytest.mark.parametrize("as_models", [False, True])
def test_reasoning_sounds_images_and_sources_are_put_together(as_models: bool) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    chunks = [
        delta(role="assistant", content="", reasoning_content="H"),
        delta(reasoning_content="m."),
        delta(content="Y"),
        delta(audio={"id": "audio_1", "data": base64.b64encode(b"ab").decode(), "transcript": "Y"}),
        delta(content="es", audio={"data": base64.b64encode(b"c").decode(), "transcript": "es"}),
        delta(images=[image], annotations=[{"type": "url_citation", "url": "u"}]),
        delta("stop"),
    ]
    given = [construct_type(type_=ChatCompletionChunk, value=chunk) if as_models else chunk for chunk in chunks]
    assert streamed(given) == output(
        {"type": "reasoning", "content": "Hm."},
        {**text("Yes"), "annotations": [{"type": "url_citation", "url": "u"}]},
        {"type": "blob", "modality": "image", "mime_type": "image/png", "size": 1280},
        {"type": "blob", "modality": "audio", "mime_type": None, "size": 3, "transcript": "Yes"},
    )


def test_thoughts_that_come_in_pieces_within_the_content_are_one() -> None:
    chunks = [
        delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": piece}]}]) for piece in ("H", "m.")
    ]
    assert streamed([*chunks, delta(content="Y"), delta(content="es"), delta("stop")]) == output(
        {"type": "reasoning", "content": "Hm."}, text("Yes")
    )


def test_details_of_reasoning_that_come_in_pieces_are_one() -> None:
    chunks = [delta(reasoning_details=[{"type": "reasoning.text", "text": piece, "index": 0}]) for piece in ("H", "m.")]
    assert streamed([*chunks, delta("stop", content="Yes")]) == output(
        {"type": "reasoning", "content": "Hm."}, text("Yes")
    )


def test_a_stream_that_is_cut_short_says_what_was_read_of_it() -> None:
    assert streamed([delta(content="Hel")], cut_short=True) == output(text("Hel"), reason="error")


def test_a_stream_that_no_reply_came_of_says_nothing() -> None:
    assert streamed([]) == streamed([{"error": {"message": "x"}}]) == whole("<html>") == whole(None) == []


@pytest.mark.parametrize(
    ("odd_choice", "expected"),
    [
        ({"index": 0, "finish_reason": "stop"}, output()),
        ({"index": 0, "finish_reason": "stop", "message": None}, output()),
        ({"index": 0, "finish_reason": "", "message": {"content": "Hi"}}, output(text("Hi"), reason=None)),
        ({"finish_reason": "eos", "message": {"content": [{"type": "text", "text": "Hi"}]}},
         output(text("Hi"), reason="eos")),
        ({"finish_reason": "stop", "delta": {"content": "Hi"}}, output(text("Hi"))),
        ({"finish_reason": "stop", "message": "Hi"}, output(text("Hi"))),
        ({"finish_reason": "stop", "message": {"content": "Hi", "hologram": {"x": 1}}},
         output(text("Hi"), {"type": "hologram", "x": 1})),
    ],
)  # fmt: skip
def test_odd_choices_say_what_they_say(odd_choice: Json, expected: Any) -> None:
    assert whole({"id": "chatcmpl-1", "choices": [odd_choice]}) == expected


def test_what_is_recorded_is_evidence_only_where_histories_are() -> None:
    reply = empty(CHAT, has_words=True)
    for chunk in (delta(content="Hi"), delta("stop")):
        SEE_CHUNK[CHAT.api](reply, chunk)
        is_complete = reply.completes(chunk)
    assert is_complete and reply.messages() == [{"role": "assistant", "content": ["Hi"]}]
    assert said_by(reply) == output(text("Hi"))


def test_nothing_is_kept_of_a_stream_of_which_nothing_is_recorded() -> None:
    assert Reply(CHAT).pieces is None and Reply(RESPONSES).pieces is None


# --- Responses ------------------------------------------------------------------------------------------------


def response(*items: Json, status: str = "completed") -> Json:
    return {"id": "resp_1", "model": "m", "status": status, "background": False, "output": [*items]}


MESSAGE = {
    "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
    "content": [{"type": "output_text", "text": "It is three of course.", "annotations": []}],
}  # fmt: skip
CALL = {
    "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "add", "arguments": '{"a": 1, "b": 2}',
    "status": "completed",
}  # fmt: skip
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}}
CALLED = {"type": "tool_call", "id": "call_1", "name": "add", "arguments": {"a": 1, "b": 2}}
SEARCHED = {
    "type": "server_tool_call", "id": "ws_1", "name": "web_search",
    "server_tool_call": {"type": "web_search", "action": {"type": "search", "query": "x"}},
}  # fmt: skip
EXPECTED = output(SEARCHED, text("It is three of course."), CALLED, reason="tool_call")


def event(said: Json) -> Any:
    return construct_type(type_=get_args(ResponseStreamEvent)[0], value=said)


def test_a_response_is_one_message_of_all_its_items() -> None:
    made = response(SEARCH, MESSAGE, CALL)
    assert whole(made, RESPONSES) == whole(construct_type(type_=Response, value=made), RESPONSES) == EXPECTED


@pytest.mark.parametrize("as_models", [False, True])
@pytest.mark.parametrize("is_lost", [False, True])
def test_a_streamed_response_says_the_same_also_where_its_last_event_brings_no_output(
    as_models: bool, is_lost: bool
) -> None:
    made = events(response(SEARCH, MESSAGE, CALL))
    if is_lost:
        made[-1] = {**made[-1], "response": response()}
    said = streamed([event(each) for each in made] if as_models else made, RESPONSES)
    assert [message["parts"] for message in said] == [message["parts"] for message in EXPECTED]


@pytest.mark.parametrize("as_models", [False, True])
def test_of_a_response_that_is_cut_short_there_are_the_items_so_far_and_the_last_in_part(as_models: bool) -> None:
    made = events(response(SEARCH, MESSAGE, CALL))
    for count in range(len(made)):
        heard = made[:count]
        said = streamed([event(each) for each in heard] if as_models else heard, RESPONSES, cut_short=True)
        words = "".join(each["delta"] for each in heard if each["type"] == "response.output_text.delta")
        pieces = "".join(each["delta"] for each in heard if each["type"] == "response.function_call_arguments.delta")
        parts = said[0]["parts"] if said else []
        assert all(message["finish_reason"] == "error" for message in said)
        assert [part["content"] for part in parts if part["type"] == "text"] == ([words] if words else [])
        called = [part["arguments"] for part in parts if part["type"] == "tool_call" and part["arguments"]]
        assert called == ([CALLED["arguments"]] if pieces == CALL["arguments"] else [pieces] if pieces else [])


@pytest.mark.parametrize(
    ("kind", "said", "part"),
    [
        ("response.refusal.delta", {"content_index": 0}, {"type": "refusal", "content": "ab"}),
        ("response.reasoning_text.delta", {"content_index": 0}, {"type": "reasoning", "content": "ab"}),
        ("response.reasoning_summary_text.delta", {"summary_index": 0}, {"type": "reasoning", "content": "ab"}),
        ("response.custom_tool_call_input.delta", {}, {"type": "tool_call", "id": None, "name": "", "arguments": "ab"}),
        ("response.mcp_call_arguments.delta", {},
         {"type": "server_tool_call", "id": None, "name": "mcp",
          "server_tool_call": {"type": "mcp", "arguments": "ab"}}),
        ("response.code_interpreter_call_code.delta", {},
         {"type": "server_tool_call", "id": None, "name": "code_interpreter",
          "server_tool_call": {"type": "code_interpreter", "code": "ab"}}),
        ("response.hologram.delta", {}, {"type": "hologram", "hologram": "ab"}),
    ],
)  # fmt: skip
def test_pieces_of_items_that_never_began_are_put_together_too(kind: str, said: Json, part: Json) -> None:
    made = [{"type": kind, "output_index": 0, "delta": piece, **said} for piece in ("a", "b")]
    assert streamed(made, RESPONSES, cut_short=True) == output(part, reason="error")


def test_a_response_that_failed_says_what_it_had_made() -> None:
    assert whole(response(MESSAGE, status="failed"), RESPONSES) == output(
        text("It is three of course."), reason="error"
    )


def test_pieces_of_an_item_are_let_go_when_it_is_done_and_none_are_kept_beyond_a_size() -> None:
    heard, piece = Events(), "a" * (MAX_SIZE // 4)
    for place in range(8):
        for _ in range(3):
            heard.add({"type": "response.output_text.delta", "output_index": place, "content_index": 0, "delta": piece})
        heard.add(
            {"type": "response.output_item.done", "output_index": place, "item": {"type": "message", "content": []}}
        )
    assert not heard._pieces and not heard._size
    for _ in range(8):
        heard.add({"type": "response.output_text.delta", "output_index": 9, "content_index": 0, "delta": piece})
    assert sum(map(len, heard._pieces[9, "response.output_text.delta", 0])) <= MAX_SIZE + len(piece)


# --- whatever it is -------------------------------------------------------------------------------------------

event_kinds = st.sampled_from(
    [f"response.output_item.{end}" for end in ("added", "done")]
    + [f"response.{kind}.delta" for kind in ("output_text", "function_call_arguments", "reasoning_text", "x")]
    + ["response.completed", "response.created", "error"]
)
odd_events = st.fixed_dictionaries(
    {}, optional={"type": event_kinds | odd, "output_index": odd | st.integers(0, 3), "content_index": odd, "item": odd,
                  "delta": odd | st.text(max_size=5), "response": odd | st.fixed_dictionaries({"output": odd})},
)  # fmt: skip
odd_chunks = st.fixed_dictionaries(
    {}, optional={"id": odd, "choices": odd | st.lists(st.fixed_dictionaries({}, optional={
        "index": odd | st.integers(0, 3), "delta": odd, "message": odd, "finish_reason": odd}), max_size=3)},
)  # fmt: skip


@given(st.lists(odd_chunks, max_size=4))
def test_whatever_chunks_hold_their_words_are_as_the_conventions_say(chunks: Any) -> None:
    reply = empty(CHAT)
    for chunk in chunks:
        reply.completes(chunk)
        SEE_CHUNK[CHAT.api](reply, chunk)
        said_by(reply)
    for chunk in chunks:
        whole(chunk)


@given(st.lists(odd_events | odd, max_size=4))
def test_whatever_events_hold_their_words_are_as_the_conventions_say(given: Any) -> None:
    reply = empty(RESPONSES)
    for each in given:
        SEE_CHUNK[RESPONSES.api](reply, each)
        reply.completes(each)
        said_by(reply)
        if isinstance(each, dict) and isinstance(each.get("response"), dict):
            whole(each["response"], RESPONSES)
