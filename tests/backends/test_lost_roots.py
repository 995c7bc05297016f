"""A session whose root was lost, and one whose root came twice, in the real Jaeger: what it has, what it warns of."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from jaeger_traces import parents, tags
from servers import Collector, Jaeger, eventually
from waiting import until

REST = 10.0
"""Seconds that a root rests here before it is told again: the exporter has given up by then."""


def turn(application: Any, before: Any = None) -> Any:
    previous = before.id if before is not None else None
    return application.client.responses.create(model="m", input="Hello", previous_response_id=previous)


def read(jaeger: Jaeger, service: str, spans: int) -> tuple[list[dict], list[str]]:
    """The session's roots, and what Jaeger warns of, once so many spans are there."""
    found = jaeger.find(service)
    assert [len(trace["spans"]) for trace in found] == [spans]
    (trace,) = found
    roots = [span for span in trace["spans"] if tags(span).get("llm_session.root")]
    below = {root["spanID"] for root in roots}
    assert all(parents(span) in ([], [*below]) for span in trace["spans"]) or not roots
    return roots, [warning for span in trace["spans"] for warning in span["warnings"] or []]


@pytest.mark.parametrize("settings", [{}, {"root_repeat": "10s"}], ids=["once", "again"])
def test_of_a_collector_that_was_dead_for_the_first_batch_the_root_is_told_again(
    application, jaeger: Jaeger, second: Jaeger, tmp_path: Path, settings: dict[str, str]
):
    service = f"root-lost-{time.time_ns()}"
    with Collector(tmp_path, jaeger.grpc, second.grpc) as collector:
        app = application(collector.grpc, service, **settings)
        collector.die()
        begun = time.monotonic()
        before = turn(app, turn(app))
        app.send()
        until(lambda: time.monotonic() - begun > REST)
        collector.come_back()
        turn(app, turn(app, before))
        app.send()
        is_again = bool(settings)
        roots, warnings = eventually(lambda: read(jaeger, service, 2 + is_again))
    assert len(roots) == is_again
    assert ("invalid parent span IDs" in " ".join(warnings)) is not is_again
    listed = jaeger.find(service, **{"llm_session.root": "true", "llm_session.part": "1"})
    assert len(listed) == is_again


def test_a_root_that_came_twice_is_there_once(application, jaeger: Jaeger, second: Jaeger, tmp_path: Path):
    service = f"root-twice-{time.time_ns()}"
    with Collector(tmp_path, jaeger.grpc, second.grpc) as collector:
        app = application(collector.grpc, service, root_repeat="1s")
        before = turn(app, turn(app))
        app.send()
        begun = time.monotonic()
        until(lambda: time.monotonic() - begun > 1)
        turn(app, before)
        app.send()
        roots, warnings = eventually(lambda: read(jaeger, service, 4))
        assert (len(roots), warnings) == (1, [])
        eventually(lambda: accepted(collector, 5))
    assert len(jaeger.find(service, **{"llm_session.root": "true", "llm_session.part": "1"})) == 1


def accepted(collector: Collector, spans: int) -> None:
    """The Collector has taken so many spans."""
    lines = [line for line in collector.figures().splitlines() if line.startswith("otelcol_receiver_accepted_spans")]
    assert sum(float(line.rpartition(" ")[2]) for line in lines) == spans
