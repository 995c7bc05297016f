"""The demo's provider answers real clients as the OpenAI API does."""

import json

import openai
import pytest
from provider_kit import CHAT_TOOL, HELLO, MODEL, PARAMETERS, RAIN, Raw, chat, respond
from pydantic import BaseModel

from otel_llm_sessions.demo.provider.server import ProviderServer

RESPONSES_TOOL = {"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": False}


class Recipe(BaseModel):
    title: str
    minutes: int
    steps: list[str]


# What a reply costs


def test_a_server_that_charges_says_what_each_reply_costs(shared):
    with ProviderServer(charges=True) as server:
        client = shared.with_options(base_url=server.base_url)
        usage = chat(client).usage
        assert usage.cost == pytest.approx((usage.prompt_tokens * 0.15 + usage.completion_tokens * 0.60) / 1_000_000)
        first = respond(client)
        used = respond(client, previous_response_id=first.id).usage
        cached = used.input_tokens_details.cached_tokens
        assert cached > 0
        new = used.input_tokens - cached
        assert used.cost == pytest.approx((new * 0.15 + cached * 0.075 + used.output_tokens * 0.60) / 1_000_000)
        assert not hasattr(respond(client, extra_body={"model": "its-own"}).usage, "cost")


def test_another_says_nothing_of_it(client):
    assert not hasattr(chat(client).usage, "cost")
    assert not hasattr(respond(client).usage, "cost")


# Chat


def test_a_chat_call_is_answered_with_usage_and_a_long_id(client):
    made = chat(client)
    assert len(made.id) == len("chatcmpl-") + 29
    assert made.model == MODEL
    assert "tea" in made.choices[0].message.content
    assert made.choices[0].finish_reason == "stop"
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens > 0


def test_ids_differ_from_call_to_call(client):
    assert len({chat(client).id for _ in range(5)} | {respond(client).id for _ in range(5)}) == 10


def test_history_counts_as_cached(client):
    history = [*HELLO, {"role": "assistant", "content": "It is a leaf."}, {"role": "user", "content": "Thanks"}]
    details = chat(client, messages=history).usage.prompt_tokens_details
    assert details.cached_tokens == 5 + 4
    assert chat(client).usage.prompt_tokens_details.cached_tokens == 0


def test_a_chat_stream_gives_the_text_in_pieces_and_the_usage_last(client):
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == chat(client).choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_a_chat_stream_without_include_usage_has_none(client):
    chunks = list(chat(client, stream=True))
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_n_choices_say_different_things(client):
    choices = chat(client, n=3).choices
    assert [choice.index for choice in choices] == [0, 1, 2]
    assert len({choice.message.content for choice in choices}) == 3
    streamed = {chunk.choices[0].index for chunk in chat(client, n=3, stream=True)}
    assert streamed == {0, 1, 2}


def test_a_question_about_weather_calls_the_tool_and_its_output_is_answered(client):
    message = chat(client, messages=RAIN, tools=[CHAT_TOOL]).choices[0].message
    (call,) = message.tool_calls
    assert len(call.id) == len("call_") + 24
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Lisbon"})
    output = {"role": "tool", "tool_call_id": call.id, "content": "17 degrees"}
    history = [*RAIN, message.model_dump(exclude_none=True), output]
    after = chat(client, messages=history, tools=[CHAT_TOOL]).choices[0]
    assert after.finish_reason == "stop"
    assert "17 degrees" in after.message.content


@pytest.mark.parametrize(
    ("choice", "calls"), [("required", 1), ("auto", 0), ({"type": "function", "function": {"name": "get_weather"}}, 1)]
)
def test_tool_choice_decides_whether_a_tool_is_called(client, choice, calls):
    made = chat(client, tools=[CHAT_TOOL], tool_choice=choice).choices[0]
    assert len(made.message.tool_calls or ()) == calls
    assert made.finish_reason == ("tool_calls" if calls else "stop")


def test_a_streamed_tool_call_is_put_together_by_the_client(client):
    with client.chat.completions.stream(model=MODEL, messages=RAIN, tools=[CHAT_TOOL]) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Lisbon"}
    assert final.choices[0].finish_reason == "tool_calls"


def test_structured_output_is_valid_for_its_schema(client):
    parsed = client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Recipe)
    assert isinstance(parsed.choices[0].message.parsed, Recipe)
    assert isinstance(client.responses.parse(model=MODEL, input="x", text_format=Recipe).output_parsed, Recipe)


def test_a_gateway_takes_session_ids_anywhere_in_the_body(client, server):
    extra = {"metadata": {"litellm_session_id": "a"}, "litellm_session_id": "b", "session_id": "c"}
    chat(client, extra_body=extra)
    respond(client, extra_body=extra)
    assert [request.body.items() >= extra.items() for request in server.requests] == [True, True]


# Responses


