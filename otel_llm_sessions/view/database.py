"""What arrived here, in SQLite: in memory, or in a file that outlives the viewer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_llm_sessions.view.changes import Changes
from otel_llm_sessions.view.keeping.arriving import Arriving
from otel_llm_sessions.view.keeping.gathering import Gathered
from otel_llm_sessions.view.keeping.leaving import AGE, SIZE, Leaving, prepared
from otel_llm_sessions.view.keeping.listing import page_of
from otel_llm_sessions.view.keeping.origins import Origins
from otel_llm_sessions.view.keeping.schema import Unusable
from otel_llm_sessions.view.keeping.storage import Storage
from otel_llm_sessions.view.keeping.summing import Summing
from otel_llm_sessions.view.otlp_writing import logs_request, spans_request
from otel_llm_sessions.view.query import Query
from otel_llm_sessions.view.source import Arrived, Page, Progress
from otel_llm_sessions.view.spans import ReceivedLog, ReceivedSpan

__all__ = ["Database", "Unusable"]

LONGEST: Final = 1.0
"""Seconds for which sessions are deleted where there is no room for more, before what arrives gets its turn."""

Request = ExportTraceServiceRequest | ExportLogsServiceRequest


class Database:
    """Keeps what arrives, and answers which sessions there are; a :class:`~otel_llm_sessions.view.source.Source`.

    Thread-safe. What is written is committed when :meth:`add` or :meth:`keep` returns; the rows of lists follow in
    :meth:`tend`, which who writes calls again and again.

    Example:
        >>> database = Database()
        >>> database.add([span])
        >>> database.settle()
        >>> [session.id for session in database.sessions(Query()).sessions]

    Args:
        path: the file; None for memory.
        keep: seconds for which sessions are kept after their last turn; None for ever.
        max_size: bytes that it takes at most: the oldest sessions leave first; None for any.
        trace_url: the address of a trace on another page, with ``{trace_id}`` and ``{span_id}``; empty for none.

    Raises:
        Unusable: the file cannot be used; the message says why in one line.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        keep: float | None = None,
        max_size: int | None = None,
        trace_url: str = "",
    ) -> None:
        self._storage = Storage(path)
        self._origins = Origins()
        self._summing = Summing(self._origins)
        self._leaving = Leaving(keep, max_size, has_words=self._storage.has_words)
        self._trace_url = trace_url
        self.changes = Changes()
        with self._storage.between() as connection:
            prepared(connection)

    @property
    def name(self) -> str:
        """What it is and where, for people."""
        return self._storage.path or "memory of this viewer"

    def add(self, spans: Iterable[ReceivedSpan], logs: Iterable[ReceivedLog] = ()) -> None:
        """Keep spans and events."""
        self.keep([spans_request(spans), logs_request(logs)])

    def keep(self, requests: Sequence[Request]) -> None:
        """Keep what export requests carry, in one transaction: all of it, or (when it raises) nothing.

        Raises:
            sqlite3.Error: it could not be written.
        """
        with self._storage.between():  # until origins are forgotten that were undone, nobody else writes
            try:
                self._write(requests)
            except BaseException:
                self._origins.forget()
                raise

    def tend(self, is_over: Callable[[], bool] = lambda: False) -> bool:
        """Bring the rows of lists up to what arrived, and let go of what has to leave, for a moment.

        Args:
            is_over: whether the moment is over; asked after each small step.

        Returns:
            Whether there is more to do now.
        """
        with self._storage.writing() as connection:
            counted = self._summing.count(connection, is_over)
        has_left = self._leave(is_over)
        if counted or has_left:
            self.changes.changed()
        return bool(counted or has_left)

    def settle(self) -> None:
        """Bring the rows of lists up to all that arrived, and let go of all that has to leave."""
        while self._settle_some():
            pass

    def sessions(self, query: Query, progress: Progress | None = None) -> Page:
        """Return the sessions that the query asks for.

        Raises:
            ValueError: its cursor is not valid.
        """
        try:
            with self._storage.reading() as connection:
                page = page_of(connection, query, has_words=self._storage.has_words)
                left = dict(connection.execute("SELECT why, sessions FROM gone").fetchall())
        except UnicodeEncodeError:  # half a character, which no span can say
            return Page()
        return replace(page, notices=(*page.notices, *_said_of(left)))

    def session(self, session_id: str) -> Arrived | None:
        """Return everything of one session, by its id or an id under which some of its turns were filed; else None."""
        try:
            session_id.encode()
        except UnicodeEncodeError:  # no span can say that
            return None
        with self._storage.reading() as connection:
            sql = "SELECT family FROM session WHERE said = ?"
            row = connection.execute(sql, (session_id,)).fetchone()
            return Gathered(connection, row[0]).arrived(self._origins) if row else None

    def trace_url(self, trace_id: str, span_id: str = "") -> str | None:
        """Return the address of a trace as the template says it; None if there is no template."""
        url = self._trace_url.replace("{trace_id}", trace_id).replace("{span_id}", span_id)
        return url or None

    def close(self) -> None:
        """Close the file. Calling it again does nothing."""
        self._storage.close()

    def _leave(self, is_over: Callable[[], bool]) -> bool:
        """Let go of what has to leave; whether there was any.

        Where more is kept than may be, that takes longer, so that what arrives without end does not outgrow it.
        """
        begun, has_left = time.monotonic(), False
        while self._leave_some():
            has_left = True
            with self._storage.between() as connection:
                self._leaving.shrink(connection)
                is_full = self._leaving.is_over(connection)
            if time.monotonic() - begun > LONGEST if is_full else is_over():
                break
        return has_left

    def _leave_some(self) -> bool:
        with self._storage.writing() as connection:
            has_left = self._leaving.leave(connection)
            if has_left:
                self._origins.forget()
            return has_left

    def _write(self, requests: Sequence[Request]) -> None:
        with self._storage.writing() as connection:
            arriving = Arriving(connection, self._origins, has_words=self._storage.has_words)
            for request in requests:
                if isinstance(request, ExportTraceServiceRequest):
                    arriving.spans(request)
                else:
                    arriving.logs(request)
            arriving.done()

    def _settle_some(self) -> bool:
        with self._storage.writing() as connection:
            counted = self._summing.count(connection, lambda: False, all_of_them=True)
        has_left = self._leave_some()
        if counted or has_left:
            self.changes.changed()
        return bool(counted or has_left)


def _said_of(left: Mapping[str, int]) -> list[str]:
    """What to say of the sessions that have left, in a line for each reason."""
    reasons = {AGE: "older than is kept (--keep)", SIZE: "the oldest, for there was no room (--max-size)"}
    counts = ((left.get(why, 0), reason) for why, reason in reasons.items())
    return [f"{count:,} session{'s have' if count > 1 else ' has'} left: {reason}" for count, reason in counts if count]
