"""Roots and markers end after they begin, whatever the wall clock does meanwhile."""

from __future__ import annotations

import time
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

HOUR = 3600 * 10**9


@pytest.fixture
def clock(monkeypatch):
    """The wall clock, which can be set."""
    real, ahead = time.time_ns, [0]
    monkeypatch.setattr(time, "time_ns", lambda: real() + ahead[0])
    return ahead


def assert_forward(spans: Any) -> None:
    assert [span.name for span in spans if span.end_time < span.start_time] == []


@pytest.mark.parametrize("way", [{}, {"metadata": {"session_id": "X"}}], ids=["chain", "named"])
def test_a_clock_that_is_set_back_makes_no_root_and_no_marker_end_before_it_began(client, clock, way):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider) as spans:
        with provider.get_tracer("x").start_as_current_span("request"):
            with client.responses.create(model="m", input="x", stream=True, **way) as stream:
                first = next(stream)
                clock[0] -= HOUR
                list(stream)
        with client.responses.create(
            model="m", input="x", stream=True, previous_response_id=first.response.id, **way
        ) as stream:
            clock[0] -= HOUR
            list(stream)
    assert len([span for span in spans if span.name in ("session", "turn")]) == 2
    assert_forward(spans)


class FromAhead(MemoryStore):
    """A store with records of a machine whose clock was set back during the turn."""

    def get_all(self, keys: Any) -> Any:
        return [link and link._replace(end=link.start - HOUR) for link in super().get_all(keys)]


def test_a_record_of_a_turn_that_ended_before_it_began_makes_no_such_marker(client):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, store=FromAhead()) as spans:
        with provider.get_tracer("x").start_as_current_span("request"):
            first = client.responses.create(model="m", input="x")
        client.responses.create(model="m", input="x", previous_response_id=first.id)
    assert [span.name for span in spans if span.name in ("session", "turn")] == ["session", "turn"]
    assert_forward(spans)
