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
from otel_llm_sessions.view.keeping.rows import each
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

SPANS: Final = """
INSERT INTO span (trace, span, origin, session, body) VALUES {}
ON CONFLICT (trace, span) DO UPDATE SET body = excluded.body, origin = excluded.origin, session = excluded.session
WHERE length(excluded.body) > length(body)
"""
"""Of a span that comes twice the one stays that says more."""
LOGS: Final = "INSERT OR IGNORE INTO log (trace, digest, origin, body) VALUES {}"
PARENTS: Final = "INSERT OR IGNORE INTO parent VALUES {}"
SPAN_WORDS: Final = """
INSERT OR REPLACE INTO words (rowid, said)
SELECT span.id, column3 FROM (VALUES {}) JOIN span ON span.trace = column1 AND span.span = column2
"""
LOG_WORDS: Final = """
INSERT OR REPLACE INTO words (rowid, said)
SELECT -log.id, column3 FROM (VALUES {}) JOIN log ON log.trace = column1 AND log.digest = column2
"""


class Arriving:
    """Writes what arrives, within a transaction of somebody else's; all of it is written when :meth:`done` returns.

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
        self._spans: list[tuple[bytes, bytes, int, str | None, bytes]] = []
        self._logs: list[tuple[bytes, bytes, int, bytes]] = []
        self._parents: list[tuple[bytes, bytes, bytes, bytes]] = []
        self._span_words: list[tuple[bytes, bytes, str]] = []
        self._log_words: list[tuple[bytes, bytes, str]] = []

    def spans(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of a request."""
        for group in request.resource_spans:
            resource = group.resource.SerializeToString()
            for scoped in group.scope_spans:
                if not scoped.spans:
                    continue
                origin = self._origins.number(self._connection, resource, scoped.scope)
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
                        origin = self._origins.number(self._connection, resource, scoped.scope)
                        self._log(log, record.trace_id, record.SerializeToString(), origin)

    def done(self) -> None:
        """Write all that was given."""
        numbers = self._families.numbers()
        rows = ((*ids, origin, numbers.get(said or ""), body) for *ids, origin, said, body in self._spans)
        for sql, some in ((SPANS, rows), (LOGS, self._logs), (PARENTS, self._parents)):
            each(self._connection, sql, some)
        if self._has_words:
            each(self._connection, SPAN_WORDS, self._span_words)
            each(self._connection, LOG_WORDS, self._log_words)
        self._families.settle(self._touched)

    def _span(self, span: Span, origin: int) -> None:
        read = told(span_of(span, {}, ""))
        body = span.SerializeToString()
        # Without an id of its own it is told from others by all that it says.
        ids = span.trace_id, span.span_id if any(span.span_id) else hashlib.blake2b(body, digest_size=8).digest()
        said = next(iter(session_ids_of(read)), None)
        self._spans.append((*ids, origin, said, body))
        self._touched.add(span.trace_id)
        if words := words_of(read.attributes):
            self._span_words.append((*ids, words))
        if said:
            self._families.turn(said, span.trace_id, response_id_of(read), previous_id_of(read))
            if is_root(read):
                self._parents += [(*ids, *target) for target in _parents(read)]
        if is_marker(read) and (marked := marked_by(read)) and bytes.fromhex(marked[0]) != span.trace_id:
            self._families.marked(span.trace_id, bytes.fromhex(marked[0]))

    def _log(self, log: ReceivedLog, trace: bytes, body: bytes, origin: int) -> None:
        digest = hashlib.blake2b(body, digest_size=12).digest()
        self._logs.append((trace, digest, origin, body))
        self._touched.add(trace)
        if words := words_of(log.attributes, log.body):
            self._log_words.append((trace, digest, words))


def is_event(log: ReceivedLog) -> bool:
    """Whether a log record is an event of a call of a model, and no line of a log."""
    name = log.event_name or log.attributes.get("event.name")
    return isinstance(name, str) and name.startswith("gen_ai.")


def _parents(root: ReceivedSpan) -> Iterator[tuple[bytes, bytes]]:
    """The ids of the roots of the sessions from which a session was started."""
    for link in root.links:
        if kind_of(link) == "parent_session":
            yield bytes.fromhex(link.trace_id), bytes.fromhex(link.span_id)
