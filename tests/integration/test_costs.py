"""What a call cost, as its reply says it: on its span, in the metric, and nowhere twice."""

from __future__ import annotations

import json
import types
from typing import Any

import openai
import pytest
from odd_kit import acall_by, body, call_by, resource_of, sse
from opentelemetry import trace
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor as GenAIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_llm_sessions import semconv
from otel_llm_sessions.openai.costs import Costs
from otel_llm_sessions.openai.response import Reply
from otel_llm_sessions.openai.routes import CHAT
from otel_llm_sessions.testing import capture_spans

COST = "gen_ai.usage.cost."
HEADER = "x-litellm-response-cost"
CHAT_COUNTS = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
RESPONSE_COUNTS = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
SESSION = {"metadata": {"session_id": "X"}}
MODEL = "gpt-4o-mini"

WAYS = [
    (name, how, stream)
    for name in ("chat", "responses")
    for how in ("parsed", "raw", "bytes", "streaming")
    for stream in (False, True)
]


def cost_of(span: Any) -> tuple[Any, ...]:
    """Amount, currency and source as a span says them; empty if it says nothing."""
    said = {name: value for name, value in span.attributes.items() if name.startswith(COST)}
    if said:
        assert said.keys() == {COST + "amount", COST + "currency", COST + "source"}
    return tuple(said[name] for name in sorted(said))


def usage_of(name: str, **fields: Any) -> dict[str, Any]:
    return {**(CHAT_COUNTS if name == "chat" else RESPONSE_COUNTS), **fields}


def script(server: Any, name: str, stream: bool, headers: Any = None, **fields: Any) -> None:
    """Have the server answer the next call with a usage of these fields, and these headers."""
    content = body(name, stream, usage=usage_of(name, **fields))
    if stream:
        server.script_stream([content, b"data: [DONE]\n\n"], headers=headers)
    else:
        server.script(content, headers=headers)


def asked(name: str, stream: bool) -> dict[str, Any]:
    given: dict[str, Any] = {"messages": []} if name == "chat" else {"input": "x"}
    return {"model": MODEL, **given, **({"stream": True} if stream else {})}


def make(api: Any, name: str, how: str, stream: bool) -> None:
    """Make a call in one of the client's ways, and read its reply."""
    resource = resource_of(api.client, name)
    if isinstance(api.client, openai.AsyncOpenAI):
        api.finish(acall_by(resource, how, asked(name, stream)))
    else:
        call_by(resource, how, asked(name, stream))


@pytest.fixture
def costs():
    with capture_spans(traces="turn") as spans:
        yield spans


@pytest.mark.parametrize(("name", "how", "stream"), WAYS)
def test_openrouter_says_the_cost_in_the_usage(api, server, costs, name, how, stream):
    script(server, name, stream, cost=0.00095, cost_details={"upstream_inference_cost": 0.0008})
    make(api, name, how, stream)
    (span,) = costs
    assert cost_of(span) == (0.00095, "USD", "provider")
    assert type(span.attributes[COST + "amount"]) is float
    assert span.attributes["gen_ai.usage.input_tokens"] == 5


@pytest.mark.parametrize(("name", "how", "stream"), WAYS)
def test_litellm_says_it_in_a_header(api, server, costs, name, how, stream):
    script(server, name, stream, headers={HEADER: "2.85e-05"})
    make(api, name, how, stream)
    (span,) = costs
    is_hidden = how == "parsed" and not stream  # a parsed reply does not show its headers
    assert cost_of(span) == (() if is_hidden else (0.0000285, "USD", "provider"))


def test_a_reply_that_is_never_read_costs_what_its_headers_say(client, server, costs):
    script(server, "chat", False, headers={HEADER: "0.5"})
    with client.chat.completions.with_streaming_response.create(**asked("chat", False)):
        pass
    (span,) = costs
    assert cost_of(span) == (0.5, "USD", "provider")


def test_a_reply_without_a_usage_costs_what_its_headers_say(api, server, costs):
    server.script(body("chat", False), headers={HEADER: "0.5"})
    make(api, "chat", "raw", False)
    server.script_stream([body("chat", True), b"data: [DONE]\n\n"], headers={HEADER: "0.25"})
    make(api, "chat", "parsed", True)
    assert [cost_of(span) for span in costs] == [(0.5, "USD", "provider"), (0.25, "USD", "provider")]


def test_nothing_is_a_cost_too(api, server, costs):
    script(server, "chat", False, cost=0)
    make(api, "chat", "parsed", False)
    script(server, "chat", False, headers={HEADER: "0.0"})
    make(api, "chat", "raw", False)
    assert [cost_of(span) for span in costs] == [(0.0, "USD", "provider")] * 2
    assert [type(span.attributes[COST + "amount"]) for span in costs] == [float, float]


