"""What raises wherever OpenTelemetry's SDK calls it."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import Sampler


class BrokenExporter(SpanExporter):
    def export(self, spans: Any) -> Any:
        raise OSError("the exporter is down")


class BrokenSampler(Sampler):
    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        raise OSError("no sampling today")

    def get_description(self) -> str:
        return "broken"
