"""The system's clock is set while a call goes on."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx2
import pytest
from answered import client_of
from odd_kit import CHUNK
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_llm_sessions.testing import capture_spans

HOUR = 3_600_000_000_000


@pytest.mark.parametrize("step", [-HOUR, HOUR])
@pytest.mark.parametrize("stream", [False, True])
def test_a_step_of_the_clock_neither_lengthens_nor_turns_a_call(monkeypatch, step, stream):
    real = time.time_ns

    def handle(request: Any) -> Any:
        monkeypatch.setattr(time, "time_ns", lambda: real() + step)
        if not stream:
            return httpx2.Response(200, json={**CHUNK, "object": "chat.completion"})
        events = b"".join(b"data: %s\n\n" % data for data in (json.dumps(CHUNK).encode(), b"[DONE]"))
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=events)

    client = client_of(handle)
    reader = InMemoryMetricReader()
    began = time.monotonic_ns()
    with capture_spans(meter_provider=MeterProvider([reader])) as spans:
        answer = client.chat.completions.create(model="m", messages=[], stream=stream)
        if stream:
            list(answer)
    took = time.monotonic_ns() - began
    (span,) = [span for span in spans if span.name == "chat m"]
    assert 0 < span.end_time - span.start_time <= took
    assert 0 < span.attributes.get("gen_ai.response.time_to_first_chunk", 1e-9) <= took / 1e9
    metrics = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    (duration,) = [metric for metric in metrics if metric.name == "gen_ai.client.operation.duration"]
    (point,) = duration.data.data_points
    assert 0 < point.sum <= took / 1e9
