"""The span of a call, whoever's it is: our own, another instrumentation's, or none that anybody sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Link, Span, SpanContext, StatusCode

from otel_llm_sessions import semconv
from otel_llm_sessions.telemetry.metrics import CallMetrics
from otel_llm_sessions.telemetry.span import annotate

SECOND: Final = 1_000_000_000


class CallSpan(Protocol):
    """What a call does with its span."""

    sent_in: Context
    """The context in which the request is sent."""
    asked: dict[str, Any]
    """What the request says of the call."""
    is_ours: bool
    """Whether what is in the reply is for us to tell: the span or the metrics are ours, and somebody sees them."""
    is_borrowed: bool
    """Whether it is another instrumentation's."""
    is_unseen: bool
    """Whether nobody sees the call, so that it has no place in a trace either."""

    @property
    def context(self) -> SpanContext:
        """Which span it is; an invalid one if there is none."""
        ...

    @property
    def own(self) -> Span | None:
        """The span itself where it is ours, recording or not."""
        ...

    @property
    def is_seen(self) -> bool:
        """Whether anything that a reply says goes anywhere: to the span or the metrics."""
        ...

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes."""
        ...

    def link(self, links: Sequence[Link]) -> None:
        """Add links."""
        ...

    def tell(
        self,
        attributes: dict[str, Any],
        error_type: str | None,
        took: int,
        first_chunk: float | None,
        words: str | None = None,
    ) -> None:
        """Set what is known at the end, and record the metrics; only where ``is_ours``.

        Args:
            attributes: what the reply says.
            error_type: ``error.type`` of a call that failed.
            took: how long the call took, in nanoseconds.
            first_chunk: seconds to the first chunk of a stream; None if there was none.
            words: the server's own of an error, where they are recorded.
        """
        ...

    def end(self, ended: int) -> None:
        """End the span as it ended, in nanoseconds since the epoch."""
        ...


class OwnSpan:
    """A span of ours, and the metrics of its call."""

    __slots__ = ("_metrics", "asked", "is_ours", "is_seen", "own", "sent_in")
    is_borrowed = is_unseen = False

    def __init__(self, span: Span, sent_in: Context, asked: dict[str, Any], metrics: CallMetrics | None) -> None:
        """Args: the span; the context to send in; what the span was created with; where metrics go, if anywhere."""
        self.own = span
        self._metrics = metrics
        self.sent_in = sent_in
        self.asked = asked
        self.is_ours = self.is_seen = metrics is not None or span.is_recording()

    @property
    def context(self) -> SpanContext:
        """See ``CallSpan``."""
        return self.own.get_span_context()

    def set(self, attributes: Mapping[str, Any]) -> None:
        """See ``CallSpan``."""
        self.own.set_attributes(attributes)

    def link(self, links: Sequence[Link]) -> None:
        """See ``CallSpan``."""
        for link in links:
            self.own.add_link(link.context, link.attributes)

    def tell(
        self,
        attributes: dict[str, Any],
        error_type: str | None,
        took: int,
        first_chunk: float | None,
        words: str | None = None,
    ) -> None:
        """See ``CallSpan``."""
        span = self.own
        if first_chunk is not None:
            attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = first_chunk
        if error_type is not None:
            attributes[semconv.ERROR_TYPE] = error_type
        if span.is_recording():  # whoever has it may have ended it
            if error_type is not None:
                span.set_status(StatusCode.ERROR, words)
            span.set_attributes(attributes)
        if self._metrics is not None:
            self._metrics.record(self.asked, attributes, took / SECOND, first_chunk, self.sent_in)

    def end(self, ended: int) -> None:
        """See ``CallSpan``."""
        self.own.end(ended)


class _NotOurs:
    """What spans have in common whose end is nobody's of ours."""

    __slots__ = ("asked", "is_ours", "sent_in")
    is_borrowed = is_unseen = False

    def __init__(self, sent_in: Context, asked: dict[str, Any]) -> None:
        self.sent_in = sent_in
        self.asked = asked
        self.is_ours = False

    @property
    def own(self) -> Span | None:
        """See ``CallSpan``."""
        return None

    def tell(
        self,
        attributes: dict[str, Any],
        error_type: str | None,
        took: int,
        first_chunk: float | None,
        words: str | None = None,
    ) -> None:
        """See ``CallSpan``."""

    def end(self, ended: int) -> None:
        """See ``CallSpan``."""


class BorrowedSpan(_NotOurs):
    """Another instrumentation's span of the call: it gets what is ours to say, and ends when its owner ends it."""

    __slots__ = ("_around", "_span")
    is_borrowed = True

    def __init__(self, span: Span, around: Context, sent_in: Context, asked: dict[str, Any]) -> None:
        """Args: the span; the context in which the call is made; the context to send in; what the request says."""
        super().__init__(sent_in, asked)
        self._span = span
        self._around = around

    @property
    def context(self) -> SpanContext:
        """See ``CallSpan``."""
        return self._span.get_span_context()

    @property
    def is_seen(self) -> bool:
        """See ``CallSpan``."""
        return self._span.is_recording()

    def set(self, attributes: Mapping[str, Any]) -> None:
        """See ``CallSpan``."""
        annotate(self._around, self._span, attributes)

    def link(self, links: Sequence[Link]) -> None:
        """See ``CallSpan``."""
        for link in links:
            self._span.add_link(link.context, link.attributes)


class UnseenSpan(_NotOurs):
    """No span: the call is only to keep its session's chain."""

    __slots__ = ()
    is_unseen = True

    @property
    def context(self) -> SpanContext:
        """See ``CallSpan``."""
        return INVALID_SPAN_CONTEXT

    @property
    def is_seen(self) -> bool:
        """See ``CallSpan``."""
        return False

    def set(self, attributes: Mapping[str, Any]) -> None:
        """See ``CallSpan``."""

    def link(self, links: Sequence[Link]) -> None:
        """See ``CallSpan``."""


class NoSpan(UnseenSpan):
    """No span yet, or none any more, of a call that has its place in a trace all the same."""

    __slots__ = ()
    is_unseen = False


NOT_STARTED: Final[CallSpan] = NoSpan(Context(), {})
"""The span of a call before it has one."""
