"""What arrives, written: spans and events as they came, and which session each belongs to."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator
from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_llm_sessions.view.dialects import told
from otel_llm_sessions.view.keeping.families import Families
from otel_llm_sessions.view.keeping.origins import Origins
from otel_llm_sessions.view.keeping.saying import words_of
from otel_llm_sessions.view.otlp import log_of, span_of
from otel_llm_sessions.view.reading import (
    is_marker,
    is_root,
    kind_of,
    marked_by,
    previous_id_of,
    response_id_of,
    session_ids_of,
)
from otel_llm_sessions.view.spans import ReceivedLog, ReceivedSpan

PUT: Final = """
INSERT INTO span (trace, span, origin, session, body) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (trace, span) DO UPDATE SET body = excluded.body, origin = excluded.origin, session = excluded.session
WHERE length(excluded.body) > length(body)
"""
"""Of a span that comes twice the one stays that says more."""


class Arriving:
    """Writes what arrives, within a transaction of somebody else's.

    Args:
        connection: the transaction's.
        origins: what is known of resources.
        has_words: whether words can be looked for.
    """

    def __init__(self, connection: sqlite3.Connection, origins: Origins, *, has_words: bool) -> None:
        self._connection = connection
        self._origins = origins
        self._has_words = has_words
        self._families = Families(connection, int(time.time()))
        self._touched: set[bytes] = set()

    def spans(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of a request."""
        for group in request.resource_spans:
            resource = group.resource.SerializeToString()
            for scoped in group.scope_spans:
                origin = self._origins.number(self._connection, resource, scoped.scope.name)
                for span in scoped.spans:
                    self._span(span, origin)

    def logs(self, request: ExportLogsServiceRequest) -> None:
        """Keep those log records of a request that are events of calls."""
        for group in request.resource_logs:
            resource = group.resource.SerializeToString()
            for scoped in group.scope_logs:
                for record in scoped.log_records:
                    log = log_of(record, {}, "")
                    if record.trace_id and is_event(log):
                        origin = self._origins.number(self._connection, resource, scoped.scope.name)
                        self._log(log, record.trace_id, record.SerializeToString(), origin)

    def done(self) -> bool:
        """Note which rows do not say yet what arrived; whether anything of a session did."""
        return self._families.settle(self._touched)

    def _span(self, span: Span, origin: int) -> None:
        read = told(span_of(span, {}, ""))
        session = next((self._families.number(said) for said in session_ids_of(read)), None)
        row = (span.trace_id, span.span_id, origin, session, span.SerializeToString())
        if self._connection.execute(PUT, row).rowcount < 1:
            return
        self._touched.add(span.trace_id)
        if self._has_words and (words := words_of(read.attributes)):
            ids = (span.trace_id, span.span_id)
            (number,) = self._connection.execute("SELECT id FROM span WHERE trace = ? AND span = ?", ids).fetchone()
            self._say(number, words)
        if session is not None:
            self._belongs(span, read, session)
        if is_marker(read):
            self._marks(span.trace_id, read)

    def _belongs(self, span: Span, read: ReceivedSpan, session: int) -> None:
        self._families.member(span.trace_id, session)
        self._families.answered(session, response_id_of(read), previous_id_of(read))
        if is_root(read):
            for target, target_span in _parents(read):
                row = (span.trace_id, span.span_id, target, target_span)
                self._connection.execute("INSERT OR IGNORE INTO parent VALUES (?, ?, ?, ?)", row)

    def _marks(self, trace: bytes, marker: ReceivedSpan) -> None:
        if (target := marked_by(marker)) and bytes.fromhex(target[0]) != trace:
            self._families.marked(trace, bytes.fromhex(target[0]))

    def _log(self, log: ReceivedLog, trace: bytes, body: bytes, origin: int) -> None:
        digest = hashlib.blake2b(body, digest_size=12).digest()
        sql = "INSERT OR IGNORE INTO log (trace, digest, origin, body) VALUES (?, ?, ?, ?)"
        kept = self._connection.execute(sql, (trace, digest, origin, body))
        if kept.rowcount < 1:
            return
        self._touched.add(trace)
        if self._has_words and (words := words_of(log.attributes, log.body)):
            self._say(-(kept.lastrowid or 0), words)

    def _say(self, number: int, words: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO words (rowid, said) VALUES (?, ?)", (number, words))


def is_event(log: ReceivedLog) -> bool:
    """Whether a log record is an event of a call of a model, and no line of a log."""
    name = log.event_name or log.attributes.get("event.name")
    return isinstance(name, str) and name.startswith("gen_ai.")


def _parents(root: ReceivedSpan) -> Iterator[tuple[bytes, bytes]]:
    """The ids of the roots of the sessions from which a session was started."""
    for link in root.links:
        if kind_of(link) == "parent_session":
            yield bytes.fromhex(link.trace_id), bytes.fromhex(link.span_id)
