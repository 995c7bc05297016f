"""Bodies that are not what was asked for: the client goes by what it asked for, and its span says what it saw."""

from __future__ import annotations

from typing import Any

import pytest
from odd_kit import EVENTS, JSON, Telemetry, body, chunk, completed, httpx2, sse

USED = {"chat": {"prompt_tokens": 5, "completion_tokens": 7}, "responses": {"input_tokens": 5, "output_tokens": 7}}
ID = {"chat": "chatcmpl-1", "responses": "resp_1"}
ERROR = "error.type"

APIS = pytest.mark.parametrize("api", ["chat", "responses"])
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
HOW = pytest.mark.parametrize("how", ["parsed", "raw", "bytes", "streaming"])
TYPES = pytest.mark.parametrize("content_type", [JSON, EVENTS, "text/plain", ""])


def attributes_of(seen: Telemetry) -> dict[str, Any]:
    (call,) = seen.calls
    seen.check()
    return dict(call.attributes)


@TYPES
@HOW
@KINDS
@APIS
@pytest.mark.parametrize("stream", [False, True])
def test_what_was_asked_for_is_read_whatever_the_content_type_says(wire, seen, api, kind, how, content_type, stream):
    wire.answer(body(api, stream, usage=USED[api]), content_type)
    wire.call(api, how, stream, kind)
    said = attributes_of(seen)
    assert said["gen_ai.response.id"] == ID[api]
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (5, 7)
    assert said["gen_ai.response.finish_reasons"] == ("stop",)
    assert ERROR not in said
    if api == "responses":
        assert said["session.id"].startswith("resp_1")


@TYPES
@HOW
@KINDS
@APIS
@pytest.mark.parametrize("stream", [False, True])
def test_what_was_not_asked_for_is_no_reply(wire, seen, api, kind, how, content_type, stream):
    wire.answer(body(api, not stream, usage=USED[api]), content_type)
    wire.outcome(api, how, stream, kind)
    said = attributes_of(seen)
    assert said[ERROR] in {"invalid_response", "json.decoder.JSONDecodeError"}
    assert "gen_ai.response.id" not in said
    assert "gen_ai.usage.input_tokens" not in said


@KINDS
def test_a_session_goes_on_over_a_stream_that_says_it_is_json(wire, seen, kind):
    api = "responses"
    wire.answer(sse(completed(id="resp_" + "a1B2c3D4" * 6)), JSON)
    wire.call(api, "streaming", True, kind)
    wire.answer(body(api, False, id="resp_" + "e5F6g7H8" * 6))
    wire.call(api, kind=kind, previous_response_id="resp_" + "a1B2c3D4" * 6)
    first, second = seen.calls
    assert first.attributes["session.id"] == second.attributes["session.id"]
    assert second.attributes["llm_session.turn"] == 2


# --- events without data --------------------------------------------------------------------------------------

WITHOUT_DATA = [b"id: 1", b"retry: 100", b"event: ping", b"data:"]


def events(without: bytes) -> bytes:
    return without + b"\n\n" + sse(chunk())


@KINDS
@pytest.mark.parametrize("without", WITHOUT_DATA, ids=str)
@pytest.mark.parametrize("size", [4096, 7])
def test_a_stream_that_raises_for_want_of_data_has_failed(wire, seen, monkeypatch, kind, without, size):
    monkeypatch.setattr(wire, "size", size)
    wire.answer(events(without), EVENTS)
    for how in ("parsed", "raw"):
        assert wire.outcome("chat", how, True, kind)[0].__name__ == "JSONDecodeError"
    parsed, raw = seen.calls
    assert parsed.attributes[ERROR] == "json.decoder.JSONDecodeError"
    assert raw.attributes[ERROR] == "invalid_response"
    assert not parsed.status.is_ok
    assert not raw.status.is_ok
    seen.check()


@KINDS
@pytest.mark.parametrize("how", ["bytes", "streaming"])
@pytest.mark.parametrize("without", WITHOUT_DATA, ids=str)
def test_who_reads_such_a_stream_himself_reads_on_and_nothing_has_failed(wire, seen, kind, how, without):
    wire.answer(events(without), EVENTS)
    wire.call("chat", how, True, kind)
    said = attributes_of(seen)
    assert ERROR not in said
    assert said["gen_ai.response.id"] == "chatcmpl-1"
    assert said["gen_ai.response.finish_reasons"] == ("stop",)


# --- finish reasons -------------------------------------------------------------------------------------------


@APIS
@HOW
@KINDS
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reason", ["", None])
def test_an_empty_finish_reason_is_none(wire, seen, api, how, kind, stream, reason):
    own: dict[str, Any] = {"choices": [{"index": 0, "finish_reason": reason, "message": {}, "delta": {}}]}
    if api == "responses":
        own = {"status": "incomplete", "incomplete_details": {"reason": reason}}
    wire.answer(body(api, stream, **own), EVENTS if stream else JSON)
    wire.call(api, how, stream, kind)
    reasons = attributes_of(seen).get("gen_ai.response.finish_reasons")
    assert reasons == (("incomplete",) if api == "responses" else None)


def test_an_empty_finish_reason_takes_nothing_back(wire, seen):
    last = chunk(choices=[{"index": 0, "finish_reason": "", "delta": {}}])
    wire.answer(sse(chunk(), last), EVENTS)
    wire.call("chat", stream=True)
    assert attributes_of(seen)["gen_ai.response.finish_reasons"] == ("stop",)


# --- streams that the client knows nothing of -----------------------------------------------------------------


def test_a_stream_that_only_the_body_asks_for_is_read_as_one(wire, seen):
    wire.answer(sse(chunk(usage=USED["chat"])), EVENTS)
    asked = {"model": "m", "messages": [], "stream": True}
    got = wire.client.post("/chat/completions", body=asked, cast_to=httpx2.Response)
    assert b"chatcmpl-1" in got.content
    said = attributes_of(seen)
    assert (said["gen_ai.response.id"], said["gen_ai.usage.input_tokens"]) == ("chatcmpl-1", 5)
    assert said["gen_ai.request.stream"] is True
