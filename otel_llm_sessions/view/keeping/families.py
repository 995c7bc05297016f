"""Which traces belong to which sessions, and which sessions are to be read together."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from typing import Final

AT_ONCE: Final = 500
"""Values in one statement; older versions of SQLite take 999."""

STALE_BY_MEMBER: Final = """
INSERT OR IGNORE INTO stale (family) SELECT DISTINCT session.family
FROM member JOIN session ON session.id = member.session WHERE member.trace IN ({})
"""
STALE_BY_MARKER: Final = """
INSERT OR IGNORE INTO stale (family) SELECT DISTINCT session.family
FROM marked JOIN member ON member.trace = marked.trace
JOIN session ON session.id = member.session WHERE marked.target IN ({})
"""
STRAY: Final = """
INSERT OR IGNORE INTO stray SELECT :trace, :now WHERE NOT EXISTS (SELECT 1 FROM member WHERE trace = :trace)
AND NOT EXISTS (SELECT 1 FROM marked WHERE target = :trace)
"""


class Families:
    """Notes within one transaction what names sessions.

    A session's family are the sessions among which its turns may lie: a process that does not know a session files its
    turn under the id of the response before, and which turn was answered with that may arrive later.

    Args:
        connection: the transaction's.
        now: seconds since the epoch.
    """

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self._connection = connection
        self._now = now
        self._numbers: dict[str, int] = {}
        self._members: set[tuple[bytes, int]] = set()
        self._claimed: set[bytes] = set()

    def number(self, said: str) -> int:
        """The number of the session with this id; it is given one if it has none."""
        number = self._numbers.get(said)
        if number is None:
            row = self._connection.execute("SELECT id FROM session WHERE said = ?", (said,)).fetchone()
            number = self._numbers[said] = row[0] if row else self._named(said)
        return number

    def member(self, trace: bytes, session: int) -> None:
        """Note that a trace has a span which names a session."""
        if (trace, session) not in self._members:
            self._members.add((trace, session))
            self._connection.execute("INSERT OR IGNORE INTO member VALUES (?, ?)", (trace, session))
            self._claimed.add(trace)

    def marked(self, trace: bytes, target: bytes) -> None:
        """Note that a marker in a trace stands for a call in another."""
        self._connection.execute("INSERT OR IGNORE INTO marked VALUES (?, ?)", (trace, target))
        self._claimed.add(target)

    def answered(self, session: int, response: str | None, previous: str | None) -> None:
        """Note which response was given in a session, and after which."""
        if response:
            row = (digest_of(response), session)
            self._connection.execute("INSERT OR IGNORE INTO response VALUES (?, ?)", row)
            filed = self._connection.execute("SELECT id FROM session WHERE said = ?", (response,)).fetchone()
            if filed:
                self._join(session, filed[0])
        if previous and self._numbers.get(previous) == session:
            sql = "SELECT session FROM response WHERE digest = ? AND session != ? LIMIT 1"
            for (owner,) in self._connection.execute(sql, (digest_of(previous), session)).fetchall():
                self._join(owner, session)

    def settle(self, touched: set[bytes]) -> bool:
        """Note whose rows do not say yet what arrived in these traces, and which traces are nobody's.

        Returns:
            Whether anything of a session arrived.
        """
        self._connection.executemany("DELETE FROM stray WHERE trace = ?", [(trace,) for trace in self._claimed])
        rows = [{"trace": trace, "now": self._now} for trace in touched - self._claimed]
        self._connection.executemany(STRAY, rows)
        before = self._connection.total_changes
        for some in _slices(list(touched | self._claimed)):
            marks = ", ".join("?" * len(some))
            for sql in (STALE_BY_MEMBER, STALE_BY_MARKER):
                self._connection.execute(sql.format(marks), some)
        return self._connection.total_changes > before

    def _named(self, said: str) -> int:
        row = (said, self._now * 1_000_000_000)  # until its row says when it was last heard of
        number = self._connection.execute("INSERT INTO session (said, family, last) VALUES (?, 0, ?)", row).lastrowid
        self._connection.execute("UPDATE session SET family = id WHERE id = ?", (number,))
        return number or 0

    def _join(self, one: int, other: int) -> None:
        """Make one family of those of two sessions."""
        sql = "SELECT family FROM session WHERE id = ?"
        family, joining = (self._connection.execute(sql, (each,)).fetchone()[0] for each in (one, other))
        if family != joining:
            self._connection.execute("UPDATE session SET family = ? WHERE family = ?", (family, joining))
            self._connection.execute("DELETE FROM stale WHERE family = ?", (joining,))
            self._connection.execute("INSERT OR IGNORE INTO stale (family) VALUES (?)", (family,))


def digest_of(text: str) -> int:
    """64 bits for a text, as a number that SQLite takes."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big", signed=True)


def _slices(values: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(values), AT_ONCE):
        yield values[start : start + AT_ONCE]
