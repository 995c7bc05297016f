"""Which spans are errors, of which type, and what a reply that was cut short says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from loopback.modes import STREAM_ERROR
from loopback_client import MESSAGES, MODEL
from opentelemetry.trace import StatusCode
from spans_kit import modes

from otel_llm_sessions.demo.provider.errors import KNOWN

SPANS = {"traces": "turn"}
"""The settings of the fixture ``spans``."""


@pytest.fixture
def client(server, shared_client):
    """One client for all tests, with a server that has forgotten the earlier ones: making a client takes 50 ms."""
    return shared_client


# --- errors -------------------------------------------------------------------------------------------------

ERROR_TEXTS = [message for message, _, _ in KNOWN.values()] + [STREAM_ERROR, "The model failed", "Connection error"]


def assert_failed(span: Any, error_type: str) -> None:
    """The span is an error of this type, and the server's words are nowhere on it."""
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == error_type
    told = span.to_json()
    assert not [text for text in ERROR_TEXTS if text.rstrip(".") in told]


FAILURES = [
    ("status=400", openai.BadRequestError),
    ("status=401", openai.AuthenticationError),
    ("status=404", openai.NotFoundError),
    ("status=429", openai.RateLimitError),
    ("status=500", openai.InternalServerError),
    ("close", openai.APIConnectionError),
]


@pytest.mark.parametrize(("mode", "error"), FAILURES, ids=[row[0] for row in FAILURES])
@pytest.mark.parametrize("call", ["chat", "respond"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_call_that_fails_is_one_span_with_the_type_of_the_error(api, spans, mode, error, call, stream):
    with pytest.raises(error):
        getattr(api, call)(extra_headers=modes(mode), stream=stream)
    (span,) = spans
    assert span.name == f"chat {MODEL}"
    assert_failed(span, f"openai.{error.__name__}")


def test_a_timeout_is_an_error(api, spans):
    with pytest.raises(openai.APITimeoutError):
        api.with_options(timeout=0.05).chat(extra_headers=modes("delay=5"))
    assert_failed(spans[0], "openai.APITimeoutError")


def test_a_failed_fetch_is_an_error_too(api, spans):
    with pytest.raises(openai.NotFoundError):
        api.retrieve("resp_unknown_to_the_server")
    assert spans[0].name == "fetch_response"
    assert_failed(spans[0], "openai.NotFoundError")


def test_retries_are_within_the_one_span_of_their_call(api, server, spans):
    with pytest.raises(openai.RateLimitError):
        api.with_options(max_retries=2).chat(extra_headers=modes("status=429"))
    assert len(server.requests) == 3
    assert len(spans) == 1
    assert_failed(spans[0], "openai.RateLimitError")


def test_a_call_that_a_retry_saves_is_not_an_error(api, server, spans):
    headers = {**modes("fail_first=1"), "x-loopback-key": f"saved-by-retry-{id(spans)}"}
    api.with_options(max_retries=1).chat(extra_headers=headers)
    assert len(server.requests) == 2
    (span,) = spans
    assert span.status.status_code is StatusCode.UNSET
    assert "error.type" not in span.attributes


@pytest.mark.parametrize("call", ["chat", "respond"])
def test_html_with_status_200_is_an_error(api, spans, call):
    assert "<html>" in getattr(api, call)(extra_headers=modes("html"))
    assert_failed(spans[0], "invalid_response")
    assert "Please sign in" not in spans[0].to_json()


@pytest.mark.parametrize("call", ["chat", "respond"])
def test_html_in_the_place_of_a_stream_is_an_error(api, spans, call):
    assert api.read(getattr(api, call)(extra_headers=modes("html"), stream=True)) == []
    assert_failed(spans[0], "invalid_response")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_response_that_failed_is_an_error_with_its_code(api, spans, stream):
    reply = api.respond(extra_headers=modes("failed"), stream=stream)
    if stream:
        assert api.read(reply)[-1].type == "response.failed"
    assert_failed(spans[0], "server_error")
    assert spans[0].attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert spans[0].attributes["gen_ai.response.status"] == "failed"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_response_that_is_incomplete_is_no_error_and_says_why_it_ended(api, spans, stream):
    reply = api.respond(extra_headers=modes("incomplete"), stream=stream)
    if stream:
        api.read(reply)
    (span,) = spans
    assert span.status.status_code is StatusCode.UNSET
    assert "error.type" not in span.attributes
    assert span.attributes["gen_ai.response.finish_reasons"] == ("length",)
    assert span.attributes["gen_ai.response.status"] == "incomplete"


def test_an_error_event_in_the_middle_of_a_responses_stream_is_an_error(api, spans):
    stream = api.respond(extra_headers=modes("error_event=3"), stream=True)
    try:
        events = api.read(stream)
    except openai.APIError:
        events = []  # newer clients raise it
    assert all(event.type != "response.completed" for event in events)
    assert_failed(spans[0], "server_error")
    assert spans[0].attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert spans[0].attributes["session.id"] == spans[0].attributes["gen_ai.response.id"]


def test_an_error_chunk_in_the_middle_of_a_chat_stream_is_an_error(api, spans):
    stream = api.chat(extra_headers=modes("error_event=2"), stream=True)
    with pytest.raises(openai.APIError):
        api.read(stream)
    assert_failed(spans[0], "openai.APIError")
    assert spans[0].attributes["gen_ai.response.finish_reasons"] == ("error",)


@pytest.mark.parametrize("call", ["chat", "respond"])
def test_a_stream_whose_connection_breaks_is_an_error(api, spans, call):
    stream = getattr(api, call)(extra_headers=modes("break=2"), stream=True)
    with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)) as raised:
        api.read(stream)
    kind = type(raised.value)
    assert_failed(spans[0], f"{kind.__module__}.{kind.__qualname__}")
    assert spans[0].attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert spans[0].attributes["gen_ai.response.id"]