def test_a_response_has_all_that_the_api_gives(client):
    made = respond(client, instructions="Be brief.", metadata={"a": "b"})
    assert (made.status, made.object, made.model) == ("completed", "response", MODEL)
    assert (made.instructions, made.metadata) == ("Be brief.", {"a": "b"})
    assert len(made.id) == len("resp_") + 48
    assert made.output[0].id.startswith("msg_")
    assert "tea" in made.output_text
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens
    assert (made.usage.input_tokens_details.cached_tokens, made.usage.output_tokens_details.reasoning_tokens) == (0, 0)


def test_a_reasoning_model_spends_tokens_on_thought(client):
    usage = client.responses.create(model="gpt-5-mini", input="Hi").usage
    assert 0 < usage.output_tokens_details.reasoning_tokens < usage.output_tokens


def test_a_response_stream_has_the_full_sequence_of_events(client):
    events = list(respond(client, stream=True))
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    final = events[-1].response
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == final.output_text
    assert events[0].response.id == final.id
    assert (events[0].response.usage, events[0].response.output) == (None, [])


def test_a_function_call_in_a_response_is_streamed_and_its_output_answered(client):
    with client.responses.stream(model=MODEL, input="Weather in Oslo please", tools=[RESPONSES_TOOL]) as stream:
        made = stream.get_final_response()
    (call,) = made.output
    assert (call.type, json.loads(call.arguments)) == ("function_call", {"city": "Oslo"})
    assert call.id.startswith("fc_")
    assert len(call.call_id) == len("call_") + 24
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "3 degrees"}
    after = respond(client, input=[output], previous_response_id=made.id, tools=[RESPONSES_TOOL])
    assert "3 degrees" in after.output_text


