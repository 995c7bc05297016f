"""What is read of a reply, from models, dicts and anything else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseCompletedEvent

from otel_llm_sessions import semconv
from otel_llm_sessions.openai.chunks import see_chat_chunk, see_response_event
from otel_llm_sessions.openai.fields import Fields, field
from otel_llm_sessions.openai.response import Reply, read_reply
from otel_llm_sessions.openai.routes import CHAT, FETCH, RESPONSES


def whole(value: Any, route: Any = CHAT) -> Reply:
    reply = Reply(route)
    read_reply(reply, value)
    return reply


def chat(**fields: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, "finish_reason": "stop"}], **fields}


def response(**fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "model": "m", "status": "completed", "output": [], **fields}


class Exploding:
    """A value whose attributes cannot be read."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"id": 1}, 1),
        ({}, None),
        (SimpleNamespace(id=1), 1),
        (SimpleNamespace(), None),
        (None, None),
        ("text", None),
        (3, None),
        ([], None),
        (Exploding(), None),
        (ChatCompletion.construct(id=1), 1),
        (ChatCompletion.construct(), None),
        (type("Sub", (dict,), {})(id=1), 1),
    ],
)
def test_a_field_of_whatever_it_is(value, found):
    assert field(value, "id") == found


def test_fields_that_the_model_does_not_know():
    """Old clients keep what they do not know as plain dicts among pydantic's extras."""
    details = {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 3}}
    model = SimpleNamespace(__pydantic_extra__={}, id="a")
    model.usage = details
    attributes = whole(model).final_attributes()
    assert attributes[semconv.USAGE_CACHE_READ_INPUT_TOKENS] == 3
    extra = ChatCompletion.construct(id="a", prompt_cache={"x": 1})
    assert field(extra, "prompt_cache") == {"x": 1}


@pytest.mark.parametrize("build", [dict, ChatCompletion.construct], ids=["dict", "model"])
def test_models_and_dicts_read_alike(build):
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 2}}
    attributes = whole(build(**chat(usage=usage, service_tier="flex", system_fingerprint="fp"))).final_attributes()
    assert attributes == {
        semconv.RESPONSE_ID: "chatcmpl-1",
        semconv.RESPONSE_MODEL: "m",
        semconv.OPENAI_RESPONSE_SERVICE_TIER: "flex",
        semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT: "fp",
        semconv.RESPONSE_FINISH_REASONS: ["stop"],
        semconv.USAGE_INPUT_TOKENS: 5,
        semconv.USAGE_OUTPUT_TOKENS: 7,
        semconv.USAGE_REASONING_OUTPUT_TOKENS: 2,
    }


@pytest.mark.parametrize("count", [True, 5.0, "5", None, [5], {}])
def test_counts_that_are_no_whole_numbers_are_left_out(count):
    usage = {"prompt_tokens": count, "prompt_tokens_details": {"cached_tokens": count}}
    assert not any(name.startswith("gen_ai.usage") for name in whole(chat(usage=usage)).final_attributes())


def test_a_fetched_response_carries_no_usage():
    usage = {"input_tokens": 5, "output_tokens": 7}
    made = whole(response(usage=usage), RESPONSES).final_attributes()
    fetched = whole(response(usage=usage), FETCH).final_attributes()
    assert made[semconv.USAGE_INPUT_TOKENS] == 5
    assert not any(name.startswith("gen_ai.usage") for name in fetched)


def test_a_fetched_failure_is_no_failure_of_the_fetch():
    reply = whole(response(status="failed", error={"code": "server_error"}), FETCH)
    assert reply.error_type is None
    assert reply.final_attributes()[semconv.RESPONSE_STATUS] == "failed"


@pytest.mark.parametrize("value", [None, "", "text", b"", b"\x00"])
def test_what_is_no_reply(value):
    reply = whole(value)
    assert reply.error_type == "invalid_response"
    assert reply.final_attributes() == {}


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        (["a", "a", "a"], ["a"]),
        (["", None, 3, "a"], ["a"]),
        (["a", "b", "c"], ["a", "b", "c"]),
        (["a", "b", "a"], ["b", "a"]),
        (["a", ""], ["a"]),
    ],
)
def test_ids_of_one_stream(ids, kept):
    reply = Reply(CHAT)
    for id_ in ids:
        see_chat_chunk(reply, {"id": id_, "choices": []})
    assert reply.ids == kept


def test_a_chunk_says_whether_its_id_is_new():
    reply = Reply(CHAT)
    chunk = ChatCompletionChunk.construct(id="a", choices=[], usage=None)
    assert see_chat_chunk(reply, chunk)
    assert not see_chat_chunk(reply, chunk)


def test_several_choices_in_one_stream():
    reply = Reply(CHAT)
    for index, reason in [(0, None), (1, None), (1, "length"), (0, "stop")]:
        see_chat_chunk(reply, chat(choices=[{"index": index, "finish_reason": reason}]))
    assert reply.final_attributes()[semconv.RESPONSE_FINISH_REASONS] == ["stop", "length"]


