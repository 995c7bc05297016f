"""What page and API read: sessions of a source, with the addresses of their traces."""

from __future__ import annotations

from dataclasses import dataclass

from otel_llm_sessions.view.query import Query
from otel_llm_sessions.view.server.addresses import filled, web_address
from otel_llm_sessions.view.sessions import Session, session_named, sessions_of
from otel_llm_sessions.view.source import Arrived, Page, Source


@dataclass(frozen=True, slots=True)
class Found:
    """A session, and all that arrived of it."""

    session: Session
    arrived: Arrived


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads sessions from a source.

    Args:
        source: what keeps the spans.
        trace_template: the address of a trace on another page, which goes before the source's own; empty for none.
    """

    source: Source
    trace_template: str = ""

    def sessions(self, query: Query) -> Page:
        """Return the sessions that a query asks for.

        Raises:
            Unreachable: the source does not answer.
            ValueError: the query's cursor is none of the source's.
        """
        return self.source.sessions(query)

    def session(self, session_id: str) -> Found | None:
        """Return a session by its id, or by one under which some of its turns were filed; None if it is unknown.

        Raises:
            Unreachable: the source does not answer.
        """
        arrived = self.source.session(session_id)
        if arrived is None:
            return None
        meant = session_named(sessions_of(arrived.spans, arrived.logs), session_id)
        return Found(meant, arrived) if meant else None

    def trace_url(self, trace_id: str, span_id: str = "") -> str | None:
        """Return the address of a trace, and of a span in it; None if there is none."""
        if self.trace_template:
            return filled(self.trace_template, trace_id, span_id)
        return web_address(self.source.trace_url(trace_id, span_id))
