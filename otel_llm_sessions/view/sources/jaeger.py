"""Jaeger as a source: searched by tags through its pages' API (v1), read trace by trace through the public one (v3).

What Jaeger 1.76 (2.13) can and cannot do: v3 searches by service, operation and time, never by tags; v1 searches by
tags, but wants a service, answers whole traces, and tells of a link only where it leads. Neither has pages: an answer
has the traces of a limit, the newest as a rule, so a stretch of time is halved until answers are not full.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from otel_llm_sessions import semconv
from otel_llm_sessions.view.dialects import OPERATIONS
from otel_llm_sessions.view.dialects import told as in_conventions
from otel_llm_sessions.view.reading import TURN_OPERATIONS
from otel_llm_sessions.view.source import Unreachable
from otel_llm_sessions.view.sources.finder import unless_missing
from otel_llm_sessions.view.sources.jaeger_json import last_of, trace_of
from otel_llm_sessions.view.sources.mending import with_kinds_of_links
from otel_llm_sessions.view.sources.otlp_traces import spans_in
from otel_llm_sessions.view.sources.searched import Searched
from otel_llm_sessions.view.sources.site import Refused, Site, TooLong
from otel_llm_sessions.view.sources.told import Told
from otel_llm_sessions.view.sources.windows import Found, at, read
from otel_llm_sessions.view.spans import ReceivedSpan

LIMIT: Final = 500
"""Traces that one search may answer with; a trace is about 30 kB of JSON."""
LEAST_LIMIT: Final = 10
MICROSECOND: Final = 1_000

Tag = tuple[str, str]

SOUGHT: Final[tuple[Tag, ...]] = (
    (semconv.LLM_SESSION_ROOT, "true"),
    *((semconv.OPERATION_NAME, operation) for operation in sorted(TURN_OPERATIONS)),
    *OPERATIONS,
)
"""What finds all sessions: the roots of those that are traces, and whatever says that it is a call of a model."""


class Jaeger:
    """A Jaeger that is searched for sessions; see :class:`Finder`.

    Args:
        site: where it answers; the prefix that its pages have (``/jaeger``) is part of it.
        limit: how many traces one search may answer with.
    """

    def __init__(self, site: Site, limit: int = LIMIT) -> None:
        self._site = site
        self._limit = limit
        self._lock = threading.Lock()
        self._apis: tuple[bool, bool] | None = None

    @property
    def name(self) -> str:
        """``Jaeger at http://localhost:16686``."""
        return f"Jaeger at {self._site.url}"

    @property
    def apis(self) -> tuple[bool, bool]:
        """Whether its v1 and its v3 answer.

        Raises:
            Unreachable: neither does.
        """
        with self._lock:
            if self._apis is None:
                self._apis = self._ask_apis()
            return self._apis

    def everything(self, since: int, until: int, told: Told) -> Iterator[list[ReceivedSpan]]:
        """Yield the traces that have sessions in them, each once."""
        seen: set[str] = set()
        services = self._services()
        for service in services:
            for tag in SOUGHT if self.apis[0] else SOUGHT[:1]:
                yield from self._read(service, tag if self.apis[0] else None, since, until, told, seen)

    def having(self, attribute: str, value: str, since: int, until: int, told: Told) -> Iterator[list[ReceivedSpan]]:
        """Yield the whole traces that have a span with this attribute."""
        seen: set[str] = set()
        searches, reads = self.apis
        for service in self._services():
            for trace in self._read(service, (attribute, value), since, until, told, seen):
                if _has(trace, attribute, value):
                    # The other API has links whole, and nanoseconds.
                    yield self.trace(trace[0].trace_id, told) if searches and reads else trace

    def trace(self, trace_id: str, told: Told) -> list[ReceivedSpan]:
        """Return the spans of a trace; none if it is not there."""
        return unless_missing(partial(self._trace, quote(trace_id, safe="")), told)

    def mended(self, spans: Iterable[ReceivedSpan]) -> list[ReceivedSpan]:
        """Return the spans with what their links are, which v1 does not tell."""
        return with_kinds_of_links(spans)

    def trace_url(self, trace_id: str, span_id: str) -> str | None:
        """Return the address of a trace on Jaeger's page, with a span found in it."""
        found = f"?uiFind={quote(span_id, safe='')}" if span_id else ""
        return f"{self._site.url}/trace/{quote(trace_id, safe='')}{found}"

    def _trace(self, trace_id: str) -> list[ReceivedSpan]:
        if self.apis[1]:
            return spans_in(_result(self._site.json(f"/api/v3/traces/{trace_id}", {"raw_traces": "true"})))
        answer = self._site.json(f"/api/traces/{trace_id}", {"raw": "true"})
        return [span for trace in _data(answer) for span in trace_of(trace)]

    def _ask_apis(self) -> tuple[bool, bool]:
        older, newer = self._answers("/api/services", "data"), self._answers("/api/v3/services", "services")
        if not older and not newer:
            raise Unreachable(f"{self.name} answers neither GET /api/services nor GET /api/v3/services as Jaeger does")
        return older, newer

    def _answers(self, path: str, field: str) -> bool:
        """Whether an API is there. Jaeger answers paths that it does not know with its page."""
        try:
            answer = json.loads(self._site.get(path))
        except Refused as refused:
            if refused.status != 404:
                raise
            return False
        except (ValueError, RecursionError):
            return False
        # A Jaeger that has heard of nobody yet tells no services: null, or no field at all.
        return isinstance(answer, dict) and (isinstance(answer.get(field), list) or answer in ({}, {field: None}))

    def _services(self) -> list[str]:
        if self.apis[0]:
            return _names(_data(self._site.json("/api/services")))
        answer = self._site.json("/api/v3/services")
        return _names(answer.get("services") if isinstance(answer, dict) else None)

    def _read(
        self, service: str, tag: Tag | None, since: int, until: int, told: Told, seen: set[str]
    ) -> Iterator[list[ReceivedSpan]]:
        """Yield the traces that were not seen before."""
        search = partial(self._search_v1 if self.apis[0] else self._search_v3, service, tag, seen)
        return read(search, since, until, told)

    def _search_v1(
        self, service: str, tag: Tag | None, seen: set[str], start: int, end: int
    ) -> Found[list[ReceivedSpan]]:
        said = {"service": service, "start": str(start // MICROSECOND), "end": str(-(-end // MICROSECOND))}
        tags = {"tags": json.dumps(dict([tag]), separators=(",", ":"))} if tag else {}
        answer, full = self._limited("/api/traces", {**said, **tags, "raw": "true"}, "limit")
        found = _data(answer)
        # Of searches for several things most find the same: what was seen is not read again.
        new = [trace for trace in found if isinstance(trace, dict) and _is_new(trace.get("traceID"), seen)]
        traces = [trace for trace in map(trace_of, new) if trace]
        is_full = full or len(found) >= self._limit
        return Found(traces, is_full, len(found) / self._limit, [last_of(trace) for trace in found])

    def _search_v3(
        self, service: str, _: Tag | None, seen: set[str], start: int, end: int
    ) -> Found[list[ReceivedSpan]]:
        times = {"query.start_time_min": at(start), "query.start_time_max": at(end + MICROSECOND - 1)}
        said = {"query.service_name": service, **times, "query.raw_traces": "true"}
        try:
            answer, full = self._limited("/api/v3/traces", said, "query.num_traces")
        except Refused as refused:
            if refused.status == 404:
                return Found([], False)
            raise
        traces = list(_by_trace(spans_in(_result(answer) if answer else {})))
        new = [trace for trace in traces if _is_new(trace[0].trace_id, seen)]
        last = [max(span.start for span in trace) for trace in traces]
        return Found(new, full or len(traces) >= self._limit, len(traces) / self._limit, last)

    def _limited(self, path: str, said: Mapping[str, str], limit: str) -> tuple[Any, bool]:
        """The answer, and whether it is none because it would be too long; a limit that Jaeger refuses is lowered."""
        try:
            return self._site.json(path, {**said, limit: str(self._limit)}), False
        except TooLong:
            return None, True
        except Refused as refused:
            if "search depth" not in str(refused) or self._limit <= LEAST_LIMIT:
                raise
            self._limit = max(LEAST_LIMIT, self._limit // 2)
            return self._limited(path, said, limit)


class JaegerSource(Searched):
    """The sessions of a Jaeger.

    Args:
        site: where it answers.
        limit: how many traces one search may answer with.
    """

    def __init__(self, site: Site, limit: int = LIMIT) -> None:
        super().__init__(Jaeger(site, limit))


def _is_new(trace_id: object, seen: set[str]) -> bool:
    """Whether a trace was not seen before; it is from now on."""
    if not isinstance(trace_id, str) or trace_id in seen:
        return False
    seen.add(trace_id)
    return True


def _has(trace: Iterable[ReceivedSpan], attribute: str, value: str) -> bool:
    """Whether a span has the attribute itself: a search by v3 knows none, and one by v1 looks into resources too."""
    return any(str(in_conventions(span).attributes.get(attribute)) == value for span in trace)


def _by_trace(spans: Iterable[ReceivedSpan]) -> Iterable[list[ReceivedSpan]]:
    traces: dict[str, list[ReceivedSpan]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)
    return traces.values()


def _names(said: Any) -> list[str]:
    return sorted(name for name in said if isinstance(name, str)) if isinstance(said, list) else []


def _result(answer: Any) -> Any:
    if not isinstance(answer, dict):
        raise Unreachable("an answer that is not Jaeger's")
    return answer.get("result", answer)


def _data(answer: Any) -> list[Any]:
    if answer is None:
        return []
    data = answer.get("data") if isinstance(answer, dict) else answer
    if not isinstance(data, list) and data is not None:
        raise Unreachable("an answer that is not Jaeger's")
    return data or []
