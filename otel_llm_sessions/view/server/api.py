"""The JSON API: sessions for programs, as docs/viewing.md says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from otel_llm_sessions.version import __version__
from otel_llm_sessions.view.json_form import session_json, summary_json
from otel_llm_sessions.view.otlp_json import logs_json, spans_json
from otel_llm_sessions.view.query import Query, query_of
from otel_llm_sessions.view.server.addresses import segments_after
from otel_llm_sessions.view.server.reader import Reader
from otel_llm_sessions.view.source import Unreachable

SESSIONS: Final = "/api/sessions"
PARAMETERS: Final = tuple(field.name for field in fields(Query))
FORMATS: Final = ("", "json", "otlp", "otlp-logs")
JSON: Final = "application/json"
NOT_KEPT: Final = {"Cache-Control": "no-store"}


class Api:
    """The JSON API's answers.

    Args:
        reader: where the sessions are read.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.routes = [
            Route("/api/health", self.health),
            Route(SESSIONS, self.sessions),
            Route(SESSIONS + "/{id:rest}", self.session),
        ]

    def health(self, _: Request) -> Response:
        """Say that the viewer is there, and what it is."""
        return json_response(
            {
                "status": "ok",
                "viewer": "otel-llm-sessions",
                "version": __version__,
                "source": self._reader.source.name,
                "trace_url": self._reader.trace_template or None,
            }
        )

    def sessions(self, request: Request) -> Response:
        """Answer the sessions that the query's parameters ask for."""
        try:
            page = self._reader.sessions(query_of(parameters(request, PARAMETERS)))
        except ValueError as wrong:
            return failure(400, str(wrong))
        except Unreachable as away:
            return failure(502, str(away))
        return json_response(
            {
                "sessions": [summary_json(one) for one in page.sessions],
                "next_cursor": page.next_cursor,
                **({"notices": page.notices} if page.notices else {}),
            }
        )

    def session(self, request: Request) -> Response:
        """Answer one session with its turns, or its spans or events as one OTLP export request."""
        try:
            asked = parameters(request, ("format",)).get("format", "")
            if asked not in FORMATS:
                raise ValueError(f"format {asked!r} is not valid: expected json, otlp or otlp-logs")
            session_id, *more = segments_after(request, SESSIONS + "/")
            found = None if more else self._reader.session(session_id)
        except ValueError as wrong:
            return failure(400, str(wrong))
        except Unreachable as away:
            return failure(502, str(away))
        if found is None:
            return failure(404, f"no session {session_id!r} is known; a / in an id is written %2F")
        notices = found.arrived.notices
        if asked == "otlp":
            return Response(spans_json(found.arrived.spans, notices), 200, NOT_KEPT, JSON)
        if asked == "otlp-logs":
            return Response(logs_json(found.arrived.logs), 200, NOT_KEPT, JSON)
        return json_response({**session_json(found.session), **({"notices": notices} if notices else {})})


def parameters(request: Request, allowed: tuple[str, ...]) -> Mapping[str, str]:
    """Return a query's parameters.

    Raises:
        ValueError: one is not allowed, or said twice.
    """
    said: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in allowed:
            raise ValueError(f"{name!r} is no parameter: expected {', '.join(allowed)}")
        if name in said:
            raise ValueError(f"{name} is said twice")
        said[name] = value
    return said


def failure(status: int, message: str) -> Response:
    """Say in one line what is wrong."""
    return json_response({"error": message}, status)


def json_response(content: Mapping[str, Any], status: int = 200) -> Response:
    """Answer a value as JSON, whatever texts stand in it."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    try:
        encoded = body.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can say
        encoded = json.dumps(content, separators=(",", ":")).encode()
    return Response(encoded, status, NOT_KEPT, JSON)