def test_a_zero_that_was_sent_before_the_stream_began_is_none(api, server, costs):
    script(server, "chat", True, headers={HEADER: "0.0"})
    make(api, "chat", "parsed", True)
    script(server, "chat", True, headers={HEADER: "0.0"}, cost=0.25)
    make(api, "chat", "raw", True)
    assert [cost_of(span) for span in costs] == [(), (0.25, "USD", "provider")]


def test_the_usage_says_more_than_the_header(api, server, costs):
    script(server, "responses", False, headers={HEADER: "9"}, cost=0.5)
    make(api, "responses", "raw", False)
    (span,) = costs
    assert cost_of(span) == (0.5, "USD", "provider")


def test_the_last_chunk_counts(api, server, costs):
    said = {"model": MODEL, "object": "chat.completion.chunk", "id": "c", "created": 1, "choices": []}
    usages = [None, {**CHAT_COUNTS, "cost": 0.1}, {**CHAT_COUNTS, "cost": 0.3}]
    server.script_stream([*(sse({**said, "usage": usage}) for usage in usages), b"data: [DONE]\n\n"])
    make(api, "chat", "parsed", True)
    (span,) = costs
    assert cost_of(span) == (0.3, "USD", "provider")


@pytest.mark.parametrize(
    ("fields", "amount"),
    [
        ({"cost_in_usd_ticks": 37_756_000}, 0.0037756),  # xAI: 10,000,000,000 are a dollar
        ({"cost": {"total_cost": 0.006, "request_cost": 0.005}}, 0.006),  # Perplexity
    ],
)
def test_other_providers_say_it_in_other_words(api, server, costs, fields, amount):
    script(server, "chat", False, **fields)
    make(api, "chat", "parsed", False)
    (span,) = costs
    assert cost_of(span) == (amount, "USD", "provider")


ODD = [
    "0.5", -0.5, True, [0.5], {}, {"total_cost": "1"}, {"total_cost": None}, 1e300, 10**400, 1_000_001, float("nan"),
    float("inf"), -float("inf"),
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:20])
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_no_amount_is_left_out(api, server, costs, odd, stream, warned):
    script(server, "chat", stream, cost=odd)
    make(api, "chat", "parsed", stream)
    (span,) = costs
    assert cost_of(span) == ()
    assert span.attributes["gen_ai.usage.input_tokens"] == 5


@pytest.mark.parametrize("odd", [True, 1.5, "37756000", -1, 10**30, None])
def test_what_is_no_count_of_ticks_is_left_out(api, server, costs, odd, warned):
    script(server, "chat", False, cost_in_usd_ticks=odd)
    make(api, "chat", "parsed", False)
    assert [cost_of(span) for span in costs] == [()]


@pytest.mark.parametrize("odd", ["", "free", "-1", "nan", "inf", "1e300", "0x10", "9" * 1000, "$1", "1,5"])
def test_what_is_no_amount_in_a_header_is_left_out(api, server, costs, odd, warned):
    script(server, "chat", False, headers={HEADER: odd})
    make(api, "chat", "raw", False)
    (span,) = costs
    assert cost_of(span) == ()


def test_a_failed_response_may_cost_and_an_error_does_not(api, server, costs):
    content = {"id": "resp_1", "object": "response", "created_at": 1, "model": MODEL, "output": [], "status": "failed"}
    server.script({**content, "error": {"code": "server_error"}, "usage": {**RESPONSE_COUNTS, "cost": 0.5}})
    make(api, "responses", "parsed", False)
    server.script({"error": {"message": "no", "code": "x"}, "usage": {"cost": 1}}, status=400, headers={HEADER: "1"})
    with pytest.raises(openai.BadRequestError):
        make(api, "chat", "parsed", False)
    assert [cost_of(span) for span in costs] == [(0.5, "USD", "provider"), ()]


def test_fetching_a_response_costs_nothing(api, server, costs):
    content = json.loads(body("responses", False, usage={**RESPONSE_COUNTS, "cost": 0.5}))
    server.script(content, headers={HEADER: "1"})
    api.finish(api.client.responses.with_raw_response.retrieve("resp_1"))
    (span,) = costs
    assert cost_of(span) == ()


@pytest.mark.parametrize("extra", [5, "cost", [("cost", 1)], {"cost": 0.5}, None])
def test_what_an_application_makes_of_a_usage_costs_no_span(extra):
    reply = Reply(CHAT)
    reply.usage = types.SimpleNamespace(prompt_tokens=5, __pydantic_extra__=extra)
    assert Costs().of(reply, {}).get(COST + "amount") == (0.5 if isinstance(extra, dict) else None)


def test_none_looks_at_nothing(api, server):
    with capture_spans(traces="turn", cost="none") as spans:
        for stream in (False, True):
            script(server, "chat", stream, headers={HEADER: "1"}, cost=0.5)
            make(api, "chat", "raw", stream)
    assert [cost_of(span) for span in spans] == [(), ()]


# --- on the spans of others, and of turns that stand elsewhere ------------------------------------------------


