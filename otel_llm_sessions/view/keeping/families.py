"""Which traces belong to which sessions, and which sessions are to be read together."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from typing import Final

from otel_llm_sessions.view.keeping.rows import each

NUMBERS: Final = "SELECT said, id FROM session WHERE said IN (VALUES {})"
NAMED: Final = "INSERT OR IGNORE INTO session (said, family, last) VALUES {}"
MEMBERS: Final = "INSERT OR IGNORE INTO member VALUES {}"
MARKED: Final = "INSERT OR IGNORE INTO marked VALUES {}"
RESPONSES: Final = "INSERT OR IGNORE INTO response VALUES {}"
ANSWERED: Final = "SELECT digest, session FROM response WHERE digest IN (VALUES {})"
CLAIMED: Final = "DELETE FROM stray WHERE trace IN (VALUES {})"
STRAY: Final = """
INSERT OR IGNORE INTO stray SELECT column1, column2 FROM (VALUES {})
WHERE NOT EXISTS (SELECT 1 FROM member WHERE trace = column1)
AND NOT EXISTS (SELECT 1 FROM marked WHERE target = column1)
"""
STALE_BY_MEMBER: Final = """
INSERT OR IGNORE INTO stale (family) SELECT DISTINCT session.family
FROM member JOIN session ON session.id = member.session WHERE member.trace IN (VALUES {})
"""
STALE_BY_MARKER: Final = """
INSERT OR IGNORE INTO stale (family) SELECT DISTINCT session.family
FROM marked JOIN member ON member.trace = marked.trace
JOIN session ON session.id = member.session WHERE marked.target IN (VALUES {})
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
        self._members: set[tuple[bytes, str]] = set()
        self._marked: set[tuple[bytes, bytes]] = set()
        self._responses: set[tuple[str, str]] = set()
        self._filed: set[str] = set()
        self._numbers: dict[str, int] = {}

    def turn(self, said: str, trace: bytes, response: str | None, previous: str | None) -> None:
        """Note that a span names a session, which response it was answered with, and after which."""
        self._members.add((trace, said))
        if response:
            self._responses.add((response, said))
        if previous == said:
            self._filed.add(said)

    def marked(self, trace: bytes, target: bytes) -> None:
        """Note that a marker in a trace stands for a call in another."""
        self._marked.add((trace, target))

    def numbers(self) -> Mapping[str, int]:
        """The number of each session that is named; those are given one that have none."""
        names = {said for _, said in self._members}
        self._numbers = dict(each(self._connection, NUMBERS, ((said,) for said in names)))
        new = names - self._numbers.keys()
        if new:
            at = self._now * 1_000_000_000  # until its row says when it was last heard of
            each(self._connection, NAMED, ((said, 0, at) for said in sorted(new)))
            self._connection.execute("UPDATE session SET family = id WHERE family = 0")
            self._numbers.update(each(self._connection, NUMBERS, ((said,) for said in new)))
        return self._numbers

    def settle(self, touched: set[bytes]) -> None:
        """Write what was noted: whose rows do not say yet what arrived in these traces, and which are nobody's."""
        numbers = self._numbers
        each(self._connection, MEMBERS, ((trace, numbers[said]) for trace, said in self._members))
        each(self._connection, MARKED, self._marked)
        responses = ((digest_of(response), numbers[said]) for response, said in self._responses)
        each(self._connection, RESPONSES, responses)
        self._join_all()
        claimed = {trace for trace, _ in self._members} | {target for _, target in self._marked}
        each(self._connection, CLAIMED, ((trace,) for trace in claimed))
        each(self._connection, STRAY, ((trace, self._now) for trace in touched - claimed))
        for sql in (STALE_BY_MEMBER, STALE_BY_MARKER):
            each(self._connection, sql, ((trace,) for trace in touched | claimed))

    def _join_all(self) -> None:
        """Make families of sessions in which turns were filed under each other's responses."""
        answers = {response for response, _ in self._responses}
        filed = dict(each(self._connection, NUMBERS, ((response,) for response in answers)))
        for response, said in self._responses:
            if response in filed:
                self._join(self._numbers[said], filed[response])
        by_digest = {digest_of(filed): self._numbers[filed] for filed in self._filed}
        for digest, owner in each(self._connection, ANSWERED, ((digest,) for digest in by_digest)):
            self._join(owner, by_digest[digest])

    def _join(self, one: int, other: int) -> None:
        """Make one family of those of two sessions."""
        sql = "SELECT family FROM session WHERE id = ?"
        family, joining = (self._connection.execute(sql, (number,)).fetchone()[0] for number in (one, other))
        if family != joining:
            self._connection.execute("UPDATE session SET family = ? WHERE family = ?", (family, joining))
            self._connection.execute("DELETE FROM stale WHERE family = ?", (joining,))
            self._connection.execute("INSERT OR IGNORE INTO stale (family) VALUES (?)", (family,))


def digest_of(text: str) -> int:
    """64 bits for a text, as a number that SQLite takes."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big", signed=True)
