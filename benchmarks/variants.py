"""Who stands around the client: nobody, the floor, this package, a peer."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import openai
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import SpanKind

from benchmarks.replies import MODEL, SERVED_MODEL

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
PEER_MODULE = "opentelemetry.instrumentation.genai.openai"
OURS_MODULE = "otel_llm_sessions.instrumentor"

AT_START = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": MODEL,
    "server.address": "benchmark.invalid",
    "server.port": 80,
}


class Drop(SpanProcessor):
    """Takes spans and keeps none, so that exporting is no part of what is measured."""

    def on_end(self, span: ReadableSpan) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Setup:
    """How the application configured telemetry: for all variants alike."""

    traces: str = "session"
    metrics: bool = False
    sampled: bool = True
    content: bool = False

    def tracer_provider(self) -> TracerProvider:
        """Return a provider that drops every ended span."""
        provider = TracerProvider(sampler=ALWAYS_ON if self.sampled else ALWAYS_OFF, shutdown_on_exit=False)
        provider.add_span_processor(Drop())
        return provider

    def meter_arguments(self) -> dict[str, Any]:
        """Return the keyword that turns metrics on, or none."""
        if not self.metrics:
            return {}
        return {"meter_provider": MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)}

    def environment(self) -> contextlib.AbstractContextManager[Any]:
        """Have the environment ask for contents inside the block, or not."""
        return patch.dict(os.environ, {CAPTURE: "SPAN_ONLY" if self.content else "NO_CONTENT"})


@contextlib.contextmanager
def bare(setup: Setup, provider: TracerProvider) -> Iterator[None]:
    """The client alone."""
    yield


@contextlib.contextmanager
def floor(setup: Setup, provider: TracerProvider) -> Iterator[None]:
    """One SDK span with 12 attributes around the call, by a plain function: nothing attached, no context manager."""
    original = openai.OpenAI.request
    tracer = provider.get_tracer("floor")
    name = f"chat {MODEL}"

    def request(self: openai.OpenAI, *args: Any, **kwargs: Any) -> Any:
        span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=AT_START)
        result = original(self, *args, **kwargs)
        usage = result.usage
        span.set_attributes(
            {
                "gen_ai.response.id": result.id,
                "gen_ai.response.model": SERVED_MODEL,
                "gen_ai.response.finish_reasons": ("stop",),
                "gen_ai.usage.input_tokens": 25,
                "gen_ai.usage.output_tokens": 58,
                "openai.response.service_tier": result.service_tier,
                "gen_ai.output.total": usage.total_tokens,
            }
        )
        span.end()
        return result

    with patch.object(openai.OpenAI, "request", request):  # which knows that the class inherits it, and takes it away
        yield


@contextlib.contextmanager
def ours(setup: Setup, provider: TracerProvider) -> Iterator[None]:
    """This package."""
    from otel_llm_sessions.instrumentor import OpenAISessionsInstrumentor

    instrumentor = OpenAISessionsInstrumentor()
    with setup.environment():
        instrumentor.instrument(tracer_provider=provider, traces=setup.traces, **setup.meter_arguments())
    try:
        yield
    finally:
        instrumentor.uninstrument()


@contextlib.contextmanager
def peer(setup: Setup, provider: TracerProvider) -> Iterator[None]:
    """OpenTelemetry's own instrumentation of the same client."""
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    instrumentor = OpenAIInstrumentor()
    with setup.environment():
        instrumentor.instrument(tracer_provider=provider, **setup.meter_arguments())
    try:
        yield
    finally:
        instrumentor.uninstrument()


Variant = Callable[[Setup, TracerProvider], contextlib.AbstractContextManager[None]]
VARIANTS: dict[str, Variant] = {"bare": bare, "floor": floor, "ours": ours, "peer": peer}
NEEDS = {"ours": OURS_MODULE, "peer": PEER_MODULE}


def available() -> list[str]:
    """Return the names of the variants that can be measured here."""
    return [name for name in VARIANTS if name not in NEEDS or _importable(NEEDS[name])]


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
