"""Where sessions are read from: one face for whatever keeps spans (our own receiver, Jaeger, Tempo)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from otel_llm_sessions.view.query import Query
from otel_llm_sessions.view.spans import ReceivedLog, ReceivedSpan
from otel_llm_sessions.view.summaries import Summary

Progress = Callable[[str], None]
"""Is told in a few words what has been read so far, while more is being read."""


class Unreachable(Exception):
    """A source does not answer, or not as what it was said to be; the message says in one line what was tried."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the sessions that a query asked for, in its order."""

    sessions: tuple[Summary, ...] = ()
    next_cursor: str | None = None
    """The ``cursor`` of a query for those that follow; None where there are none."""
    notices: tuple[str, ...] = ()
    """What the reader has to know, one line each: what a backend's limits cut off, what could not be read."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Everything that a source has of one session."""

    spans: tuple[ReceivedSpan, ...] = ()
    """All spans of its traces: roots of all parts, turns, markers, the calls that markers stand for, and the
    requests in which these were made."""
    logs: tuple[ReceivedLog, ...] = ()
    """Events that belong to these spans (contents of ``EVENT_ONLY``, evaluations); only our own receiver has them."""
    notices: tuple[str, ...] = ()


class Source(Protocol):
    """What keeps spans, and can be asked for the sessions among them. Thread-safe; every method may wait."""

    @property
    def name(self) -> str:
        """What it is and where, for people: ``Jaeger at http://localhost:16686``."""
        ...

    def sessions(self, query: Query, progress: Progress | None = None) -> Page:
        """Return the sessions that the query asks for.

        Raises:
            Unreachable: it does not answer.
        """
        ...

    def session(self, session_id: str) -> Arrived | None:
        """Return everything of one session, by its id or an id under which some of its turns were filed; else None.

        Raises:
            Unreachable: it does not answer.
        """
        ...

    def trace_url(self, trace_id: str, span_id: str = "") -> str | None:
        """Return the address of a trace (and a span in it) on the source's own page; None if it has none."""
        ...

    def close(self) -> None:
        """Let go of connections and files. Calling it again does nothing."""
        ...
