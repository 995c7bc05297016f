"""What leaves when it is old or there is no room: whole sessions, the oldest first."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_llm_sessions.view.keeping.rows import each
from otel_llm_sessions.view.keeping.summing import INT64

AT_ONCE: Final = 100
"""Sessions, or traces of none, that leave in one transaction."""
STRAY: Final = 600
"""Seconds for which spans that no session claims wait for one that does: the call that names theirs may end later."""
SHARE: Final = 0.25
"""What part of the room those that wait take at most where room is short: what is beyond leaves before sessions do."""
WEIGHED: Final = 50
"""Traces that no session claims, of the oldest and of the newest, by which all of them are weighed."""
ROOM: Final = 0.9
"""How full a database is when nothing has to leave."""
SECOND: Final = 1_000_000_000
AGE, SIZE = "age", "size"
"""Why sessions leave."""

GOING: Final = """
CREATE TEMP TABLE IF NOT EXISTS going (session INTEGER PRIMARY KEY);
CREATE TEMP TABLE IF NOT EXISTS going_trace (trace BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS going_span (id INTEGER PRIMARY KEY);
CREATE TEMP TABLE IF NOT EXISTS going_log (id INTEGER PRIMARY KEY);
CREATE TEMP TABLE IF NOT EXISTS going_origin (origin INTEGER PRIMARY KEY);
"""
FAMILIES: Final = """
INSERT INTO going SELECT id FROM session WHERE family IN (
  SELECT family FROM session WHERE last <= :before ORDER BY last LIMIT :most
)
"""
TRACES: Final = """
INSERT INTO going_trace SELECT trace FROM (
  SELECT trace FROM going JOIN member USING (session)
  UNION SELECT marked.target FROM going JOIN member USING (session) JOIN marked ON marked.trace = member.trace
) AS these WHERE NOT EXISTS (
  SELECT 1 FROM member WHERE trace = these.trace AND session NOT IN (SELECT session FROM going)
) AND NOT EXISTS (
  SELECT 1 FROM marked JOIN member ON member.trace = marked.trace
  WHERE marked.target = these.trace AND member.session NOT IN (SELECT session FROM going)
)
"""
"""The traces in which no session has anything that stays."""
STRAYS: Final = """
INSERT INTO going_trace SELECT trace FROM stray WHERE arrived <= :before ORDER BY arrived LIMIT :most
"""
WEIGHT: Final = """
WITH weighed (trace) AS (
  SELECT trace FROM (SELECT trace FROM stray ORDER BY arrived LIMIT :most)
  UNION SELECT trace FROM (SELECT trace FROM stray ORDER BY arrived DESC LIMIT :most)
)
SELECT (SELECT count(*) FROM stray), (SELECT count(*) FROM weighed),
  (SELECT total(length(body)) FROM weighed JOIN span USING (trace)) +
  (SELECT total(length(body)) FROM weighed JOIN log USING (trace))
"""
"""How many traces no session claims, and of some of them how many they are and their bytes."""
UNCLAIMED: Final = """
INSERT OR IGNORE INTO stray SELECT marked.target, 0 FROM going_trace JOIN marked USING (trace)
WHERE marked.target NOT IN (SELECT trace FROM going_trace)
AND NOT EXISTS (SELECT 1 FROM member WHERE member.trace = marked.target)
AND NOT EXISTS (
  SELECT 1 FROM marked AS other WHERE other.target = marked.target
  AND other.trace NOT IN (SELECT trace FROM going_trace)
)
"""
"""What only markers claimed that go."""
COUNTED: Final = """
INSERT INTO gone SELECT :why, families FROM (
  SELECT count(DISTINCT family) AS families FROM session WHERE id IN (SELECT session FROM going)
) WHERE families > 0 ON CONFLICT (why) DO UPDATE SET sessions = sessions + excluded.sessions
"""
OF_TRACES: Final = "INSERT INTO going_{table} SELECT id FROM {table} WHERE trace IN (SELECT trace FROM going_trace)"
SHARED: Final = """
SELECT id, trace, span FROM span WHERE session IN (SELECT session FROM going)
AND trace IN (SELECT trace FROM going JOIN member USING (session)) AND trace NOT IN (SELECT trace FROM going_trace)
"""
"""Their turns in traces in which others have some too."""
ORIGINS: Final = "INSERT OR IGNORE INTO going_origin SELECT origin FROM going_{table} JOIN {table} USING (id)"
UNUSED: Final = """
DELETE FROM origin WHERE NOT EXISTS (SELECT 1 FROM span WHERE span.origin = origin.id)
AND NOT EXISTS (SELECT 1 FROM log WHERE log.origin = origin.id)
"""
UNUSED_NOW: Final = f"{UNUSED} AND id IN (SELECT origin FROM going_origin)"
WORDS: Final = (
    "DELETE FROM words WHERE rowid IN (SELECT id FROM going_span)",
    "DELETE FROM words WHERE rowid IN (SELECT -id FROM going_log)",
)
TEMPORARY: Final = ("going", "going_trace", "going_span", "going_log", "going_origin")
BODIES: Final = ("span", "log")
BY_TRACE: Final = ("marked", "parent", "stray")
BY_SESSION: Final = ("member", "response")


class Leaving:
    """Deletes what is too old, and the oldest when there is too much.

    Args:
        keep: seconds for which sessions are kept after their last turn; None for ever.
        max_size: bytes that the database takes at most; None for any.
        has_words: whether words can be looked for.
    """

    def __init__(self, keep: float | None, max_size: int | None, *, has_words: bool) -> None:
        self._keep = keep
        self._max_size = max_size
        self._has_words = has_words

    def leave(self, connection: sqlite3.Connection, now: float | None = None) -> bool:
        """Delete some of what has to leave, within a transaction; whether there was any."""
        now = time.time() if now is None else now
        for table in TEMPORARY:
            connection.execute(f"DELETE FROM {table}")
        if self._keep is not None:
            before = int(max(now - self._keep, -1))
            if self._strays(connection, before) or self._sessions(connection, before * SECOND, AGE, AT_ONCE):
                return True
        excess = self._excess(connection)
        if excess <= 0:
            return False
        if self._strays(connection, int(now - STRAY)):
            return True
        if self._are_many(connection) and self._strays(connection, INT64):
            return True
        (sessions,) = connection.execute("SELECT count(*) FROM session").fetchone()
        most = min(1 + int(sessions * excess), AT_ONCE)
        return self._sessions(connection, INT64, SIZE, most) or self._strays(connection, INT64)

    def is_over(self, connection: sqlite3.Connection) -> bool:
        """Whether the database takes more than it may."""
        return self._max_size is not None and size_of(connection) > self._max_size

    def shrink(self, connection: sqlite3.Connection) -> None:
        """Give some of a file's free pages back where it takes more than it may, outside of a transaction."""
        pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        if self._max_size is not None and pages * size > self._max_size:
            connection.execute("PRAGMA incremental_vacuum(2000)").fetchall()

    def _excess(self, connection: sqlite3.Connection) -> float:
        """What part of the database is more than there should be."""
        size = size_of(connection)
        return 0.0 if self._max_size is None else 1.0 - self._max_size * ROOM / size

    def _are_many(self, connection: sqlite3.Connection) -> bool:
        """Whether the spans that no session claims take more than their share of the room."""
        strays, weighed, size = connection.execute(WEIGHT, {"most": WEIGHED}).fetchone()
        return self._max_size is not None and strays * size > self._max_size * SHARE * weighed

    def _sessions(self, connection: sqlite3.Connection, before: int, why: str, most: int) -> bool:
        connection.execute(FAMILIES, {"before": before, "most": most})
        connection.execute(COUNTED, {"why": why})
        connection.execute(TRACES)
        return self._delete(connection)

    def _strays(self, connection: sqlite3.Connection, before: int) -> bool:
        connection.execute(STRAYS, {"before": before, "most": AT_ONCE})
        return self._delete(connection)

    def _delete(self, connection: sqlite3.Connection) -> bool:
        """Delete what the tables of what is going say; whether that was anything."""
        (sessions,), (traces,) = (
            connection.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("going", "going_trace")
        )
        if not sessions and not traces:
            return False
        _gather(connection)
        for sql in (*(WORDS if self._has_words else ()), *(ORIGINS.format(table=table) for table in BODIES)):
            connection.execute(sql)
        for table in BODIES:
            connection.execute(f"DELETE FROM {table} WHERE id IN (SELECT id FROM going_{table})")
        connection.execute(UNCLAIMED)
        for table in BY_TRACE:
            connection.execute(f"DELETE FROM {table} WHERE trace IN (SELECT trace FROM going_trace)")
        if sessions:
            for table in BY_SESSION:
                connection.execute(f"DELETE FROM {table} WHERE session IN (SELECT session FROM going)")
            connection.execute("DELETE FROM stale WHERE family IN (SELECT session FROM going)")
            connection.execute("DELETE FROM session WHERE id IN (SELECT session FROM going)")
        connection.execute(UNUSED_NOW)
        return True


def _gather(connection: sqlite3.Connection) -> None:
    """Note each span and event that goes: whole traces, and of those that stay the turns of the sessions that go."""
    for table in BODIES:
        connection.execute(OF_TRACES.format(table=table))
    shared = connection.execute(SHARED).fetchall()
    each(connection, "INSERT INTO going_span VALUES {}", ((number,) for number, _, _ in shared))
    calls = {(trace, span) for _, trace, span in shared}
    each(connection, "INSERT INTO going_log VALUES {}", ((number,) for number in _events(connection, calls)))


def _events(connection: sqlite3.Connection, calls: set[tuple[bytes, bytes]]) -> Iterator[int]:
    """The numbers of the events of some calls, by their traces and spans."""
    for trace in {trace for trace, _ in calls}:
        for number, body in connection.execute("SELECT id, body FROM log WHERE trace = ?", (trace,)).fetchall():
            try:
                span = LogRecord.FromString(body).span_id
            except DecodeError:  # a damaged file
                continue
            if (trace, span) in calls:
                yield number


def prepared(connection: sqlite3.Connection) -> None:
    """Make what :class:`Leaving` needs on its connection; origins go whose spans others took the place of."""
    connection.executescript(GOING)
    with suppress(sqlite3.OperationalError):  # a lock, a full disk: the next time then
        connection.execute(UNUSED)


def size_of(connection: sqlite3.Connection) -> int:
    """The bytes that the database has in use, whatever the size of its file."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return int((pages - free) * size)
