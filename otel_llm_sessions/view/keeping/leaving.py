"""What leaves when it is old or there is no room: whole sessions, the oldest first."""

from __future__ import annotations

import sqlite3
import time
from typing import Final

AT_ONCE: Final = 100
"""Sessions, or traces of none, that leave in one transaction."""
STRAY: Final = 600
"""Seconds for which spans that no session claims are kept at least: the call that names theirs may end later."""
ROOM: Final = 0.9
"""How full a database is when nothing has to leave."""
SECOND: Final = 1_000_000_000
AGE, SIZE = "age", "size"
"""Why sessions leave."""

GOING: Final = """
CREATE TEMP TABLE IF NOT EXISTS going (session INTEGER PRIMARY KEY);
CREATE TEMP TABLE IF NOT EXISTS going_trace (trace BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS going_origin (origin INTEGER PRIMARY KEY);
"""
FAMILIES: Final = """
INSERT INTO going SELECT id FROM session WHERE family IN (
  SELECT family FROM session WHERE last < :before ORDER BY last LIMIT :most
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
INSERT INTO going_trace SELECT trace FROM stray WHERE arrived < :before ORDER BY arrived LIMIT :most
"""
COUNTED: Final = """
INSERT INTO gone SELECT :why, count(DISTINCT family) FROM session WHERE id IN (SELECT session FROM going)
HAVING count(*) > 0 ON CONFLICT (why) DO UPDATE SET sessions = sessions + excluded.sessions
"""
SHARED: Final = """
DELETE FROM span WHERE session IN (SELECT session FROM going)
AND trace IN (SELECT trace FROM going JOIN member USING (session))
"""
"""Their turns in traces in which others have some too."""
ORIGINS: Final = """
INSERT OR IGNORE INTO going_origin SELECT origin FROM {table} WHERE trace IN (SELECT trace FROM going_trace)
"""
UNUSED: Final = """
DELETE FROM origin WHERE id IN (SELECT origin FROM going_origin)
AND NOT EXISTS (SELECT 1 FROM span WHERE span.origin = origin.id)
AND NOT EXISTS (SELECT 1 FROM log WHERE log.origin = origin.id)
"""
WORDS: Final = (
    "DELETE FROM words WHERE rowid IN (SELECT id FROM span WHERE trace IN (SELECT trace FROM going_trace))",
    "DELETE FROM words WHERE rowid IN (SELECT -id FROM log WHERE trace IN (SELECT trace FROM going_trace))",
)
TEMPORARY: Final = ("going", "going_trace", "going_origin")
BY_TRACE: Final = ("span", "log", "marked", "parent", "stray")
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
            before = int(now - self._keep)
            if self._strays(connection, before) or self._sessions(connection, before * SECOND, AGE, AT_ONCE):
                return True
        excess = self._excess(connection)
        if excess <= 0:
            return False
        if self._strays(connection, int(now - STRAY)):
            return True
        (sessions,) = connection.execute("SELECT count(*) FROM session").fetchone()
        return self._sessions(connection, 1 << 62, SIZE, min(1 + int(sessions * excess), AT_ONCE))

    def shrink(self, connection: sqlite3.Connection) -> None:
        """Give some of a file's free pages back where it takes more than it may, outside of a transaction."""
        pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        if self._max_size is not None and pages * size > self._max_size:
            connection.execute("PRAGMA incremental_vacuum(2000)").fetchall()

    def _excess(self, connection: sqlite3.Connection) -> float:
        """What part of the database is more than there should be."""
        size = size_of(connection)
        return 0.0 if self._max_size is None else 1.0 - self._max_size * ROOM / size

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
        for sql in (*(WORDS if self._has_words else ()), *(ORIGINS.format(table=table) for table in ("span", "log"))):
            connection.execute(sql)
        for table in BY_TRACE:
            connection.execute(f"DELETE FROM {table} WHERE trace IN (SELECT trace FROM going_trace)")
        if sessions:
            connection.execute(SHARED)
            for table in BY_SESSION:
                connection.execute(f"DELETE FROM {table} WHERE session IN (SELECT session FROM going)")
            connection.execute("DELETE FROM stale WHERE family IN (SELECT session FROM going)")
            connection.execute("DELETE FROM session WHERE id IN (SELECT session FROM going)")
        connection.execute(UNUSED)
        return True


def prepared(connection: sqlite3.Connection) -> None:
    """Make what :class:`Leaving` needs on its connection."""
    connection.executescript(GOING)


def size_of(connection: sqlite3.Connection) -> int:
    """The bytes that the database has in use, whatever the size of its file."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return int((pages - free) * size)
