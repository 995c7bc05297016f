"""Our own viewer as a source: ``otel-llm-sessions view``, by its JSON API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final, TypeGuard
from urllib.parse import quote

from otel_llm_sessions.view.otlp_json import read_logs_json, read_notices_json, read_spans_json
from otel_llm_sessions.view.query import Query, moment
from otel_llm_sessions.view.source import Arrived, Page, Progress, Unreachable
from otel_llm_sessions.view.sources.site import Refused, Site, segment
from otel_llm_sessions.view.sources.windows import at
from otel_llm_sessions.view.summaries import Summary

HEALTH: Final = "/api/health"
SESSIONS: Final = "/api/sessions"
PER_PAGE: Final = 500


class Viewer:
    """A running viewer. Thread-safe.

    Args:
        url: its address, as ``http://localhost:4318``.
        headers: sent with each request; ``Authorization`` where it asks for a token.

    Raises:
        ValueError: the address is not valid.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._site = Site(url, headers)

    @property
    def name(self) -> str:
        """``the viewer at http://localhost:4318``."""
        return f"the viewer at {self._site.url}"

    def sessions(self, query: Query, progress: Progress | None = None) -> Page:
        """Return the sessions that the query asks for; more than a page holds are asked for page by page."""
        found: list[Summary] = []
        notices: list[str] = []
        cursor: str | None = query.cursor
        while cursor is not None and len(found) < query.limit:
            said = _asked(query, cursor, min(PER_PAGE, query.limit - len(found)))
            answer = self._object(self._site.json(SESSIONS, said))
            page = list(_summaries(answer.get("sessions")))
            found += page
            notices += [each for each in _texts(answer.get("notices")) if each not in notices]
            # A viewer that gives the same cursor for ever would keep us for ever.
            after = _text(answer.get("next_cursor"))
            cursor = after if page and after != cursor else None
            if progress and cursor:
                progress(f"{len(found):,} sessions")
        return Page(tuple(found), cursor, tuple(notices))

    def session(self, session_id: str) -> Arrived | None:
        """Return everything of one session; None if the viewer does not know it."""
        path = f"{SESSIONS}/{segment(session_id)}"
        try:
            told = self._site.get(path, {"format": "otlp"})
            spans = read_spans_json(told)
            logs = read_logs_json(self._site.get(path, {"format": "otlp-logs"}))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        except ValueError as error:
            raise Unreachable(f"{self.name} answers no OTLP: {error}") from None
        return Arrived(tuple(spans), tuple(logs), read_notices_json(told)) if spans else None

    def page_url(self, session_id: str) -> str:
        """Return the address of a session's page."""
        return f"{self._site.url}/sessions/{segment(session_id)}"

    def trace_url(self, trace_id: str, span_id: str = "") -> str | None:
        """Return the address of a trace on the page to which the viewer itself leads; None if it leads to none."""
        if not self._trace_url:
            return None
        return self._trace_url.replace("{trace_id}", quote(trace_id)).replace("{span_id}", quote(span_id))

    @cached_property
    def _trace_url(self) -> str:
        """The template that the viewer was given; empty if none was."""
        return _text(self._object(self._site.json(HEALTH)).get("trace_url")) or ""

    def close(self) -> None:
        """Nothing is kept open."""

    def _object(self, answer: Any) -> dict[str, Any]:
        if not isinstance(answer, dict):
            raise Unreachable(f"{self.name} does not answer as a viewer does")
        return answer


def _asked(query: Query, cursor: str, limit: int) -> dict[str, str]:
    return {
        "since": "" if query.since is None else at(query.since),
        "until": "" if query.until is None else at(query.until),
        "service": query.service,
        "user": query.user,
        "model": query.model,
        "name": query.name,
        "text": query.text,
        "errors": "true" if query.errors else "",
        "min_turns": str(query.min_turns or ""),
        "sort": query.sort,
        "limit": str(limit),
        "cursor": cursor,
    }


def _nanoseconds(said: Any) -> int:
    """A time of the API's; 0 for none."""
    try:
        return moment(said) if isinstance(said, str) else 0
    except ValueError:
        return 0


def _summaries(rows: Any) -> Iterator[Summary]:
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("id"), str):
            yield Summary(
                id=row["id"],
                name=_text(row.get("name")),
                user=_text(row.get("user")),
                tags=_texts(row.get("tags")),
                services=_texts(row.get("services")),
                turns=_count(row.get("turns")) or 0,
                models=_texts(row.get("models")),
                input_tokens=_count(row.get("input_tokens")),
                output_tokens=_count(row.get("output_tokens")),
                cost=_amount(row.get("cost")),
                currency=_text(row.get("currency")),
                errors=_count(row.get("errors")) or 0,
                first=_nanoseconds(row.get("first")),
                last=_nanoseconds(row.get("last")),
            )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(filter(None, map(_text, values))) if isinstance(values, list) else ()


def _count(value: Any) -> int | None:
    return value if _is_number(value) and isinstance(value, int) else None


def _amount(value: Any) -> float | None:
    return float(value) if _is_number(value) else None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")
