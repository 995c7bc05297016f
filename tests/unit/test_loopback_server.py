"""The loopback server answers real clients as the OpenAI API does, and raw ones byte for byte."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import quote, urlsplit

import openai
import pytest
from loopback import LoopbackServer
from pydantic import BaseModel

from otel_llm_sessions.demo.provider.schema import Example

MODEL = "gpt-4o-mini"
HELLO = [{"role": "user", "content": "Tell me about tea."}]
RAIN = [{"role": "user", "content": "What is the weather in Lisbon?"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHAT_TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
RESPONSES_TOOL = {"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": False}


class Recipe(BaseModel):
    title: str
    minutes: int
    steps: list[str]


@pytest.fixture
def server():
    with LoopbackServer() as running:
        yield running


@pytest.fixture(scope="module")
def shared():
    with openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="any", max_retries=0, timeout=10) as made:
        yield made


@pytest.fixture
def client(server, shared):
    return shared.with_options(base_url=server.base_url)  # making a client anew takes longer than most tests


def mode(text, **more):
    return {"x-loopback-mode": text, **more}


def chat(client, asked="", messages=HELLO, **given):
    return client.chat.completions.create(model=MODEL, messages=messages, extra_headers=mode(asked), **given)


def respond(client, asked="", **given):
    given.setdefault("input", "Tell me about tea.")
    return client.responses.create(model=MODEL, extra_headers=mode(asked), **given)


class Raw:
    """A request without a client library: status, headers and the exact body that came back."""

    def __init__(self, server, path="/v1/responses", body=None, headers=None, method="POST"):
        self.connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=10)
        payload = {"model": MODEL, "input": "Hi", "messages": HELLO} if body is None else body
        self.connection.request(method, path, json.dumps(payload), headers or {})

    def __enter__(self):
        self.reply = self.connection.getresponse()
        return self.reply

    def __exit__(self, *_):
        self.reply.close()
        self.connection.close()


def raw_stream(server, asked, path="/v1/responses"):
    body = {"model": MODEL, "input": "Hi", "messages": HELLO, "stream": True}
    with Raw(server, path, body, mode(asked)) as reply:
        return reply.read()


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
    assert all(request.body.items() >= extra.items() for request in server.requests)


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


def test_a_background_response_is_queued_and_completed_when_it_is_fetched(client):
    queued = respond(client, background=True)
    assert (queued.status, queued.output, queued.usage) == ("queued", [], None)
    fetched = client.responses.retrieve(queued.id)
    assert (fetched.status, fetched.id) == ("completed", queued.id)
    assert fetched.output_text


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


# Modes


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_mode_status(client, status, error):
    with pytest.raises(error) as failed:
        chat(client, f"status={status}")
    assert failed.value.status_code == status
    assert failed.value.body["message"]
    assert failed.value.response.headers.get("retry-after-ms") == ("1" if status >= 429 else None)


def test_mode_fail_first_fails_that_often_for_each_key(client, server):
    for key in ("one", "two"):
        headers = mode("fail_first=2", **{"x-loopback-key": key})
        retrying = client.with_options(max_retries=2)
        retrying.chat.completions.create(model=MODEL, messages=HELLO, extra_headers=headers)
    assert len(server.requests) == 6


def test_modes_html_empty_and_json(server):
    with Raw(server, headers=mode("html")) as reply:
        assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert b"<html>" in reply.read()
    with Raw(server, headers=mode("empty")) as reply:
        assert (reply.status, reply.read()) == (200, b"")
    odd = '{"choices": null, "x": "ä,b"}'
    with Raw(server, headers=mode(f"json={quote(odd)}")) as reply:
        assert reply.read().decode() == odd


def test_mode_delay(client):
    started = time.monotonic()
    chat(client, "delay=0.05")
    assert time.monotonic() - started >= 0.05


def test_mode_close_answers_nothing(client, server):
    with pytest.raises(openai.APIConnectionError):
        chat(client, "close")
    assert len(server.requests) == 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_mode_break_sends_so_many_events_and_no_end(server, path):
    with pytest.raises(http.client.IncompleteRead) as cut:
        raw_stream(server, "break=3", path)
    assert cut.value.partial.count(b"data: ") == 3


def test_mode_break_cuts_a_plain_reply_in_half(client, server):
    with pytest.raises(http.client.IncompleteRead), Raw(server, headers=mode("break=0")) as reply:
        reply.read()
    with pytest.raises(openai.APIConnectionError):
        respond(client, "break=1")


def test_mode_error_event(client, server):
    assert raw_stream(server, "error_event=2").count(b"event: ") == 3
    last = raw_stream(server, "error_event=2").split(b"\n\n")[-2]
    assert last.startswith(b'event: error\ndata: {"type": "error", ')
    event = list(respond(client, "error_event=2", stream=True))[-1]
    assert (event.type, event.code, event.sequence_number) == ("error", "server_error", 2)
    chat_bytes = raw_stream(server, "error_event=1", "/v1/chat/completions")
    assert [b'"error"' in event for event in chat_bytes.split(b"\n\n")] == [False, True, False]
    with pytest.raises(openai.APIError):
        list(chat(client, "error_event=1", stream=True))


def test_mode_failed(client):
    made = respond(client, "failed")
    assert (made.status, made.error.code, made.usage) == ("failed", "server_error", None)
    assert [event.type for event in respond(client, "failed", stream=True)][-1] == "response.failed"


def test_mode_incomplete(client):
    made = respond(client, "incomplete")
    assert (made.status, made.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert [event.type for event in respond(client, "incomplete", stream=True)][-1] == "response.incomplete"
    assert chat(client, "incomplete").choices[0].finish_reason == "length"


def test_mode_no_usage(client):
    assert respond(client, "no_usage").usage is None
    assert chat(client, "no_usage").usage is None
    assert not any(
        chunk.usage for chunk in chat(client, "no_usage", stream=True, stream_options={"include_usage": True})
    )


def test_modes_for_lines_leave_a_stream_that_clients_read(client, server):
    plain = raw_stream(server, "")
    assert b"\r" not in plain
    odd = raw_stream(server, "crlf,comments")
    assert odd.count(b"\n") == odd.count(b"\r\n")
    assert odd.count(b": OPENROUTER PROCESSING\r\n\r\n") == plain.count(b"event: ")
    kinds = [event.type for event in respond(client, "crlf,comments", stream=True)]
    assert kinds[-1] == "response.completed"
    assert chat(client, "comments").choices


def test_mode_no_done(client, server):
    path = "/v1/chat/completions"
    assert raw_stream(server, "", path).endswith(b"data: [DONE]\n\n")
    assert b"[DONE]" not in raw_stream(server, "no_done", path)
    assert list(chat(client, "no_done", stream=True))[-1].choices[0].finish_reason == "stop"


def test_modes_for_ids(client):
    assert (chat(client, "short_ids").id, respond(client, "short_ids").id) == ("chatcmpl-150", "resp_1")
    (call,) = chat(client, "short_ids", messages=RAIN, tools=[CHAT_TOOL]).choices[0].message.tool_calls
    assert call.id == "call_0"
    long_one = respond(client, "long_ids")
    assert (len(chat(client, "long_ids").id), len(long_one.id)) == (470, 470)
    assert respond(client, previous_response_id=long_one.id).status == "completed"


def test_mode_hold_stops_until_released(client, server):
    with respond(client, "hold=2", stream=True) as stream:
        assert [next(stream).type for _ in range(2)] == ["response.created", "response.in_progress"]
        server.release()
        assert [event.type for event in stream][-1] == "response.completed"


@pytest.mark.parametrize("asked", ["nonsense", "status=abc", "delay="])
def test_an_unknown_mode_is_refused(client, asked):
    with pytest.raises(openai.BadRequestError, match="x-loopback-mode"):
        chat(client, asked)


# Scripts


@pytest.mark.parametrize(
    ("body", "sent"),
    [({"a": 1}, b'{"a": 1}'), ([1], b"[1]"), ("\n\n ä", "\n\n ä".encode()), (b"\x00\xff", b"\x00\xff")],
)
def test_a_scripted_reply_is_sent_as_it_is(server, body, sent):
    server.script(body, status=418, headers={"X-Own": "yes", "x-request-id": "r"}, content_type="text/plain")
    with Raw(server) as reply:
        assert (reply.status, reply.read()) == (418, sent)
        assert (reply.headers["x-own"], reply.headers["content-type"]) == ("yes", "text/plain")
        assert reply.headers.get_all("x-request-id") == ["r"]
    with Raw(server) as reply:
        assert json.loads(reply.read())["object"] == "response"


def test_scripts_are_used_in_order_and_wait_for_their_path(server):
    server.script("models", path="/models")
    server.script("first")
    server.script("second")
    bodies = []
    for path in ("/v1/responses", "/v1/models", "/v1/responses"):
        with Raw(server, path) as reply:
            bodies.append(reply.read())
    assert bodies == [b"first", b"models", b"second"]


def test_a_scripted_stream_is_sent_chunk_by_chunk(server):
    chunks = [b": a\n\n", "data: 1\r\n\r\n", b"", b"data: 2"]
    server.script_stream(chunks)
    with socket.create_connection(urlsplit(server.base_url).netloc.split(":")) as peer:
        peer.sendall(b"GET /v1/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with peer.makefile("rb") as stream:
            head, _, body = stream.read().partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    assert b"content-type: text/event-stream" in head
    assert body == b"5\r\n: a\n\n\r\nb\r\ndata: 1\r\n\r\n\r\n7\r\ndata: 2\r\n0\r\n\r\n"


def test_a_scripted_stream_can_be_cut(server):
    server.script_stream([b"data: 1\n\n", b"data: 2\n\n"], break_after=1)
    with pytest.raises(http.client.IncompleteRead) as cut, Raw(server) as reply:
        reply.read()
    assert cut.value.partial == b"data: 1\n\n"


def received(peer, last):
    """What arrives until these bytes end it."""
    got = b""
    while not got.endswith(last):
        got += peer.recv(1024)
    return got


def test_a_held_stream_sends_nothing_more_until_it_is_released(server):
    server.script_stream([b"data: 1\n\n", b"data: 2\n\n"], hold_after=1)
    with socket.create_connection(urlsplit(server.base_url).netloc.split(":")) as peer:
        peer.sendall(b"GET /v1/x HTTP/1.1\r\nHost: x\r\n\r\n")
        received(peer, b"data: 1\n\n\r\n")
        peer.settimeout(0.05)
        with pytest.raises(TimeoutError):
            peer.recv(1)
        peer.settimeout(10)
        server.release()
        assert received(peer, b"0\r\n\r\n") == b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"


def test_a_held_stream_ends_when_the_client_goes_away(server):
    server.script_stream([b"data: 1\n\n", b"data: 2\n\n"], hold_after=1)
    with Raw(server) as reply:
        assert reply.readline() == b"data: 1\n"
        (held,) = connection_threads()
    held.join(10)
    assert not held.is_alive()


def test_chunk_delay_and_latency():
    with LoopbackServer(chunk_delay=0.02, latency=0.05) as server:
        server.script_stream([b"a", b"b", b"c"])
        started = time.monotonic()
        with Raw(server) as reply:
            assert reply.read() == b"abc"
        assert time.monotonic() - started >= 0.05 + 2 * 0.02


# The server itself


@pytest.fixture(autouse=True)
def threads_before():
    """The threads of other servers: the one that the whole test session shares."""
    _before.clear()
    _before.update(threading.enumerate())


_before = set()


def loopback_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("loopback") and thread not in _before]


def connection_threads():
    return [thread for thread in loopback_threads() if thread.name == "loopback-connection"]


def test_requests_are_recorded(client, server):
    client.post("/chat/completions?a=b%20c", cast_to=object, body={"model": MODEL, "messages": HELLO})
    (request,) = server.requests
    assert (request.method, request.path, request.query) == ("POST", "/v1/chat/completions", {"a": "b c"})
    assert request.headers["authorization"] == "Bearer any"
    assert request.body == {"model": MODEL, "messages": HELLO}
    client.models.list()
    assert server.requests[1].body is None


def test_a_connection_is_kept_for_the_next_request(client):
    for _ in range(3):
        chat(client)
        list(respond(client, stream=True))
    assert len(connection_threads()) == 1


def test_many_clients_at_once(client, server):
    def talk():
        first = respond(client)
        done.append(respond(client, previous_response_id=first.id).id)

    done = []
    threads = [threading.Thread(target=talk) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(done)) == 8
    assert len(server.requests) == 16


def test_close_leaves_no_thread_and_no_port(client, server):
    chat(client)
    server.script_stream([b"a", b"b"], hold_after=1)
    with Raw(server) as reply:
        assert reply.read(1) == b"a"
        assert len(connection_threads()) == 2
        server.close()
        with pytest.raises(http.client.IncompleteRead):
            reply.read()
    assert not loopback_threads()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(urlsplit(server.base_url).netloc.split(":"))
    server.close()


def test_close_ends_a_delay(client, server):
    outcome = []

    def ask():
        try:
            chat(client, "delay=60")
        except openai.APIConnectionError as error:
            outcome.append(type(error))

    asking = threading.Thread(target=ask)
    asking.start()
    while not server.requests:
        time.sleep(0.001)
    server.close()
    asking.join(10)
    assert outcome == [openai.APIConnectionError]  # its subclass APITimeoutError would be the client's own


def test_the_address_is_known_only_after_the_start():
    with pytest.raises(RuntimeError):
        LoopbackServer().base_url


def test_a_port_that_is_taken_is_reported(server):
    with pytest.raises(OSError):
        LoopbackServer(port=urlsplit(server.base_url).port).start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_stop(shared, number):
    command = [sys.executable, "-m", "otel_llm_sessions.demo.provider", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        assert chat(shared.with_options(base_url=line.split()[-1])).choices
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


# Examples for schemas


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (
            {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "null"}}, "required": ["b"]},
            {"b": None},
        ),
        ({"enum": ["x", "y"]}, "x"),
        ({"const": 7}, 7),
        ({"type": ["integer", "null"], "minimum": 5}, 5),
        ({"type": "number", "exclusiveMaximum": 0, "multipleOf": 2}, -2),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, True]),
        ({"anyOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": {"type": "string", "format": "date"}}}, "2026-01-31"),
        ({"allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}], "type": "object"}, {"a": 1}),
        ({"type": "string", "maxLength": 3}, "val"),
    ],
)
def test_an_example_is_the_smallest_value_that_the_schema_accepts(schema, value):
    assert Example(schema).value() == value


def test_an_example_of_a_schema_that_contains_itself_ends():
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["next"],
    }
    assert '"next": null' in json.dumps(Example(node).value())
