"""The page: a list of sessions, a session, a turn in whole. Made on the server; it reads well without any script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from otel_llm_sessions.view.query import LONGEST, Query, query_of
from otel_llm_sessions.view.server import session_page
from otel_llm_sessions.view.server.addresses import segments_after
from otel_llm_sessions.view.server.api import failure
from otel_llm_sessions.view.server.files import Files
from otel_llm_sessions.view.server.gate import MACHINES
from otel_llm_sessions.view.server.live import ADDRESS, Changes
from otel_llm_sessions.view.server.reader import Found, Reader
from otel_llm_sessions.view.server.security import Security
from otel_llm_sessions.view.server.templating import templates
from otel_llm_sessions.view.source import Page, Unreachable
from otel_llm_sessions.view.sources.site import segment

SESSIONS: Final = "/sessions"
AGAIN: Final = 10
"""Seconds after which a page asks again, where nothing tells it of changes."""
TIMES: Final = (
    ("", "Any time"),
    ("1h", "Last hour"),
    ("24h", "Last 24 hours"),
    ("7d", "Last 7 days"),
    ("30d", "Last 30 days"),
)
FILTERS: Final = (
    ("name", "Name"),
    ("user", "User"),
    ("model", "Model"),
    ("service", "Service"),
    ("min_turns", "Turns, at least"),
    ("until", "Begun before"),
)
CHIPS: Final = (("text", "Search"), ("since", "Since"), *FILTERS, ("errors", "Failed"))
ORDERS: Final = {
    "last": "newest",
    "turns": "longest",
    "tokens": "those with most tokens",
    "cost": "dearest",
    "duration": "longest lasting",
}
GRPC_DEFAULT: Final = ":4317"


class Pages:
    """The page's answers.

    Args:
        reader: where the sessions are read.
        files: style and script.
        security: says whether an application that sends spans needs the token.
        receiver: where OTLP over gRPC is received; empty if nowhere.
        changes: tells when something has arrived; None if nothing does.
    """

    def __init__(
        self, reader: Reader, files: Files, security: Security, receiver: str, changes: Changes | None
    ) -> None:
        self._reader = reader
        self._security = security
        self._receiver = receiver
        self._changes = changes
        self._templates = templates()
        self._values = {"files": files, "source": "" if receiver else reader.source.name, "live": "", "again": 0}
        self.routes = [
            *files.routes,
            Route("/", self.overview),
            Route(SESSIONS + "/{id:rest}", self.session),
        ]

    def overview(self, request: Request) -> Response:
        """Answer the list that the address's parameters ask for."""
        said = dict(request.query_params)
        live = self._live()
        try:
            query, wrong = query_of(said), ""
            page = self._reader.sessions(query)
        except ValueError as invalid:
            query, page, wrong = Query(), Page(), str(invalid)
        except Unreachable as away:
            return self._message(502, "The source does not answer", str(away))
        rest = {name: value for name, value in said.items() if value and name not in ("cursor", "token")}
        status = 400 if wrong else 200
        return self._page(
            "list.html",
            status,
            **live,
            query=query,
            said={name: said.get(name, "") for name, _ in (("sort", ""), *CHIPS)},
            wrong=wrong,
            sessions=page.sessions,
            notices=page.notices,
            times=_times(said.get("since", "")),
            filters=FILTERS,
            chips=_chips(rest),
            order=ORDERS[query.sort],
            order_address=lambda sort: _list_address({**rest, "sort": "" if sort == "last" else sort}),
            next_page=_list_address({**rest, "cursor": page.next_cursor}) if page.next_cursor else "",
            is_later=bool(query.cursor),
            first_page=_list_address(rest),
            receiver=self._receiver,
            http=request.url.netloc,
            first_span=self._first_span(),
        )

    def session(self, request: Request) -> Response:
        """Answer a session; or one of its turns in whole, by trace and span."""
        session_id, *more = segments_after(request, SESSIONS + "/")
        live = self._live()
        try:
            found = self._reader.session(session_id) if len(more) in (0, 2) else None
        except Unreachable as away:
            return self._message(502, "The source does not answer", str(away))
        if found is None:
            return self._message(404, "No such session", f"Nothing is known of {session_id}.")
        if found.session.id != session_id:
            return RedirectResponse(_address(found.session.id, *more), 302)
        return self._turn(found, *more) if more else self._session(request, found, live)

    def _session(self, request: Request, found: Found, live: dict[str, Any]) -> Response:
        said = request.query_params.get("from", "1")
        begin = int(said) if said.isascii() and said.isdigit() and len(said) < 10 else 1
        values = session_page.values_of(found, begin, self._reader.trace_url)
        return self._page("session.html", 200, **live, **values, **_addresses(found.session.id))

    def _turn(self, found: Found, trace_id: str, span_id: str) -> Response:
        for place, turn in enumerate(found.session.turns, 1):
            if (turn.trace_id, turn.span_id) == (trace_id, span_id):
                values = session_page.values_of_turn(found, turn, place, self._reader.trace_url)
                return self._page("turn.html", 200, **values, **_addresses(found.session.id))
        return self._message(404, "No such turn", f"{found.session.id} has no turn whose span is {span_id}.")

    def unknown(self, scope: Scope) -> Response:
        """Answer who brings no token, or a wrong one."""
        answer = self._message(401, "This viewer asks for its token", "It was printed when the viewer started.", True)
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    def missing(self, request: Request, error: Exception) -> Response:
        """Answer where there is nothing, or nothing to do with this method."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        message = error.detail if isinstance(error, HTTPException) else ""
        headers = dict((isinstance(error, HTTPException) and error.headers) or {})
        if request.url.path.startswith(MACHINES):
            answer = failure(status, message)
        elif status == 404:
            answer = self._message(404, "There is nothing here", f"No page has the address {request.url.path}.")
        else:
            answer = PlainTextResponse(f"{message}\n", status)
        answer.headers.update(headers)
        return answer

    def _live(self) -> dict[str, Any]:
        """How the page learns of what arrives; asked before its contents, so that nothing falls in between."""
        if self._changes is None:
            return {"again": AGAIN}
        return {"live": f"{ADDRESS}?after={self._changes.revision}"}

    def _first_span(self) -> str:
        settings = ""
        if self._receiver and not self._receiver.endswith(GRPC_DEFAULT):
            settings += f"export OTEL_EXPORTER_OTLP_ENDPOINT=http://{self._receiver}\n"
        if self._receiver and self._security.token:
            settings += "export OTEL_EXPORTER_OTLP_HEADERS='authorization=Bearer%20TOKEN'\n"
        return f"{settings}opentelemetry-instrument python app.py"

    def _message(self, status: int, title: str, message: str, asks_token: bool = False) -> Response:
        return self._page("message.html", status, title=title, message=message, asks_token=asks_token)

    def _page(self, template: str, status: int, **values: Any) -> Response:
        text = self._templates.get_template(template).render(self._values, session_address=_address, **values)
        return HTMLResponse(text.encode("utf-8", "replace"), status, {"Cache-Control": "private, no-cache"})


def _address(*segments: str) -> str:
    return "/".join((SESSIONS, *map(segment, segments)))


def _addresses(session_id: str) -> dict[str, Any]:
    return {
        "back": _address(session_id),
        "turn_address": lambda turn: _address(session_id, turn.trace_id, turn.span_id),
        "api_address": lambda each: f"/api{_address(each)}",
        "filter_address": lambda name, value: _list_address({name: value[:LONGEST]}),
    }


def _list_address(said: dict[str, str]) -> str:
    parameters = urlencode({name: value for name, value in said.items() if value}, errors="replace")
    return f"/?{parameters}" if parameters else "/"


def _times(said: str) -> Sequence[tuple[str, str]]:
    return TIMES if said in dict(TIMES) else (*TIMES, (said, f"Since {said}"))


def _chips(rest: dict[str, str]) -> list[dict[str, str]]:
    """What the list is filtered by, each with the address of the list without it."""
    return [
        {
            "label": label,
            "value": "" if name == "errors" else rest[name],
            "without": _list_address({other: value for other, value in rest.items() if other != name}),
        }
        for name, label in CHIPS
        if name in rest
    ]