@pytest.mark.parametrize("call", ["chat", "respond"])
def test_a_stream_that_the_application_leaves_is_no_error_but_its_reply_was_cut_short(api, spans, call):
    api.read(getattr(api, call)(stream=True), at_most=3)
    (span,) = spans
    assert span.status.status_code is StatusCode.UNSET
    assert "error.type" not in span.attributes
    assert span.attributes["gen_ai.response.finish_reasons"] == ("error",)


def test_a_background_stream_that_the_application_leaves_goes_on_without_it(api, spans):
    api.read(api.respond(stream=True, background=True), at_most=2)
    (span,) = spans
    assert span.status.status_code is StatusCode.UNSET
    assert "gen_ai.response.finish_reasons" not in span.attributes
    assert span.attributes["gen_ai.response.status"] in {"queued", "in_progress"}


def test_tool_calls_are_the_finish_reason_of_both_apis(api, spans):
    function = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    api.chat("weather in Paris", tools=[{"type": "function", "function": function}], tool_choice="required")
    api.respond("weather in Paris", tools=[{"type": "function", **function}], tool_choice="required")
    assert [span.attributes["gen_ai.response.finish_reasons"] for span in spans] == [("tool_calls",)] * 2


SENTINELS: list[Callable[[], Any]] = [lambda: openai.NOT_GIVEN, lambda: openai.omit]


@pytest.mark.parametrize("sentinel", SENTINELS, ids=["NOT_GIVEN", "omit"])
def test_sentinels_never_become_attribute_values(client, spans, sentinel):
    names = ("temperature", "top_p", "seed", "stop", "n", "service_tier", "response_format", "reasoning_effort")
    client.chat.completions.create(model=MODEL, messages=MESSAGES, **dict.fromkeys(names, sentinel()))
    assert {type(value) for value in spans[0].attributes.values()} <= {str, int, float, bool, tuple}
    assert [name for name in spans[0].attributes if name.startswith("gen_ai.request")] == ["gen_ai.request.model"]
