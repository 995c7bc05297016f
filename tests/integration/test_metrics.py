"""The metrics of model calls, by the GenAI conventions."""

from __future__ import annotations

import threading
from typing import Any

import openai
import pytest
from announced_lock import AnnouncedLock
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeter, NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.util.genai._instruments import _Instruments

from otel_llm_sessions import semconv
from otel_llm_sessions.telemetry.metrics import CurrentMetrics, LatestMetrics, MetricsSource
from otel_llm_sessions.testing import capture_spans

API_PROVIDER = "opentelemetry.metrics._internal._METER_PROVIDER"
MESSAGES = [{"role": "user", "content": "Hello there"}]


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
    }
    assert dict(tokens["input"].attributes) == {**duration.attributes, "gen_ai.token.type": "input"}
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


@pytest.fixture
def latest(monkeypatch, request):
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http, gen_ai_latest_experimental")
    return request.getfixturevalue("metered")


def test_the_newest_names_on_request(client, latest, reader):
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


def test_under_the_newest_names_fetching_is_an_operation_but_no_inference(client, latest, reader):
    first = client.responses.create(model="m", input="hello").id
    before = {name: len(found) for name, found in points(reader).items()}
    client.responses.retrieve(first)
    (fetched,) = points(reader)["gen_ai.client.operation.duration"]
    assert fetched.attributes["gen_ai.operation.name"] == "fetch_response"
    assert {name: len(found) for name, found in points(reader).items()} == {
        **before,
        "gen_ai.client.operation.duration": 1,
    }


def test_under_the_newest_names_token_counters_have_a_modality_and_durations_the_error(client, latest, reader):
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="m", input="x", extra_headers={"x-loopback-mode": "status=400"})
    reply = client.responses.create(model="m", input="x" * 40)
    found = points(reader)
    (counted,) = found["gen_ai.client.inference.usage.input_tokens"]
    assert counted.value == 0 + reply.usage.input_tokens
    assert counted.attributes["gen_ai.token.modality"] == "unknown"
    assert [point.attributes.get("error.type") for point in found["gen_ai.client.inference.duration"]] == [
        "openai.BadRequestError",
        None,
    ]
    with_error = {name for name, some in found.items() for point in some if "error.type" in point.attributes}
    assert with_error == {"gen_ai.client.inference.duration"}
    (distribution,) = found["gen_ai.client.inference.operation.input_tokens"]
    assert "gen_ai.token.modality" not in distribution.attributes
    assert list(distribution.explicit_bounds) == [4**power for power in range(14)]


def test_instruments_are_those_of_the_official_instrumentation():
    ours, theirs = Instruments(), Instruments()
    CurrentMetrics(ours)
    _Instruments(theirs)
    del ours.made[semconv.OPERATION_COST]  # a draft's, which it has not yet
    assert len(ours.made) == 3
    assert ours.made.items() <= theirs.made.items()


class Instruments(NoOpMeter):
    """Remembers how instruments are made, and what is recorded with them."""

    def __init__(self) -> None:
        super().__init__("instruments")
        self.made: dict[str, tuple[str, str, tuple[float, ...]]] = {}
        self.recorded: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def create_histogram(self, name, unit="", description="", *, explicit_bucket_boundaries_advisory=None):
        self.made[name] = (unit, description, tuple(explicit_bucket_boundaries_advisory))
        return self

    def create_counter(self, name, unit="", description=""):
        return self

    def record(self, amount, attributes, context=None):
        self.recorded.append((attributes, dict(attributes)))

    add = record


@pytest.mark.parametrize("kind", [CurrentMetrics, LatestMetrics])
def test_attributes_given_to_the_sdk_are_not_changed_afterwards(kind):
    meter = Instruments()  # the SDK before 1.45 keeps the dict that it is given
    asked = {"gen_ai.operation.name": "chat", "server.address": "a", "server.port": 1}
    answered = {"gen_ai.usage.input_tokens": 1, "gen_ai.usage.output_tokens": 2, "error.type": "x"}
    kind(meter).record(asked, answered, 1.0, 0.5, Context())
    assert len(meter.recorded) >= 4
    assert [given for given, _ in meter.recorded] == [then for _, then in meter.recorded]


