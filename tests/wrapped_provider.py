"""A vendor's tracer provider around OpenTelemetry's own, whose tracers have no id generator."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider


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
