"""What tests of the viewer's page and API share: spans that say what a test asks for, an application around them."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.testclient import TestClient

from otel_llm_sessions import semconv
from otel_llm_sessions.view.query import Query
from otel_llm_sessions.view.server.app import application
from otel_llm_sessions.view.server.security import security_for
from otel_llm_sessions.view.sessions import sessions_of
from otel_llm_sessions.view.source import Arrived, Page, Progress, Unreachable
from otel_llm_sessions.view.spans import ReceivedLink, ReceivedLog, ReceivedSpan

HOST = "127.0.0.1:4318"
SECOND = 1_000_000_000
BEGIN = 1_790_000_000 * SECOND
"""When the sessions of tests begin, where nothing else is said."""


class Kept:
    """A source that keeps what it is given in memory, and counts how often it was given something."""

    def __init__(self, spans: Iterable[ReceivedSpan] = (), notices: tuple[str, ...] = ()) -> None:
        self.spans = list(spans)
        self.logs: list[ReceivedLog] = []
        self.notices = notices
        self.revision = 0
        self.away = ""
        self.trace_address: Callable[[str, str], str | None] = lambda trace_id, span_id: None

    name = "the spans of a test"

    def add(self, *spans: ReceivedSpan) -> None:
        self.spans.extend(spans)
        self.revision += 1

    async def wait(self, after: int, timeout: float) -> int:
        import asyncio

        until = time.monotonic() + timeout
        while self.revision == after and time.monotonic() < until:
            await asyncio.sleep(0.01)
        return self.revision

    def sessions(self, query: Query, progress: Progress | None = None) -> Page:
        if self.away:
            raise Unreachable(self.away)
        if query.cursor and not query.cursor.isdigit():
            raise ValueError(f"cursor {query.cursor!r} is not valid")
        begin = int(query.cursor or 0)
        rows = [one.summary() for one in sessions_of(self.spans, self.logs)]
        found = query.ordered(row for row in rows if query.matches(row) and self.says(row, query))
        after = begin + query.limit
        return Page(tuple(found[begin:after]), str(after) if after < len(found) else None, self.notices)

    def says(self, row: Any, query: Query) -> bool:
        return query.is_said_in(row) or any(
            query.text.casefold() in str(span.attributes.get(semconv.INPUT_MESSAGES, "")).casefold()
            for span in self.spans
            if span.attributes.get(semconv.SESSION_ID) == row.id
        )

    def session(self, session_id: str) -> Arrived | None:
        if self.away:
            raise Unreachable(self.away)
        meant = [one for one in sessions_of(self.spans) if session_id in (one.id, *one.aliases)]
        if not meant:
            return None
        traces = {turn.trace_id for turn in meant[0].turns} | {part.trace_id for part in meant[0].parts}
        return Arrived(tuple(span for span in self.spans if span.trace_id in traces), tuple(self.logs))

    def trace_url(self, trace_id: str, span_id: str = "") -> str | None:
        return self.trace_address(trace_id, span_id)

    def close(self) -> None:
        """Nothing is kept open."""


def message(role: str, *parts: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    """A message in the conventions' JSON; a text is a text part."""
    said = [{"type": "text", "content": part} if isinstance(part, str) else part for part in parts]
    return {"role": role, "parts": said, **more}


def called(name: str, arguments: Any, call_id: str = "call_1") -> dict[str, Any]:
    """A part: a tool is called."""
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}


def resulted(response: Any, call_id: str = "call_1") -> dict[str, Any]:
    """A part: what a tool answered."""
    return {"type": "tool_call_response", "id": call_id, "response": response}


def span_id_of(number: int, trace: int = 1) -> str:
    return f"{trace:08x}{number:08x}"


def trace_id_of(trace: int) -> str:
    return f"{trace:032x}"


def root(session_id: str, *, trace: int = 1, part: int = 1, at: int = BEGIN, **attributes: Any) -> ReceivedSpan:
    """The root of a session's trace."""
    said = {semconv.SESSION_ID: session_id, semconv.LLM_SESSION_ROOT: True, semconv.LLM_SESSION_PART: part}
    return ReceivedSpan(
        "session",
        trace_id_of(trace),
        span_id_of(0, trace),
        start=at,
        end=at + 1,
        attributes={**said, **attributes},
        resource={"service.name": "shop"},
    )


def turn(
    session_id: str,
    number: int,
    *,
    trace: int = 1,
    at: float = 0.0,
    took: float = 0.8,
    asked: Iterable[dict[str, Any]] = (),
    answered: Iterable[dict[str, Any]] = (),
    after: int | None = None,
    error: str = "",
    error_text: str = "",
    service: str = "shop",
    begin: int = BEGIN,
    **attributes: Any,
) -> ReceivedSpan:
    """A turn below the root of a session's trace; `at` and `took` in seconds, `after` the turn that it follows."""
    said = {
        semconv.SESSION_ID: session_id,
        semconv.OPERATION_NAME: "chat",
        semconv.PROVIDER_NAME: "openai",
        semconv.REQUEST_MODEL: "gpt-4o-mini",
        semconv.RESPONSE_MODEL: "gpt-4o-mini-2024-07-18",
        semconv.RESPONSE_ID: f"resp_{trace}_{number}",
        semconv.LLM_SESSION_TURN: number,
        semconv.LLM_SESSION_SOURCE: "context",
        semconv.LLM_SESSION_CONTENT: "delta",
        **({semconv.INPUT_MESSAGES: json.dumps(list(asked))} if asked else {}),
        **({semconv.OUTPUT_MESSAGES: json.dumps(list(answered))} if answered else {}),
        **({semconv.ERROR_TYPE: error} if error else {}),
    }
    links = [
        ReceivedLink(trace_id_of(trace), span_id_of(after or 0, trace), {semconv.LLM_SESSION_LINK: "previous_turn"})
    ]
    start = begin + int(at * SECOND)
    return ReceivedSpan(
        "chat gpt-4o-mini",
        trace_id_of(trace),
        span_id_of(number, trace),
        span_id_of(0, trace),
        "CLIENT",
        start,
        start + int(took * SECOND),
        attributes={**said, **attributes},
        links=tuple(links) if after is not None else (),
        status="ERROR" if error else "UNSET",
        status_message=error_text,
        resource={"service.name": service},
    )


def talk(session_id: str, turns: int, *, trace: int = 1, begin: int = BEGIN, **attributes: Any) -> list[ReceivedSpan]:
    """A plain session of so many turns."""
    spans = [
        turn(
            session_id,
            number,
            trace=trace,
            at=number * 10.0,
            begin=begin,
            asked=[message("user", f"Question {number}?")],
            answered=[message("assistant", f"Answer {number}.")],
            after=number - 1 if number > 1 else None,
            **{semconv.USAGE_INPUT_TOKENS: 100 * number, semconv.USAGE_OUTPUT_TOKENS: 10, **attributes},
        )
        for number in range(1, turns + 1)
    ]
    return [root(session_id, trace=trace, at=begin, **attributes), *spans]


def app_of(source: Any, **options: Any) -> Starlette:
    """The application of a source, as it is on loopback."""
    return application(source, **{"security": security_for("127.0.0.1"), **options})


def client_of(source: Any, **options: Any) -> TestClient:
    """A client of that application; what goes wrong in there is answered as to anybody."""
    app = app_of(source, **options)
    return TestClient(app, base_url=f"http://{HOST}", raise_server_exceptions=False, follow_redirects=False)


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """Serve an application on a free port of loopback, by uvicorn; its address."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        for _ in itertools.count():
            if server.started:
                break
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        app.state.stopping = True
        server.should_exit = True
        thread.join()
