"""Tempo as a source: searched by TraceQL for spans, and read trace by trace.

Queries look at spans, never at whole traces (``trace:rootName``, ``rootServiceName``): Tempo keeps a trace that goes on
for hours in several blocks, and of each sees only what is in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from otel_llm_sessions import semconv
from otel_llm_sessions.view.dialects import NAMES, OPERATIONS
from otel_llm_sessions.view.query import SECOND
from otel_llm_sessions.view.source import Unreachable
from otel_llm_sessions.view.sources.finder import DAY, unless_missing
from otel_llm_sessions.view.sources.mending import with_markers_linked, with_roots
from otel_llm_sessions.view.sources.otlp_traces import attributes_in, id_of, spans_in, whole
from otel_llm_sessions.view.sources.searched import Searched
from otel_llm_sessions.view.sources.site import Refused, Site, TooLong
from otel_llm_sessions.view.sources.slim import KEPT
from otel_llm_sessions.view.sources.told import Told
from otel_llm_sessions.view.sources.windows import Found, read
from otel_llm_sessions.view.spans import ReceivedSpan

LIMIT: Final = 500
"""Traces that one search may answer with."""
PER_TRACE: Final = 100
"""Spans of a trace that a search may answer with; Tempo's own most, unless it is set otherwise."""
LEAST: Final = 5

CALLED: Final = (semconv.SESSION_ID, semconv.CONVERSATION_ID, *NAMES[semconv.SESSION_ID])
SERVICE: Final = "service.name"
STATUS: Final = "status"
KIND: Final = "kind"

SELECTED: Final = tuple(
    dict.fromkeys(
        (
            *CALLED,
            *KEPT,
            *(other for name, others in NAMES.items() if name in KEPT for other in others),
            *(name for name, _ in OPERATIONS),
        )
    )
)
"""What a session in one row is made from, and what others call it."""

NAMED: Final = " || ".join(f"span.{name} != nil" for name in CALLED)
EVERYTHING: Final = (
    f"{{ {NAMED} }} | "
    f"select({', '.join(f'span.{name}' for name in SELECTED)}, resource.{SERVICE}, name, {STATUS}, {KIND})"
)