@pytest.fixture
def annotated():
    """Spans of the official instrumentation, which has none of the cost."""
    provider = TracerProvider(shutdown_on_exit=False)
    peer = GenAIInstrumentor()
    peer.instrument(tracer_provider=provider)
    with capture_spans(tracer_provider=provider, traces="turn") as spans:
        yield spans
    peer.uninstrument()


@pytest.mark.parametrize("stream", [False, True])
def test_an_annotated_span_has_it_too(annotated, api, server, stream):
    script(server, "chat", stream, cost=0.5)
    stream_or_reply = api.chat(**({"stream": True} if stream else {}), extra_body=SESSION)
    if stream:
        api.read(stream_or_reply)
    (span,) = annotated
    assert span.instrumentation_scope.name.startswith("opentelemetry.")
    assert span.attributes["session.id"] == "X"
    assert cost_of(span) == (0.5, "USD", "provider")


@pytest.mark.parametrize("said", [{COST + "amount": 7.0}, {COST + "amount": 0.0, COST + "currency": "EUR"}])
def test_what_another_instrumentation_says_stays(client, server, said):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, traces="turn") as spans:
        tracer = trace.get_tracer("theirs", tracer_provider=provider)
        script(server, "chat", False, cost=0.5)
        attributes = {"gen_ai.operation.name": "chat", **said}
        with tracer.start_as_current_span("chat", attributes=attributes):
            client.chat.completions.create(**asked("chat", False), extra_body=SESSION)
    (span,) = spans
    assert {name: value for name, value in span.attributes.items() if name.startswith(COST)} == said
    assert span.attributes["session.id"] == "X"


def test_a_nested_turn_counts_once(client, server):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider) as spans:
        tracer = trace.get_tracer("theirs", tracer_provider=provider)
        for _ in range(2):
            script(server, "chat", False, cost=0.5)
            with tracer.start_as_current_span("POST /chat"):
                client.chat.completions.create(**asked("chat", False), extra_body=SESSION)
    markers = [span for span in spans if span.name == semconv.MARKER_NAME]
    assert len(markers) == 2
    assert not [name for span in markers for name in span.attributes if name.startswith("gen_ai.usage.")]
    assert sum(span.attributes.get(COST + "amount", 0) for span in spans) == 1.0


# --- the metric -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["", "gen_ai_latest_experimental"])
def metered(request, monkeypatch):
    """The fixture that others have, under the conventions of both ages."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", request.param)
    return request.getfixturevalue("metered")


def cost_metrics(reader: InMemoryMetricReader) -> list[Any]:
    data = reader.get_metrics_data()
    scopes = [scope for resource in (data.resource_metrics if data else ()) for scope in resource.scope_metrics]
    return [metric for scope in scopes for metric in scope.metrics if metric.name == "gen_ai.client.operation.cost"]


def test_the_metric_adds_up_what_is_known(metered, reader, client, server):
    for amount in (0.25, 0.5):
        script(server, "chat", False, cost=amount)
        client.chat.completions.create(**asked("chat", False), extra_body=SESSION)
    client.chat.completions.create(**asked("chat", False))
    (metric,) = cost_metrics(reader)
    (point,) = metric.data.data_points
    assert (point.count, point.sum) == (2, 0.75)
    assert dict(point.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "gen_ai.response.model": MODEL,
        "gen_ai.usage.cost.currency": "USD",
        "gen_ai.usage.cost.source": "provider",
    }


def test_the_metric_is_as_the_draft_of_the_conventions_has_it(metered, reader, client, server):
    content = {"id": "resp_1", "object": "response", "created_at": 1, "model": MODEL, "output": [], "status": "failed"}
    server.script({**content, "error": {"code": "server_error"}, "usage": {**RESPONSE_COUNTS, "cost": 0.5}})
    client.responses.create(**asked("responses", False))
    (metric,) = cost_metrics(reader)
    assert metric.description == "Monetary cost of a single GenAI inference operation."
    assert metric.unit == "{cost}"
    (point,) = metric.data.data_points
    assert tuple(point.explicit_bounds) == (0.001, 0.004, 0.016, 0.064, 0.256, 1.024, 4.096, 16.384, 65.536)
    told = {"operation.name", "provider.name", "request.model", "response.model", "usage.cost.currency"}
    assert set(point.attributes) == {f"gen_ai.{name}" for name in told | {"usage.cost.source"}}  # and no error.type


def test_where_nothing_is_known_there_is_no_metric(metered, reader, client):
    client.chat.completions.create(**asked("chat", False))
    assert cost_metrics(reader) == []


def test_calls_that_nobody_sees_count_in_the_metric(reader, client, server):
    provider = MeterProvider([reader], shutdown_on_exit=False)
    tracers = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    with capture_spans(tracer_provider=tracers, meter_provider=provider, traces="turn") as spans:
        script(server, "chat", False, cost=0.5)
        client.chat.completions.create(**asked("chat", False))
    assert not list(spans)
    (metric,) = cost_metrics(reader)
    assert metric.data.data_points[0].sum == 0.5
    provider.shutdown()
