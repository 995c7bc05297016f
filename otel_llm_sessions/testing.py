"""For users' own tests: see the spans that the application's calls make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

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


class _IntoList(SpanExporter):
    def __init__(self, spans: CapturedSpans) -> None:
        self._into: CapturedSpans | None = spans

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append the spans."""
        if self._into is not None:
            self._into.extend(spans)
        return SpanExportResult.SUCCESS

    def let_go(self) -> None:
        """Append nothing more: a provider has no way to remove what was added to it, and may live long."""
        self._into = None


@contextmanager
def capture_spans(**settings: Any) -> Iterator[CapturedSpans]:
    """Instrument the client inside the block and yield the list that its spans are added to as they end.

    Example::

        with capture_spans(traces="turn") as spans:
            my_application()
        assert spans[0].name.startswith("chat")

    Args:
        settings: as for ``OpenAISessionsInstrumentor().instrument()``. The spans go to a tracer provider of the
            block's own unless ``tracer_provider`` is given, of which those are added that end inside the block.

    Raises:
        RuntimeError: the client is instrumented already.
    """
    instrumentor = OpenAISessionsInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        raise RuntimeError("capture_spans() needs the client un-instrumented: call uninstrument() first")
    spans = CapturedSpans()
    given, into = settings.pop("tracer_provider", None), _IntoList(spans)
    provider = TracerProvider(shutdown_on_exit=False) if given is None else given
    provider.add_span_processor(SimpleSpanProcessor(into))
    try:
        instrumentor.instrument(tracer_provider=provider, **settings)
        try:
            yield spans
        finally:
            instrumentor.uninstrument()
    finally:
        if given is not None:
            into.let_go()