def test_a_chain_goes_on_and_its_context_counts_as_cached(client):
    first = respond(client)
    second = respond(client, previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens_details.cached_tokens == first.usage.total_tokens


def test_an_unknown_previous_response_is_refused_as_openai_does(client):
    with pytest.raises(openai.BadRequestError) as refused:
        respond(client, previous_response_id="resp_nobody")
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")
    assert refused.value.body["message"] == "Previous response with id 'resp_nobody' not found."
    assert refused.value.type == "invalid_request_error"


def test_a_response_that_is_not_stored_is_not_remembered(client):
    made = respond(client, store=False)
    with pytest.raises(openai.BadRequestError):
        respond(client, previous_response_id=made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_stored_response_is_retrieved_replayed_and_deleted(client):
    made = respond(client)
    assert client.responses.retrieve(made.id).output_text == made.output_text
    assert client.responses.input_items.list(made.id).data[0].content[0].text == "Tell me about tea."
    replay = list(client.responses.retrieve(made.id, stream=True, starting_after=3))
    assert replay[0].sequence_number == 4
    assert replay[-1].response.id == made.id
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_background_response_is_queued_in_progress_and_then_complete(client):
    queued = respond(client, background=True)
    assert (queued.status, queued.output, queued.usage) == ("queued", [], None)
    fetched = [client.responses.retrieve(queued.id) for _ in range(3)]
    assert [each.status for each in fetched] == ["in_progress", "completed", "completed"]
    assert {each.id for each in fetched} == {queued.id}
    assert (fetched[0].output, fetched[0].usage) == ([], None)
    assert fetched[1].output_text
    streamed = respond(client, background=True)
    assert list(client.responses.retrieve(streamed.id, stream=True))[-1].type == "response.completed"


@pytest.mark.parametrize(
    "arguments", [{"background": True, "store": False}, {"conversation": "c", "previous_response_id": "resp_1"}]
)
def test_parameters_that_do_not_go_together_are_refused(client, arguments):
    with pytest.raises(openai.BadRequestError):
        respond(client, **arguments)


def test_a_background_response_can_be_cancelled(client):
    queued = respond(client, background=True)
    assert client.responses.cancel(queued.id).status == "cancelled"
    assert client.responses.retrieve(queued.id).status == "cancelled"


def test_a_background_stream_says_that_it_was_queued(client):
    kinds = [event.type for event in respond(client, background=True, stream=True)]
    assert kinds[:3] == ["response.created", "response.queued", "response.in_progress"]


def test_compacting_keeps_what_the_user_said(client):
    made = client.responses.compact(model=MODEL, input=[{"role": "user", "content": "Remember the tea."}])
    assert made.object == "response.compaction"
    assert [item.type for item in made.output] == ["message", "compaction"]
    assert made.usage.total_tokens > 0
    with pytest.raises(openai.BadRequestError):
        client.responses.compact(model=MODEL, previous_response_id="resp_nobody")


@pytest.mark.parametrize("stream", [False, True])
def test_a_long_context_is_compacted_where_the_request_says_so(client, stream):
    rule = {"type": "compaction", "compact_threshold": 10}

    def ask(text: str, **arguments: object) -> list[str]:
        made = respond(client, input=text, context_management=[rule], stream=stream, **arguments)
        made = list(made)[-1].response if stream else made
        ids.append(made.id)
        return [item.type for item in made.output]

    ids: list[str] = []
    assert ask("Tea?") == ["message"]
    assert ask("Tell me more about it, please.", previous_response_id=ids[0]) == ["compaction", "message"]


# Conversations, models, embeddings


@pytest.mark.parametrize("form", [lambda talk: talk.id, lambda talk: {"id": talk.id}])
def test_a_conversation_gathers_what_is_said_in_it(client, form):
    talk = client.conversations.create(metadata={"a": "b"}, items=[{"role": "user", "content": "Before"}])
    made = respond(client, conversation=form(talk))
    assert made.conversation.id == talk.id
    client.conversations.items.create(talk.id, items=[{"role": "user", "content": "After"}])
    items = list(client.conversations.items.list(talk.id, order="asc", limit=2))
    said = [item.content[0].text for item in items]
    assert said == ["Before", "Tell me about tea.", made.output_text, "After"]
    assert [item.id for item in client.conversations.items.list(talk.id)] == [item.id for item in reversed(items)]


def test_items_of_a_conversation_are_shown_deleted_and_taken_twenty_at_a_time(client):
    said = [{"role": "user", "content": str(number)} for number in range(21)]
    talk = client.conversations.create(items=said[:1])
    (item,) = client.conversations.items.list(talk.id)
    assert client.conversations.items.retrieve(item.id, conversation_id=talk.id).id == item.id
    assert client.conversations.items.delete(item.id, conversation_id=talk.id).id == talk.id
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve(item.id, conversation_id=talk.id)
    with pytest.raises(openai.BadRequestError):
        client.conversations.items.create(talk.id, items=said)
    client.conversations.items.create(talk.id, items=said[:20])
    assert len(list(client.conversations.items.list(talk.id, limit=7))) == 20


def test_a_conversation_that_this_server_did_not_make_is_not_found(client):
    with pytest.raises(openai.NotFoundError):
        respond(client, conversation="conv_nobody")
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.list("conv_nobody")
    assert respond(client, conversation="thread-of-a-gateway").conversation.id == "thread-of-a-gateway"


def test_a_conversation_can_be_shown_changed_and_deleted(client):
    talk = client.conversations.create()
    assert client.conversations.update(talk.id, metadata={"a": "b"}).metadata == {"a": "b"}
    assert client.conversations.retrieve(talk.id).metadata == {"a": "b"}
    assert client.conversations.delete(talk.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(talk.id)


def test_models_are_listed(client):
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_depend_on_the_text(server, client, encoding):
    made = client.embeddings.create(model="e", input=["a", "b", "a"], dimensions=4, encoding_format=encoding)
    vectors = [entry.embedding for entry in made.data]
    assert vectors[0] == vectors[2] != vectors[1]
    assert made.usage.total_tokens == 3


def test_azure_names_the_model_in_the_path(server):
    with openai.AzureOpenAI(
        azure_endpoint=server.azure_endpoint, api_version="2025-03-01-preview", api_key="any", max_retries=0
    ) as azure:
        assert chat(azure).model == MODEL
        assert respond(azure).status == "completed"
    paths = [request.path for request in server.requests]
    assert paths == [f"/openai/deployments/{MODEL}/chat/completions", "/openai/responses"]
    assert server.requests[0].query == {"api-version": "2025-03-01-preview"}
    with Raw(server, "/openai/deployments/mine/chat/completions", {"messages": HELLO}) as reply:
        assert json.loads(reply.read())["model"] == "mine"


def test_a_model_is_required_unless_a_prompt_brings_it(server):
    with Raw(server, body={"input": "Hi"}) as reply:
        assert (reply.status, json.loads(reply.read())["error"]["param"]) == (400, "model")
    with Raw(server, body={"prompt": {"id": "pmpt_1"}}) as reply:
        assert json.loads(reply.read())["prompt"] == {"id": "pmpt_1"}


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/v1/nothing", 404), ("GET", "/v1/embeddings", 405), ("GET", "/", 404)]
)
def test_a_wrong_url_is_refused(server, method, path, status):
    with Raw(server, path, method=method) as reply:
        assert reply.status == status
        assert "Invalid URL" in json.loads(reply.read())["error"]["message"]


def test_a_body_that_is_no_json_object_is_refused(server):
    with Raw(server, body=["a list"]) as reply:
        assert reply.status == 400


@pytest.mark.parametrize(
    ("path", "odd"),
    [
        ("/v1/embeddings", {"input": "a", "dimensions": -1}),
        ("/v1/embeddings", {"input": "a", "dimensions": "many"}),
        ("/v1/responses", {"text": {"format": {"type": "json_schema", "schema": {"type": "array", "minItems": "a"}}}}),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(server, path, odd):
    with Raw(server, path, {"model": MODEL, **odd}) as reply:
        assert reply.status == 400