def test_nothing_is_measured_until_a_meter_provider_is_set_and_then_it_is(monkeypatch, reader, client):
    provider = MeterProvider([reader], shutdown_on_exit=False)
    source = MetricsSource(None)
    assert source.get() is None
    monkeypatch.setattr(API_PROVIDER, provider)  # what set_meter_provider() does, once per process
    assert isinstance(source.get(), CurrentMetrics)
    assert source.get() is source.get()
    monkeypatch.setattr(API_PROVIDER, NoOpMeterProvider())
    assert source.get() is None
    provider.shutdown()


def test_the_first_two_calls_at_the_same_time_make_the_instruments_once():
    """The SDK warns of instruments made twice, and exports both."""
    source = MetricsSource(None)
    lock = source._lock = AnnouncedLock()

    class Slow(MeterProvider):
        made = 0

        def get_meter(self, *args: Any, **kwargs: Any) -> Any:
            self.made += 1
            if self.made == 1:
                other.start()
                lock.wait_for(2)
            return super().get_meter(*args, **kwargs)

    source._given = slow = Slow(shutdown_on_exit=False)
    found: list[Any] = []
    other = threading.Thread(target=lambda: found.append(source.get()))
    metrics = source.get()
    other.join(10)
    assert found == [metrics]
    assert slow.made == 1
    slow.shutdown()


def test_calls_before_and_after_a_meter_provider_is_set(monkeypatch, reader, client, spans):
    client.chat.completions.create(model="m", messages=MESSAGES)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(API_PROVIDER, provider)  # what set_meter_provider() does, once per process
    client.chat.completions.create(model="m", messages=MESSAGES)
    (duration,) = points(reader)["gen_ai.client.operation.duration"]
    assert (len(spans), duration.count) == (2, 1)
    provider.shutdown()


def test_an_unsampled_call_is_still_measured(client, reader):
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with capture_spans(tracer_provider=TracerProvider(sampler=ALWAYS_OFF), meter_provider=provider) as spans:
        client.chat.completions.create(model="m", messages=MESSAGES)
    assert not spans
    found = points(reader)
    assert len(found["gen_ai.client.token.usage"]) == 2
    assert not found["gen_ai.client.operation.duration"][0].exemplars
    provider.shutdown()


def test_exemplars_of_the_duration_lead_to_the_call_and_token_counts_have_none(api, metered, reader):
    with TracerProvider(shutdown_on_exit=False).get_tracer("web").start_as_current_span("POST /chat"):
        api.chat()
    found = points(reader)
    (duration,), tokens = found["gen_ai.client.operation.duration"], found["gen_ai.client.token.usage"]
    (exemplar,) = duration.exemplars
    (call,) = metered
    assert (exemplar.trace_id, exemplar.span_id) == (call.context.trace_id, call.context.span_id)
    assert not any(point.exemplars for point in tokens)


@pytest.mark.parametrize("name", [*semconv.ASKED_METRIC_ATTRIBUTES, *semconv.ANSWERED_METRIC_ATTRIBUTES])
def test_calls_that_differ_in_one_attribute_are_series_of_their_own(reader, name):
    provider = MeterProvider([reader], shutdown_on_exit=False)
    metrics = CurrentMetrics(provider.get_meter("test"))
    asked = dict.fromkeys(semconv.ASKED_METRIC_ATTRIBUTES, "same")
    answered = {**dict.fromkeys(semconv.ANSWERED_METRIC_ATTRIBUTES, "same"), semconv.USAGE_INPUT_TOKENS: 3}
    for _ in range(2):
        metrics.record(asked, answered, 1.0, None, Context())
        (asked if name in asked else answered)[name] = "other"
    found, series = points(reader), [1, 1] if name != semconv.RESPONSE_MODEL else [2]
    for metric in ("gen_ai.client.operation.duration", "gen_ai.client.token.usage"):
        assert [point.count for point in found[metric]] == series
        assert {point.attributes.get(name) for point in found[metric]} in ({"same", "other"}, {None})
    provider.shutdown()
