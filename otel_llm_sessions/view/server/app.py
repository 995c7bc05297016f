"""The viewer as one ASGI application: page, JSON API, and whatever else is served at the same port."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from otel_llm_sessions.view.server.addresses import checked_template
from otel_llm_sessions.view.server.api import Api, failure
from otel_llm_sessions.view.server.files import Files
from otel_llm_sessions.view.server.gate import MACHINES, ON_ALL, Gate
from otel_llm_sessions.view.server.live import Changes, Live
from otel_llm_sessions.view.server.pages import Pages
from otel_llm_sessions.view.server.reader import Reader
from otel_llm_sessions.view.server.security import Security
from otel_llm_sessions.view.source import Source


def application(
    source: Source,
    *,
    security: Security,
    routes: Sequence[BaseRoute] = (),
    changes: Changes | None = None,
    trace_url: str = "",
    receiver: str = "",
) -> Starlette:
    """Make the application that shows a source's sessions.

    Args:
        source: where the sessions are; closed by who opened it.
        security: who may use it.
        routes: what else is answered, as OTLP; the same security holds for them.
        changes: tells when something has arrived, so that pages follow at once; without it they ask now and then.
        trace_url: the address of a trace on another page, with ``{trace_id}`` and ``{span_id}``; it goes before the
            source's own.
        receiver: where OTLP over gRPC is received, as ``127.0.0.1:4317``, which an empty list tells; empty if nowhere.

    Returns:
        The application. Who serves it sets ``state.stopping`` when it is to stop, so that pages that listen for news
        do not hold it up.

    Raises:
        ValueError: ``trace_url`` is no such address.
    """
    reader = Reader(source, checked_template(trace_url))
    pages = Pages(reader, Files(), security, receiver, changes)
    live = Live(changes).routes if changes else []
    made = Starlette(
        routes=[*routes, *Api(reader).routes, *live, *pages.routes],
        middleware=[Middleware(Gate, security=security, unknown=pages.unknown)],
        exception_handlers={HTTPException: pages.missing, Exception: broken},
    )
    made.state.stopping = False
    return made


def broken(request: Request, _: Exception) -> Response:
    """Answer where something is wrong with the viewer itself; what it is stands in the log."""
    message = "something is wrong with the viewer; its log says what"
    answer = failure(500, message) if request.url.path.startswith(MACHINES) else Response(message, 500)
    answer.headers.update(ON_ALL)
    return answer
