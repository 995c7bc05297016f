"""Everything that arrived, by what identifies it: each span once, whatever came twice."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from otel_llm_sessions.view.dialects import told
from otel_llm_sessions.view.reading import SpanKey, key_of
from otel_llm_sessions.view.spans import ReceivedSpan

T = TypeVar("T")


class Spans:
    """The spans, by id and by parent, in the order of their start."""

    def __init__(self, received: Iterable[ReceivedSpan]) -> None:
        self._by_id: dict[SpanKey, ReceivedSpan] = {}
        for span in map(identified, received):
            key = key_of(span)
            other = self._by_id.get(key)
            if other is None or (other is not span and _fullness(span) > _fullness(other)):
                self._by_id[key] = span
        self._by_id = {key: told(span) for key, span in self._by_id.items()}
        self.all = sorted(self._by_id.values(), key=lambda span: (span.start, span.trace_id, span.span_id))
        self._below: defaultdict[SpanKey, list[ReceivedSpan]] = defaultdict(list)
        for span in self.all:
            self._below[span.trace_id, span.parent_id].append(span)
        self._parents = self._known_parents()
        self._answers: defaultdict[Callable[[ReceivedSpan], Any], dict[SpanKey, Any]] = defaultdict(dict)
        self._tops: dict[SpanKey, ReceivedSpan | None] = {}

    def below(self, key: SpanKey) -> list[ReceivedSpan]:
        """The children of the span with these ids, by start."""
        return self._below.get(key, [])

    def get(self, key: SpanKey | None) -> ReceivedSpan | None:
        """The span with these ids, if it arrived."""
        return self._by_id.get(key) if key else None

    def above(self, span: ReceivedSpan) -> Iterator[ReceivedSpan]:
        """The spans above this one that arrived, from its parent up; where parents form a circle, one has none."""
        above = self._parents.get(key_of(span))
        while above is not None:
            yield above
            above = self._parents.get(key_of(above))

    def nearest(self, span: ReceivedSpan, tells: Callable[[ReceivedSpan], T | None]) -> T | None:
        """What the nearest of the spans above this one tells that tells anything; None if none does.

        Args:
            span: the span.
            tells: what a span tells, None for nothing. Each span is asked once, however many stand below it: it is
                remembered by this function.
        """
        return self._climbed(span, tells, self._answers[tells])

    def topmost(self, span: ReceivedSpan) -> ReceivedSpan | None:
        """The topmost of the spans above this one; None if there is none above it."""
        return self._climbed(span, self._as_topmost, self._tops)

    def _as_topmost(self, span: ReceivedSpan) -> ReceivedSpan | None:
        return None if key_of(span) in self._parents else span

    def _climbed(
        self, span: ReceivedSpan, tells: Callable[[ReceivedSpan], T | None], known: dict[SpanKey, T | None]
    ) -> T | None:
        passed: list[SpanKey] = []
        answer = None
        for one in self.above(span):
            key = key_of(one)
            if key in known:
                answer = known[key]
                break
            passed.append(key)
            if (answer := tells(one)) is not None:
                break
        known.update(dict.fromkeys(passed, answer))
        return answer

    def _known_parents(self) -> dict[SpanKey, ReceivedSpan]:
        """The parent of each span whose parent arrived; of a circle, the span of the greatest id has none."""
        above = ((key, self.get((span.trace_id, span.parent_id))) for key, span in self._by_id.items())
        parents = {key: parent for key, parent in above if parent is not None}
        settled: set[SpanKey] = set()
        for key in list(parents):
            path: dict[SpanKey, None] = {}
            while key in parents and key not in settled and key not in path:
                path[key] = None
                key = key_of(parents[key])
            if key in path:
                names = list(path)
                del parents[max(names[names.index(key) :])]
            settled.update(path)
        return parents


def identified(span: ReceivedSpan) -> ReceivedSpan:
    """The span with an id by which it is told from others: one that came without gets one of all that it says."""
    span_id, parent_id = span.span_id.strip("0"), span.parent_id.strip("0")
    if span_id and (parent_id or not span.parent_id):
        return span
    own = span.span_id if span_id else hashlib.blake2b(repr(span).encode("utf-8", "replace"), digest_size=8).hexdigest()
    return replace(span, span_id=own, parent_id=span.parent_id if parent_id else "")


def _fullness(span: ReceivedSpan) -> tuple[object, ...]:
    """The greater, the more a span says; the later end says what came last."""
    return len(span.attributes), span.end, len(span.links), len(span.events), repr(span)
