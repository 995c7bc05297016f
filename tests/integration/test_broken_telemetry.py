"""A processor, a sampler, an exporter or metrics that raise cost neither the chain nor the record."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from broken_kit import BrokenExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from providers_kit import provider_with

from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans


class Broken(SpanProcessor):
    """Raises at one occasion, for the spans of one name."""

    def __init__(self, occasion: str, name: str) -> None:
        self._occasion = occasion
        self._name = name

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._raise("start", span.name)

    def on_end(self, span: Any) -> None:
        self._raise("end", span.name)

    def _raise(self, occasion: str, name: str) -> None:
        if occasion == self._occasion and name.startswith(self._name):
            raise RuntimeError(f"no {name}")


class OnceBrokenSampler(Sampler):
    """Raises once."""

    def __init__(self) -> None:
        self.calls = 0

    def should_sample(self, *arguments: Any, **keywords: Any) -> Any:
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("no decision")
        return ALWAYS_ON.should_sample(*arguments, **keywords)

    def get_description(self) -> str:
        return "broken"


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


def chain(api: Any) -> list[str]:
    """Three turns, each of which names the one before."""
    ids: list[str] = []
    for _ in range(3):
        ids.append(api.respond(**({"previous_response_id": ids[-1]} if ids else {})).id)
    return ids


PROVIDERS = {
    "a processor as a call ends": lambda: provider_with(Broken("end", "chat")),
    "a processor as a call starts": lambda: provider_with(Broken("start", "chat")),
    "a processor as a root ends": lambda: provider_with(Broken("end", "session")),
    "a processor as a root starts": lambda: provider_with(Broken("start", "session")),
    "a processor as a marker starts": lambda: provider_with(Broken("start", "turn")),
    "a processor as a marker ends": lambda: provider_with(Broken("end", "turn")),
    "an exporter": lambda: provider_with(SimpleSpanProcessor(BrokenExporter())),
    "a sampler": lambda: TracerProvider(sampler=OnceBrokenSampler(), shutdown_on_exit=False),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("broken", PROVIDERS)
def test_the_chain_goes_on(api, broken, nested):
    provider, store = PROVIDERS[broken](), MemoryStore()
    with capture_spans(tracer_provider=provider, store=store):
        if nested:
            with provider.get_tracer("app").start_as_current_span("web request"):
                ids = chain(api)
        else:
            ids = chain(api)
    with capture_spans(store=store) as spans:
        api.respond(previous_response_id=ids[-1])
    turn = next(span for span in spans if span.name.startswith("chat"))
    assert turn.attributes["session.id"] == ids[0]
    assert (turn.attributes["llm_session.turn"], turn.attributes["llm_session.source"]) == (4, "chain")


def test_the_stream_of_a_chain_goes_on(api):
    provider, store = PROVIDERS["a processor as a call ends"](), MemoryStore()
    with capture_spans(tracer_provider=provider, store=store):
        api.read(api.respond(stream=True))
        last = api.read(api.respond(stream=True))[-1].response.id
    with capture_spans(store=store) as spans:
        api.respond(previous_response_id=last)
    turn = next(span for span in spans if span.name.startswith("chat"))
    assert turn.attributes["session.id"] == last


class BrokenHistogram:
    def record(self, *arguments: Any, **keywords: Any) -> None:
        raise RuntimeError("no metrics")

    add = record


class BrokenMeterProvider(NoOpMeterProvider.__base__):  # type: ignore[misc, name-defined]
    """Somebody's own."""

    def get_meter(self, *arguments: Any, **keywords: Any) -> Any:
        return self

    def create_histogram(self, *arguments: Any, **keywords: Any) -> Any:
        return BrokenHistogram()

    create_counter = create_histogram


def test_metrics_that_raise_cost_no_span_and_no_chain(api):
    with capture_spans(meter_provider=BrokenMeterProvider()) as spans:
        ids = chain(api)
    turns = [span for span in spans if span.name.startswith("chat")]
    assert [span.attributes["session.id"] for span in turns] == [ids[0]] * 3
    assert [span.attributes["gen_ai.response.id"] for span in turns] == ids
