"""The metrics of model calls, by the GenAI conventions."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_llm_sessions.telemetry import semconv
from otel_llm_sessions.testing import capture_spans

MESSAGES = [{"role": "user", "content": "Hello there"}]


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def metered(reader):
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with capture_spans(meter_provider=provider, traces="turn") as spans:
        yield spans
    provider.shutdown()


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    found: dict[str, list[Any]] = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found.setdefault(metric.name, []).extend(metric.data.data_points)
    return found


def test_duration_and_tokens_with_the_conventions_buckets(api, metered, reader):
    api.chat(extra_body={"metadata": {"session_id": "X"}})
    found = points(reader)
    (duration,) = found["gen_ai.client.operation.duration"]
    assert tuple(duration.explicit_bounds) == semconv.DURATION_BUCKETS
    assert duration.count == 1
    tokens = {point.attributes["gen_ai.token.type"]: point for point in found["gen_ai.client.token.usage"]}
    (span,) = metered
    assert tokens["input"].sum == span.attributes["gen_ai.usage.input_tokens"]
    assert tokens["output"].sum == span.attributes["gen_ai.usage.output_tokens"]
    assert tuple(tokens["input"].explicit_bounds) == semconv.TOKEN_BUCKETS
    assert dict(duration.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini",
        "server.address": "127.0.0.1",
        "server.port": span.attributes["server.port"],
    }
    assert not any("session" in name or "conversation" in name for name in duration.attributes)


def test_streams_have_a_time_to_first_chunk(api, metered, reader):
    api.read(api.respond(stream=True))
    api.respond()
    (point,) = points(reader)["gen_ai.client.operation.time_to_first_chunk"]
    assert point.count == 1
    assert 0 < point.sum < 60


def test_fetching_a_response_counts_no_tokens(client, metered, reader):
    first = client.responses.create(model="m", input="x")
    before = points(reader)["gen_ai.client.token.usage"]
    client.responses.retrieve(first.id)
    assert [p.count for p in points(reader)["gen_ai.client.token.usage"]] == [p.count for p in before]


def test_errors_are_told_apart(client, metered, reader):
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="m", input="x", extra_headers={"x-loopback-mode": "status=400"})
    (point,) = points(reader)["gen_ai.client.operation.duration"]
    assert point.attributes["error.type"] == "openai.BadRequestError"


def test_the_newest_names_on_request(client, reader, monkeypatch):
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http,gen_ai_latest_experimental")
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with capture_spans(meter_provider=provider):
        for _ in client.responses.create(model="m", input="hello", stream=True):
            pass
    assert set(points(reader)) == {
        "gen_ai.client.inference.duration",
        "gen_ai.client.inference.time_to_first_chunk",
        "gen_ai.client.inference.operation.input_tokens",
        "gen_ai.client.inference.operation.output_tokens",
        "gen_ai.client.inference.usage.input_tokens",
        "gen_ai.client.inference.usage.output_tokens",
    }
    provider.shutdown()


def test_an_unsampled_call_is_still_measured(client, reader):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    provider = MeterProvider([reader], shutdown_on_exit=False)
    with capture_spans(tracer_provider=TracerProvider(sampler=ALWAYS_OFF), meter_provider=provider) as spans:
        client.chat.completions.create(model="m", messages=MESSAGES)
    assert not spans
    assert len(points(reader)["gen_ai.client.token.usage"]) == 2
    provider.shutdown()
