"""For users' own tests: see the spans that the application's calls make."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_llm_sessions.instrumentor import OpenAISessionsInstrumentor
from otel_llm_sessions.semconv import SESSION_ID


class CapturedSpans(list[ReadableSpan]):
    """The spans that have ended so far, in the order in which they ended.

    Example::

        with capture_spans() as spans, session("chat-42"):
            my_application()
        assert spans.of_session("chat-42")
    """

    def of_session(self, session_id: str) -> list[ReadableSpan]:
        """Return the spans that carry this ``session.id``."""
        return [span for span in self if (span.attributes or {}).get(SESSION_ID) == session_id]


class _IntoList(InMemorySpanExporter):
    def __init__(self, spans: CapturedSpans) -> None:
        super().__init__()
        self._into = spans

    def export(self, spans: Any) -> Any:
        """Append the spans."""
        self._into.extend(spans)
        return super().export(spans)


@contextmanager
def capture_spans(**settings: Any) -> Iterator[CapturedSpans]:
    """Instrument the client inside the block and yield the list that its spans are added to as they end.

    Example::

        with capture_spans(traces="turn") as spans:
            my_application()
        assert spans[0].name.startswith("chat")

    Args:
        settings: as for ``OpenAISessionsInstrumentor().instrument()``. The spans go to a tracer provider of the
            block's own unless ``tracer_provider`` is given.

    Raises:
        RuntimeError: the client is instrumented already.
    """
    instrumentor = OpenAISessionsInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        raise RuntimeError("capture_spans() needs the client un-instrumented: call uninstrument() first")
    spans = CapturedSpans()
    provider = settings.pop("tracer_provider", None)
    if provider is None:
        provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(_IntoList(spans)))
    instrumentor.instrument(tracer_provider=provider, **settings)
    try:
        yield spans
    finally:
        instrumentor.uninstrument()
