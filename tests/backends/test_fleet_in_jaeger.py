"""Many processes' sessions through the real Collector: what was sent is what the real Jaeger has, span for span."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
from fleet import Fleet
from fleet_work import PATIENT, Work, loopback_process, mistakes
from jaeger_traces import tags
from otlp_receiver import OtlpReceiver
from servers import Collector, Jaeger, eventually

from otel_llm_sessions.view.spans import ReceivedSpan

NUMBER, TURNS = 200, 10
Told = tuple[Any, ...]


@pytest.fixture
def store(tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'sessions.db'}"


def test_jaeger_has_of_four_processes_two_hundred_sessions_what_was_sent(
    store, collector: Collector, jaeger: Jaeger, monkeypatch
):
    service = f"fleet-{time.time_ns()}"
    monkeypatch.setenv("OTEL_SERVICE_NAME", service)
    seed = random.randrange(1 << 32)
    with OtlpReceiver() as sent, loopback_process() as base_url:
        endpoint = f"{sent.endpoint} http://{collector.http}"
        options = {"store": store, "base_url": base_url, "endpoint": endpoint, "time_limit": PATIENT}
        with Fleet(["sync", "async"] * 2, **options) as fleet:
            work = Work(fleet, NUMBER, TURNS, random.Random(seed), service)
            work.run()
            fleet.finish()
        assert not (wrong := mistakes(sent.spans, work.sessions)), f"seed {seed}\n" + "\n".join(wrong[:20])
        as_sent = {span.span_id: told(span) for span in sent.spans}
    assert len(as_sent) >= NUMBER * (TURNS + 1)
    eventually(lambda: check(jaeger, service, as_sent))
    roots = jaeger.find(service, **{"llm_session.root": "true", "llm_session.part": "1"})
    assert len(roots) == NUMBER


def check(jaeger: Jaeger, service: str, as_sent: dict[str, Told]) -> None:
    found = [span for trace in jaeger.find(service) for span in trace["spans"]]
    assert len(found) == len(as_sent)
    assert {span["spanID"]: as_jaeger_tells(span) for span in found} == as_sent
    assert [span["warnings"] for span in found if span["warnings"]] == []


def told(span: ReceivedSpan) -> Told:
    """All that Jaeger's API tells of a span; it has times in microseconds, and arrays as JSON."""
    attributes = {
        name: json.dumps(value) if isinstance(value, tuple) else value for name, value in span.attributes.items()
    }
    return (
        span.trace_id,
        span.parent_id,
        span.name,
        span.start // 1000,
        (span.end - span.start) // 1000,
        tuple(sorted((link.trace_id, link.span_id) for link in span.links)),
        tuple(sorted(map(repr, attributes.items()))),
        span.status == "ERROR",
    )


OF_JAEGER = ("span.kind", "otel.", "error", "internal.span.format", "w3c.tracestate")


def as_jaeger_tells(span: dict[str, Any]) -> Told:
    found = tags(span)
    attributes = {
        name: json.dumps(json.loads(value)) if isinstance(value, str) and value.startswith("[") else value
        for name, value in found.items()
        if name == "error.type" or not name.startswith(OF_JAEGER)
    }
    references = [(each["refType"], each["traceID"], each["spanID"]) for each in span["references"]]
    parents = [id_ for kind, trace, id_ in references if kind == "CHILD_OF" and trace == span["traceID"]]
    return (
        span["traceID"],
        parents[0] if parents else "",
        span["operationName"],
        span["startTime"],
        span["duration"],
        tuple(sorted((trace, id_) for kind, trace, id_ in references if kind != "CHILD_OF")),
        tuple(sorted(map(repr, attributes.items()))),
        found.get("error", False),
    )