def test_choices_cut_short_end_with_an_error():
    reply = Reply(CHAT)
    for index, reason in [(0, None), (1, "stop")]:
        see_chat_chunk(reply, chat(choices=[{"index": index, "finish_reason": reason}]))
    reply.cut_short()
    assert reply.final_attributes()[semconv.RESPONSE_FINISH_REASONS] == ["error", "stop"]


def test_a_background_response_is_not_cut_short():
    reply = Reply(RESPONSES)
    see_response_event(reply, {"type": "response.created", "response": response(status="in_progress", background=True)})
    reply.cut_short()
    assert semconv.RESPONSE_FINISH_REASONS not in reply.final_attributes()


@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, ["length"]),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, ["content_filter"]),
        ({"status": "incomplete", "incomplete_details": {"reason": 3}}, ["incomplete"]),
        ({"status": "cancelled"}, ["cancelled"]),
        ({"status": "failed"}, ["error"]),
        ({"output": [{"type": "message"}]}, ["stop"]),
        ({"output": [{"type": "message"}, {"type": "function_call"}]}, ["tool_calls"]),
        ({"output": [{"type": ["message"]}]}, ["stop"]),
        ({"output": None}, None),
        ({"status": "queued"}, None),
        ({"status": None}, None),
        ({"status": ["x"]}, None),
    ],
)
def test_why_a_response_ended(fields, reasons):
    found = whole(response(**fields), RESPONSES).final_attributes().get(semconv.RESPONSE_FINISH_REASONS)
    assert found == reasons


@pytest.mark.parametrize("made", [dict, SimpleNamespace])
def test_a_whole_response_as_a_dict_in_an_event(made):
    """openai 1.66 leaves now and then a whole ``event.response`` a plain dict."""
    reply = Reply(RESPONSES)
    usage = {"input_tokens": 1, "input_tokens_details": {"cached_tokens": 1}}
    see_response_event(reply, made(type="response.completed", response=response(usage=usage)))
    attributes = reply.final_attributes()
    assert attributes[semconv.RESPONSE_ID] == "resp_1"
    assert attributes[semconv.USAGE_CACHE_READ_INPUT_TOKENS] == 1


def test_events_as_models():
    reply = Reply(RESPONSES)
    event = ResponseCompletedEvent.construct(type="response.completed", response=Response.construct(**response()))
    assert see_response_event(reply, event)
    assert reply.status == "completed"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "rate_limit"}, "rate_limit"),
        ({"code": 503}, "503"),
        ({"code": True, "type": "busy"}, "busy"),
        ({"code": "", "type": ""}, "_OTHER"),
        ({"message": "secret"}, "_OTHER"),
        ("secret text", "_OTHER"),
        ([1], "_OTHER"),
        (None, None),
        ({}, None),
        ("", None),
    ],
)
def test_errors_by_their_code_never_by_their_text(error, kind):
    assert whole({"error": error}).error_type == kind
    assert whole({"error": error}, RESPONSES).error_type == kind


near = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "type", "choices", "usage", "status", "error", "code", "response", "output", "index"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=10,
)


@pytest.mark.parametrize("route", [CHAT, RESPONSES, FETCH])
@given(values=st.lists(near, max_size=4))
def test_anything_at_all(route, values):
    reply = whole(values[0] if values else None, route)
    for value in values:
        see_chat_chunk(reply, value)
        see_response_event(reply, value)
    reply.cut_short()
    for value in reply.final_attributes().values():
        assert isinstance(value, (str, int)) or all(isinstance(reason, str) for reason in value)
    assert reply.error_type is None or isinstance(reply.error_type, str)


@pytest.mark.parametrize(
    "value",
    [
        {"id": 1, "usage": None, "odd": 2},
        {},
        SimpleNamespace(id=1, odd=2),
        ChatCompletion.construct(id=1, odd=2),  # of which the model does not know one
        ChatCompletion.construct(id=1),
        type("Sub", (dict,), {})(id=1),
        Exploding(),
        None,
        "text",
        [],
    ],
    ids=lambda value: type(value).__name__,
)
def test_several_fields_are_read_as_each_by_itself(value):
    names = ("id", "usage", "odd")
    assert Fields(*names).of(value) == tuple(field(value, name) for name in names)


@pytest.mark.parametrize("odd", [[], {}, ["m"], 1, True, "", "\udc00", "a\0b", "x" * 10_000, None], ids=ascii)
@pytest.mark.parametrize("name", ["model", "service_tier", "system_fingerprint"])
def test_the_texts_of_a_reply_are_the_same_the_second_time(name, odd):
    first, second = (dict(whole(chat(**{name: odd})).attributes) for _ in range(2))
    assert first == second
    assert all(type(text) is str and text.isprintable() and 0 < len(text) <= 256 for text in first.values())


def test_the_attributes_of_one_reply_are_none_of_the_next():
    whole(chat()).attributes["gen_ai.response.model"] = "changed"
    assert whole(chat()).attributes["gen_ai.response.model"] == "m"
