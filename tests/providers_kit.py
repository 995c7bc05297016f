"""Tracer and logger providers of a test's own, and a vendor's that wraps OpenTelemetry's."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import LogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter


def provider_with(processor: SpanProcessor | None = None, **options: Any) -> TracerProvider:
    """A provider that one processor is told of, made with more options."""
    provider = TracerProvider(shutdown_on_exit=False, **options)
    if processor is not None:
        provider.add_span_processor(processor)
    return provider


def provider_to(exporter: SpanExporter, **options: Any) -> TracerProvider:
    """A provider whose spans go to an exporter as they end."""
    return provider_with(SimpleSpanProcessor(exporter), **options)


def loggers_to(exporter: LogRecordExporter, **options: Any) -> LoggerProvider:
    """A logger provider whose events go to an exporter at once."""
    provider = LoggerProvider(shutdown_on_exit=False, **options)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    return provider


class WrappedTracer(trace.Tracer):
    """A tracer that has no ids to give."""

    def __init__(self, inner: trace.Tracer) -> None:
        self.inner = inner

    def start_span(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.start_span(*args, **kwargs)

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.start_as_current_span(*args, **kwargs)


class WrappedProvider(trace.TracerProvider):
    """A provider of the API's, whose tracers those are: traces of sessions have random ids."""

    def __init__(self, inner: TracerProvider) -> None:
        self.add_span_processor = inner.add_span_processor
        self.inner = inner

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        return WrappedTracer(self.inner.get_tracer(*args, **kwargs))
