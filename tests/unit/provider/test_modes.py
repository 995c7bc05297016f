"""What a request's ``x-loopback-mode`` header asks the tests' server for."""

import http.client
import time
from urllib.parse import quote

import openai
import pytest
from provider_kit import CHAT_TOOL, HELLO, MODEL, RAIN, Raw, chat, mode, respond


def raw_stream(server, asked, path="/v1/responses"):
    body = {"model": MODEL, "input": "Hi", "messages": HELLO, "stream": True}
    with Raw(server, path, body, mode(asked)) as reply:
        return reply.read()


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
