"""Everything that arrived, by what identifies it: each span once, whatever came twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from otel_llm_sessions.view.dialects import told
from otel_llm_sessions.view.reading import SpanKey, key_of
from otel_llm_sessions.view.spans import ReceivedSpan


class Spans:
    """The spans, by id and by parent, in the order of their start."""

    def __init__(self, received: Iterable[ReceivedSpan]) -> None:
        self._by_id: dict[SpanKey, ReceivedSpan] = {}
        for span in received:
            key = key_of(span)
            other = self._by_id.get(key)
            if other is None or (other is not span and _fullness(span) > _fullness(other)):
                self._by_id[key] = span
        self._by_id = {key: told(span) for key, span in self._by_id.items()}
        self.all = sorted(self._by_id.values(), key=lambda span: (span.start, span.trace_id, span.span_id))
        self._below: defaultdict[SpanKey, list[ReceivedSpan]] = defaultdict(list)
        for span in self.all:
            self._below[span.trace_id, span.parent_id].append(span)

    def below(self, key: SpanKey) -> list[ReceivedSpan]:
        """The children of the span with these ids, by start."""
        return self._below.get(key, [])

    def get(self, key: SpanKey | None) -> ReceivedSpan | None:
        """The span with these ids, if it arrived."""
        return self._by_id.get(key) if key else None

    def above(self, span: ReceivedSpan) -> Iterator[ReceivedSpan]:
        """The spans above this one that arrived, from its parent up; each once, also where parents form a circle."""
        seen = {key_of(span)}
        while parent := self.get((span.trace_id, span.parent_id)):
            span = parent
            if key_of(span) in seen:
                return
            seen.add(key_of(span))
            yield span


def _fullness(span: ReceivedSpan) -> tuple[object, ...]:
    """The greater, the more a span says; the later end says what came last."""
    return len(span.attributes), span.end, len(span.links), len(span.events), repr(span)
