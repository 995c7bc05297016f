"""What the GenAI conventions (0.1.0, November 2026) say of attributes and metrics, and which provider's they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from odd_kit import EVENTS, Telemetry, Wire, attributes, body, sse, telemetry

from otel_llm_sessions import session

COMPACTED = "gen_ai.conversation.compacted"
ERROR = "error.type"
ITEM = {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"}
USED = {
    "prompt_tokens": 300,
    "completion_tokens": 90,
    "prompt_tokens_details": {
        "text_tokens": 100,
        "image_tokens": 150,
        "audio_tokens": 30,
        "cached_tokens": 40,
        "cached_tokens_details": {"text_tokens": 25, "image_tokens": 0, "audio_tokens": 15},
    },
    "completion_tokens_details": {"audio_tokens": 60, "text_tokens": 30, "reasoning_tokens": 0},
}


@pytest.fixture
def seen() -> Iterator[Telemetry]:
    with telemetry(traces="turn") as seen:
        yield seen


def ask(wire: Wire, api: str = "chat", stream: bool = False, reply: dict[str, Any] | None = None, **asked: Any) -> None:
    wire.ask(api, stream, reply, **asked)


def said_of(seen: Telemetry) -> dict[str, Any]:
    (call,) = seen.calls
    return dict(call.attributes)


# --- the request ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["temperature", "top_p", "frequency_penalty", "presence_penalty"])
def test_what_is_a_double_by_the_conventions_is_one_whatever_was_given(wire, seen, name):
    ask(wire, **{name: 1})
    value = said_of(seen)[f"gen_ai.request.{name}"]
    assert (value, type(value)) == (1.0, float)


@pytest.mark.parametrize("given", [40, 40.0])
def test_top_k_is_a_whole_number(wire, seen, given):
    ask(wire, extra_body={"top_k": given})
    value = said_of(seen)["gen_ai.request.top_k"]
    assert (value, type(value)) == (40, int)


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize(("tier", "expected"), [("auto", None), ("flex", "flex"), ("default", "default")])
def test_the_service_tier_that_was_asked_for_unless_it_was_auto(wire, seen, api, tier, expected):
    ask(wire, api, extra_body={"service_tier": tier})
    assert said_of(seen).get("openai.request.service_tier") == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}, "speech"),
        ({"modalities": ["audio"], "response_format": {"type": "json_object"}}, "speech"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "speech"),
        ({"audio": {"voice": "alloy", "format": "wav"}, "modalities": ["text"]}, "text"),
        ({"modalities": ["image", "text"]}, "image"),
        ({"modalities": ["text"]}, "text"),
        ({"modalities": ["text"], "response_format": {"type": "json_object"}}, "json"),
        ({"response_format": {"type": "json_schema"}, "modalities": ["text"]}, "json"),
        ({"modalities": []}, None),
        ({"modalities": None}, None),
        ({"modalities": [5]}, None),
        ({"audio": "loud"}, None),
    ],
    ids=str,
)
def test_the_output_type_that_was_asked_for(wire, seen, asked, expected):
    ask(wire, extra_body=asked)
    assert said_of(seen).get("gen_ai.output.type") == expected


# --- the provider's own attributes ----------------------------------------------------------------------------

PROVIDERS = [
    ("http://server/v1", "openai", True),
    ("https://api.openai.com/v1", "openai", True),
    ("https://x.openai.azure.com/openai/v1", "azure.ai.openai", True),
    ("https://api.groq.com/openai/v1", "groq", False),
    ("https://api.mistral.ai/v1", "mistral_ai", False),
    ("https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1", "aws.bedrock", False),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize(("base_url", "provider", "is_openai"), PROVIDERS, ids=[one for _, one, _ in PROVIDERS])
def test_attributes_of_openai_stand_on_its_own_spans_only(seen, base_url, provider, is_openai, api, stream):
    wire = Wire(base_url)
    reply = {"service_tier": "default", "system_fingerprint": "fp_1"}
    ask(wire, api, stream, reply, extra_body={"service_tier": "flex"})
    said = said_of(seen)
    assert said["gen_ai.provider.name"] == provider
    own = {name for name in said if name.startswith("openai.")}
    names = {"api.type", "request.service_tier", "response.service_tier", "response.system_fingerprint"}
    assert own == ({f"openai.{name}" for name in names} if is_openai else set())
    wire.close()


# --- usage by modality ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_usage_by_modality_where_the_reply_has_it(wire, seen, stream):
    ask(wire, "chat", stream, {"usage": USED})
    said = said_of(seen)
    assert {name: count for name, count in said.items() if name.startswith("gen_ai.usage.")} == {
        "gen_ai.usage.input_tokens": 300,
        "gen_ai.usage.output_tokens": 90,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.text.input_tokens": 100,
        "gen_ai.usage.image.input_tokens": 150,
        "gen_ai.usage.audio.input_tokens": 30,
        "gen_ai.usage.text.cache_read.input_tokens": 25,
        "gen_ai.usage.audio.cache_read.input_tokens": 15,
        "gen_ai.usage.text.output_tokens": 30,
        "gen_ai.usage.audio.output_tokens": 60,
    }
    seen.check()


def test_usage_by_modality_of_a_response(wire, seen):
    used = {"input_tokens": 3, "output_tokens": 4, "output_tokens_details": {"image_tokens": 4}}
    ask(wire, "responses", reply={"usage": {**used, "input_tokens_details": {"image_tokens": 3}}})
    said = said_of(seen)
    assert said["gen_ai.usage.image.input_tokens"] == 3
    assert said["gen_ai.usage.image.output_tokens"] == 4


def by_modality(points: list[Any]) -> dict[str, int]:
    return {attributes(point)["gen_ai.token.modality"]: point.as_int for point in points}


def test_the_newest_counters_tell_modalities_apart_and_add_up(wire, monkeypatch):
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    with telemetry() as seen:
        ask(wire, reply={"usage": USED})
    found = seen.metrics()
    counters = "gen_ai.client.inference.usage"
    expected = {"text": 100, "image": 150, "audio": 30, "unknown": 20}
    assert by_modality(found[f"{counters}.input_tokens"]) == expected
    assert by_modality(found[f"{counters}.output_tokens"]) == {"text": 30, "audio": 60}
    assert by_modality(found[f"{counters}.cache_read.input_tokens"]) == {"text": 25, "audio": 15}
    assert [point.sum for point in found["gen_ai.client.inference.operation.input_tokens"]] == [300]
    seen.check()


# --- compaction -----------------------------------------------------------------------------------------------


def test_a_request_that_carries_a_compacted_conversation_says_so_from_the_start(wire, seen):
    ask(wire, "responses", input=[ITEM, {"role": "user", "content": "And now?"}])
    assert said_of(seen)[COMPACTED] is True


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_that_was_compacted_on_the_way_says_so(wire, seen, stream):
    ask(wire, "responses", stream, {"output": [ITEM]})
    assert said_of(seen)[COMPACTED] is True


@pytest.mark.parametrize("how", ["parsed", "bytes"])
def test_a_stream_that_ends_early_says_so_too(wire, seen, how):
    done = {"type": "response.output_item.done", "output_index": 0, "sequence_number": 2, "item": ITEM}
    wire.answer(sse(done), EVENTS)
    wire.call("responses", how, stream=True)
    assert said_of(seen)[COMPACTED] is True


def test_nothing_else_says_anything_of_compaction(wire, seen):
    ask(wire, "responses", input=[{"role": "user", "content": "compaction"}, "compaction"])
    ask(wire, "chat", messages=[ITEM])
    ask(wire, "responses", reply={"object": "response.compaction", "output": None})
    assert not [call for call in seen.calls if COMPACTED in call.attributes]


def test_to_compact_a_conversation_is_not_to_answer_a_compacted_one(wire, seen):
    wire.answer(body("responses", False, object="response.compaction", output=[ITEM]))
    if not hasattr(wire.client.responses, "compact"):
        pytest.skip("this client compacts nothing")
    wire.client.responses.compact(model="m", input="x")
    assert [COMPACTED in span.attributes for span in seen.spans] == [False]


# --- errors and scopes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["today's", "newest"])
def test_every_metric_of_a_failed_call_that_used_something_has_the_error(wire, monkeypatch, names):
    if names == "newest":
        monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    failed = {"status": "failed", "error": {"code": "server_error", "message": "no"}}
    with telemetry() as seen:
        ask(wire, "responses", True, {**failed, "usage": {"input_tokens": 5, "output_tokens": 7}})
    found = seen.metrics()
    assert len(found) == (6 if names == "newest" else 3)
    for name, points in found.items():
        assert [attributes(point).get(ERROR) for point in points] == ["server_error"] * len(points), name


def test_spans_and_metrics_say_which_conventions_they_follow(wire):
    with telemetry() as seen, session("s"):
        ask(wire)
    (url,) = {span.instrumentation_scope.schema_url for span in seen.spans}
    assert len(seen.spans) == 2
    assert url
    assert url.startswith("https://opentelemetry.io/schemas/gen-ai")
    assert seen.schema_urls() == {url}


# --- whom the client talks to ---------------------------------------------------------------------------------


def test_a_client_whose_base_url_changed_reports_the_new_one(seen):
    wire = Wire("http://one:8001/v1")
    for base_url in ("http://two:8002/v1", "https://api.groq.com/openai/v1"):
        ask(wire)
        wire.client.base_url = base_url
    ask(wire)
    said = [(c.attributes["server.address"], c.attributes["server.port"], c.name) for c in seen.calls]
    assert [one[:2] for one in said] == [("one", 8001), ("two", 8002), ("api.groq.com", 443)]
    assert seen.calls[-1].attributes["gen_ai.provider.name"] == "groq"
    wire.close()


def test_the_modules_own_client_reports_the_base_url_of_the_moment(wire, seen, monkeypatch):
    wire.answer(body("chat", False))
    monkeypatch.setattr(openai, "api_key", "x")
    monkeypatch.setattr(openai, "http_client", wire.client._client)
    monkeypatch.setattr(openai, "_client", None)  # made anew for this test, and afterwards for the next
    for base_url in ("http://one:8001/v1/", "http://two:8002/v1/", "http://one:8001/v1/", "https://api.groq.com/v1/"):
        monkeypatch.setattr(openai, "base_url", base_url)
        openai.chat.completions.create(model="m", messages=[])
    said = [(c.attributes["server.address"], c.attributes["gen_ai.provider.name"]) for c in seen.calls]
    assert said == [("one", "openai"), ("two", "openai"), ("one", "openai"), ("api.groq.com", "groq")]


def test_a_request_with_an_address_of_its_own_reports_that_one(wire, seen):
    wire.answer(body("chat", False))
    wire.client.post("http://other:8003/v1/chat/completions", body={"model": "m", "messages": []}, cast_to=object)
    said = said_of(seen)
    assert (said["server.address"], said["server.port"]) == ("other", 8003)
