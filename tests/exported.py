"""Spans after they went over OTLP: a real exporter and a real socket."""

from __future__ import annotations

from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otlp_receiver import OtlpReceiver

from otel_llm_sessions.view.spans import ReceivedSpan


class Exported:
    """What a provider's spans look like after they went over OTLP: real exporter, real socket."""

    def __init__(self, receiver: OtlpReceiver, sampler: Any = None) -> None:
        self.receiver = receiver
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{receiver.endpoint}/v1/traces")
        self.provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=100))

    @property
    def spans(self) -> list[ReceivedSpan]:
        """The spans that have ended so far, by their start."""
        assert self.provider.force_flush()
        return sorted(self.receiver.spans, key=lambda span: span.start)

    def named(self, name: str) -> list[ReceivedSpan]:
        """The spans whose name is ``name``, or begins with it and a space."""
        return [span for span in self.spans if f"{span.name} ".startswith(f"{name} ")]