class Tempo:
    """A Tempo that is searched for sessions; see :class:`Finder`.

    Args:
        site: where it answers.
        limit: how many traces one search may answer with.
        has_v2: whether it may have the newer path of traces; where it answers 404, the older is asked.
    """

    def __init__(self, site: Site, limit: int = LIMIT, has_v2: bool = True) -> None:
        self._site = site
        self._limit = limit
        self._per_trace = PER_TRACE
        self._has_v2 = has_v2

    @property
    def name(self) -> str:
        """``Tempo at http://localhost:3200``."""
        return f"Tempo at {self._site.url}"

    def everything(self, since: int, until: int, told: Told) -> Iterator[list[ReceivedSpan]]:
        """Yield of each trace the spans that name a session; those of long ones in several pieces."""
        whole: set[str] = set()
        for trace in self._days(EVERYTHING, since, until, told):
            spans, trace_id = _matched(trace), _trace_id(trace)
            if not spans or not _more(trace, len(spans)):
                yield spans
            elif trace_id not in whole:
                # One whose turns are more than a search answers is read by its id; each of its hours finds it.
                whole.add(trace_id)
                yield self._unless_refused(trace_id, told) or spans

    def having(self, attribute: str, value: str, since: int, until: int, told: Told) -> Iterator[list[ReceivedSpan]]:
        """Yield the whole traces that have a span with this attribute."""
        query = f"{{ span.{attribute} = {quoted(value)} }}"
        for trace_id in dict.fromkeys(_trace_id(trace) for trace in self._days(query, since, until, told)):
            if spans := self.trace(trace_id, told):
                yield spans

    def trace(self, trace_id: str, told: Told) -> list[ReceivedSpan]:
        """Return the spans of a trace; none if it is not there."""
        return unless_missing(lambda: spans_in(self._trace(quote(trace_id, safe=""), told)), told)

    def mended(self, spans: Iterable[ReceivedSpan]) -> list[ReceivedSpan]:
        """Return the spans with their markers linked to their calls, which searches do not tell."""
        return with_markers_linked(with_roots(spans))

    def trace_url(self, trace_id: str, span_id: str) -> None:
        """None: Tempo has no page; Grafana has (``--trace-url``)."""

    def _unless_refused(self, trace_id: str, told: Told) -> list[ReceivedSpan]:
        """The spans of one of many traces; none if it cannot be had: a Tempo has limits to what it answers with."""
        try:
            return self.trace(trace_id, told)
        except Refused as refused:
            told.notice(f"a long trace is counted in part: {refused}")
            return []

    def _trace(self, trace_id: str, told: Told) -> Any:
        if self._has_v2:
            try:
                answer = self._site.json(f"/api/v2/traces/{trace_id}")
            except Refused as refused:
                if refused.status != 404:
                    raise
                # It answers 200 to an id that it does not know: this one has no such path, or a gateway before it.
                answer = None
            if isinstance(answer, dict):
                if answer.get("status") in ("PARTIAL", 1):
                    told.notice(f"Tempo told only a part of trace {trace_id}: {answer.get('message') or 'no reason'}")
                return answer.get("trace")
        older = self._site.json(f"/api/traces/{trace_id}")
        self._has_v2 = False
        return older

    def _days(self, query: str, since: int, until: int, told: Told) -> Iterator[dict[str, Any]]:
        """What a search finds, day by day: Tempo refuses more than 168 hours at once, unless it is set otherwise."""
        while since <= until:
            start = max(since, until - DAY)
            yield from read(partial(self._search, query, told), start, until, told, SECOND)
            until = start - 1

    def _search(self, query: str, told: Told, start: int, end: int) -> Found[dict[str, Any]]:
        times = {"start": str(start // SECOND), "end": str(end // SECOND + 1)}
        try:
            answer = self._limited({"q": query, **times})
        except TooLong:
            return Found([], True)
        traces = answer.get("traces") if isinstance(answer, dict) else None
        if not isinstance(traces, list) and not isinstance(answer, dict):
            raise Unreachable(f"{self.name} does not answer a search as Tempo does")
        _say_what_is_missing(answer.get("metrics"), told)
        found = [trace for trace in traces or () if isinstance(trace, dict) and _trace_id(trace)]
        last = [_last(trace) for trace in found]
        return Found(found, len(found) >= self._limit, len(found) / self._limit, last)

    def _limited(self, said: dict[str, str]) -> Any:
        """The answer; limits that Tempo refuses are lowered."""
        while True:
            limits = {"limit": str(self._limit), "spss": str(self._per_trace)}
            try:
                return self._site.json("/api/search", {**said, **limits})
            except Refused as refused:
                if refused.status != 400 or not self._lowered(str(refused)):
                    raise

    def _lowered(self, refusal: str) -> bool:
        """Lower the limit that a refusal is about; whether there was any."""
        if "spans per span" in refusal and self._per_trace > LEAST:
            self._per_trace //= 2
        elif "limit" in refusal and self._limit > LEAST:
            self._limit //= 2
        else:
            return False
        return True


class TempoSource(Searched):
    """The sessions of a Tempo.

    Args:
        site: where it answers.
        limit: how many traces one search may answer with.
    """

    def __init__(self, site: Site, limit: int = LIMIT) -> None:
        super().__init__(Tempo(site, limit))


def quoted(text: str) -> str:
    """A text as TraceQL writes it."""
    return json.dumps(text, ensure_ascii=False)


def _say_what_is_missing(metrics: Any, told: Told) -> None:
    """Tell where a search was not ended in all of its parts."""
    if not isinstance(metrics, dict):
        return
    done, all_of_them = (whole(metrics.get(name)) for name in ("completedJobs", "totalJobs"))
    if done < all_of_them:
        told.notice(f"Tempo searched only {done} of {all_of_them} parts of what it has: sessions may be missing")


def _trace_id(trace: dict[str, Any]) -> str:
    """The id, with the zeros that Tempo leaves out before it."""
    return id_of(trace.get("traceID"), 32)


def _sets(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """What matched, in groups; older ones have only one."""
    sets = trace.get("spanSets") or [trace.get("spanSet")]
    return [one for one in sets if isinstance(one, dict)] if isinstance(sets, list) else []


def _more(trace: dict[str, Any], told: int) -> bool:
    return sum(whole(one.get("matched")) for one in _sets(trace)) > told


def _last(trace: dict[str, Any]) -> int:
    """When the last span begins that matched, in nanoseconds since the epoch; 0 if nothing says it."""
    spans = (span for one in _sets(trace) for span in one.get("spans") or () if isinstance(span, dict))
    return max((whole(span.get("startTimeUnixNano")) for span in spans), default=0)


def _matched(trace: dict[str, Any]) -> list[ReceivedSpan]:
    """The spans that matched, with what was selected of them."""
    spans = (span for one in _sets(trace) for span in one.get("spans") or () if isinstance(span, dict))
    service = trace.get("rootServiceName")
    return [_span(span, _trace_id(trace), service if isinstance(service, str) else "") for span in spans]


def _span(said: dict[str, Any], trace_id: str, root_service: str) -> ReceivedSpan:
    attributes = attributes_in(said)
    own: Callable[[str, str], str] = lambda name, default: str(attributes.pop(name, default))  # noqa: E731
    start = whole(said.get("startTimeUnixNano"))
    return ReceivedSpan(
        name=str(said.get("name", "")),
        trace_id=trace_id,
        span_id=id_of(said.get("spanID"), 16),
        kind=own(KIND, "internal").upper(),
        start=start,
        end=start + whole(said.get("durationNanos")),
        status=own(STATUS, "unset").upper(),
        resource={SERVICE: own(SERVICE, root_service)},
        attributes=attributes,
    )
