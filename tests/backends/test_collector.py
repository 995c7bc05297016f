"""The configurations that this repository shows, on the real Collector."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from jaeger_traces import calls
from loopback_client import MODEL
from opentelemetry.trace import StatusCode
from servers import ROOT, Collector, until, validated

SHOWN = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "backends.md").read_text(), re.S)
SAMPLING, METRICS = SHOWN
FAILS = {"x-loopback-mode": "status=500"}


@pytest.fixture
def over(tmp_path: Path):
    """Write down what is laid over this repository's configuration."""

    def written(text: str) -> Path:
        path = tmp_path / f"over-{time.monotonic_ns()}.yaml"
        path.write_text(text)
        return path

    return written


def test_the_configuration_is_valid_and_so_is_what_the_documentation_lays_over_it(over):
    for more in ((), *((over(text),) for text in SHOWN)):
        checked = validated(*more)
        assert (checked.returncode, checked.stderr) == (0, "")


DECIDED = re.compile(r"^otelcol_processor_tail_sampling_global_count_traces_sampled.* [1-9]", re.M)


def converse(collector: Collector, application, session: str) -> None:
    """Two turns: the second comes when it was decided about the first, and fails."""
    chat = application.client.chat.completions.create
    headers = {"x-session-id": session}
    chat(model=MODEL, messages=[], extra_headers=headers)
    application.send()
    until(lambda: DECIDED.search(collector.figures()))
    with pytest.raises(Exception, match="500"):
        chat(model=MODEL, messages=[], extra_headers={**headers, **FAILS})
    application.send()


def lateness(sampling: str) -> str:
    return re.sub(r"decision_wait: \d+s", "decision_wait: 1s", sampling)


def test_tail_sampling_keeps_a_session_whose_later_turn_fails(jaeger, second, over, application, tmp_path):
    with Collector(tmp_path, jaeger.grpc, second.grpc, over(lateness(SAMPLING))) as collector:
        converse(collector, application(collector.grpc, "kept"), "kept-whole")
        until(lambda: len(calls(jaeger.find("kept", **{"session.id": "kept-whole"}))) == 2)
    (trace,) = jaeger.find("kept", **{"llm_session.root": "true"})
    assert len(trace["spans"]) == 3


def test_tail_sampling_that_decides_at_the_root_loses_it(jaeger, second, over, application, tmp_path):
    policies = re.sub(r"- name: sessions\n.*?\n.*?\n", "", lateness(SAMPLING))
    policies = policies.replace("percentage: 10", "percentage: 0")
    at_the_root = policies.replace("decision_wait: 1s", "decision_wait: 1s\n    decision_wait_after_root_received: 1ms")
    cached = at_the_root.replace("policies:", "decision_cache: {non_sampled_cache_size: 1000}\n    policies:")
    with Collector(tmp_path, jaeger.grpc, second.grpc, over(cached)) as collector:
        sender = application(collector.grpc, "lost")
        converse(collector, sender, "lost-whole")
        with sender.provider.get_tracer("test").start_as_current_span("a failure of its own") as span:
            span.set_status(StatusCode.ERROR)
        sender.send()
        until(lambda: jaeger.find("lost"))
    assert jaeger.find("lost", **{"session.id": "lost-whole"}) == []


def test_metrics_made_of_spans_count_each_turn_once(jaeger, second, over, application, tmp_path):
    written = tmp_path / "metrics.json"
    soon = METRICS.replace("spanmetrics:\n", "spanmetrics: {metrics_flush_interval: 1s}\n", 1)
    kept = over(f"exporters: {{file: {{path: {written}}}}}\nservice: {{pipelines: {{metrics: {{exporters: [file]}}}}}}")
    with Collector(tmp_path, jaeger.grpc, second.grpc, over(soon), kept) as collector:
        sender = application(collector.grpc, "counted")
        with sender.provider.get_tracer("web").start_as_current_span("POST /chat"):
            for _ in range(2):
                headers = {"x-session-id": "counted"}
                sender.client.chat.completions.create(model=MODEL, messages=[], extra_headers=headers)
        sender.send()
        counted = until(lambda: written.exists() and written.read_text())
    names = set(re.findall(r'"key":"span.name","value":\{"stringValue":"(.*?)"', counted))
    assert names == {"POST /chat", f"chat {MODEL}"}
