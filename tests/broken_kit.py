"""What raises wherever OpenTelemetry's SDK calls it."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler


class BrokenExporter(SpanExporter):
    def export(self, spans: Any) -> Any:
        raise OSError("the exporter is down")


class BrokenSampler(Sampler):
    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        raise OSError("no sampling today")

    def get_description(self) -> str:
        return "broken"


def provider_with(
    processor: SpanProcessor | None = None, ids: IdGenerator | None = None, sampler: Sampler = ALWAYS_ON
) -> TracerProvider:
    """A provider of a test's own, with what the test gives it."""
    provider = TracerProvider(id_generator=ids, sampler=sampler, shutdown_on_exit=False)
    if processor is not None:
        provider.add_span_processor(processor)
    return provider
