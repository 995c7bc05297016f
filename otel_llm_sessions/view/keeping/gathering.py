"""Everything of one family of sessions: the spans of its traces, the calls that markers stand for, and events."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_llm_sessions.view.keeping.origins import Origins
from otel_llm_sessions.view.otlp import log_of, span_of
from otel_llm_sessions.view.source import Arrived
from otel_llm_sessions.view.spans import ReceivedLog, ReceivedSpan

MOST: Final = 50_000
"""Spans of one session that are read."""
CROWD: Final = 20
"""A trace in which so many sessions have turns is read without the turns of the others."""

TRACES: Final = """
WITH own (trace) AS (
  SELECT DISTINCT member.trace FROM session JOIN member ON member.session = session.id WHERE session.family = :family
)
SELECT trace FROM own UNION SELECT marked.target FROM own JOIN marked ON marked.trace = own.trace
"""
SPANS: Final = "SELECT origin, body FROM span WHERE trace = :trace LIMIT :most"
SPANS_IN_CROWD: Final = """
SELECT origin, body FROM span WHERE trace = :trace AND (
  session IS NULL OR session IN (SELECT id FROM session WHERE family = :family)
) LIMIT :most
"""
IS_CROWD: Final = "SELECT count(*) FROM (SELECT 1 FROM member WHERE trace = ? LIMIT ?)"
LOGS: Final = "SELECT origin, body FROM log WHERE trace = :trace LIMIT :most"
RELATIVES: Final = """
SELECT span.origin, span.body FROM parent JOIN span ON span.trace = parent.target AND span.span = parent.target_span
WHERE parent.trace = :trace
UNION ALL
SELECT span.origin, span.body FROM parent JOIN span ON span.trace = parent.trace AND span.span = parent.span
WHERE parent.target = :trace
UNION ALL
SELECT span.origin, span.body FROM parent JOIN span ON span.id IN (
  SELECT id FROM span WHERE trace = parent.target AND session IS NOT NULL ORDER BY id LIMIT 5
)
WHERE parent.trace = :trace
AND NOT EXISTS (SELECT 1 FROM span WHERE trace = parent.target AND span = parent.target_span)
LIMIT :most
"""
"""The roots of sessions from which this trace's was started (some turns, where a root has not arrived), and of those
that were started from it."""

Rows = list[tuple[int, bytes]]


class Gathered:
    """What one family has, as it is kept; reading it again into values takes no connection but for origins.

    Args:
        connection: where it is read, now.
        family: the family's number.
    """

    def __init__(self, connection: sqlite3.Connection, family: int) -> None:
        self._connection = connection
        self._family = family
        self.spans: Rows = []
        self.logs: Rows = []
        for (trace,) in connection.execute(TRACES, {"family": family}).fetchall():
            self._read(trace)

    @property
    def is_cut(self) -> bool:
        """Whether there is more than was read."""
        return len(self.spans) >= MOST or len(self.logs) >= MOST

    def arrived(self, origins: Origins) -> Arrived:
        """Everything as values."""
        notices = (f"it has more spans than are read: these are {MOST:,}",) if self.is_cut else ()
        return Arrived(tuple(self._spans(origins)), tuple(self._logs(origins)), notices)

    def _read(self, trace: bytes) -> None:
        (members,) = self._connection.execute(IS_CROWD, (trace, CROWD)).fetchone()
        of_trace = SPANS_IN_CROWD if members >= CROWD else SPANS
        for sql, rows in ((of_trace, self.spans), (LOGS, self.logs), (RELATIVES, self.spans)):
            values = {"trace": trace, "family": self._family, "most": MOST - len(rows)}
            rows += self._connection.execute(sql, values).fetchall()

    def _spans(self, origins: Origins) -> Iterator[ReceivedSpan]:
        for origin, body in self.spans:
            try:
                yield span_of(Span.FromString(body), *origins.value(self._connection, origin))
            except DecodeError:  # a damaged file
                continue

    def _logs(self, origins: Origins) -> Iterator[ReceivedLog]:
        for origin, body in self.logs:
            try:
                yield log_of(LogRecord.FromString(body), *origins.value(self._connection, origin))
            except DecodeError:
                continue
