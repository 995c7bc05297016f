"""The file of the SQLite store: an open database, who else has it, what is in it, and how it is kept small."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence

from otel_llm_sessions import forks
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.codec import KEY_PREFIX, RANK, VERSIONS_WITH_RANK, Row, decode
from otel_llm_sessions.stores.shared import MAX_SCOPE

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be deleted either
    fcntl = None  # type: ignore[assignment]

_TABLES = (
    "CREATE TABLE IF NOT EXISTS links (key BLOB PRIMARY KEY, value BLOB NOT NULL, expires INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS claims (key BLOB PRIMARY KEY, token BLOB NOT NULL, expires INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS scope (only INTEGER PRIMARY KEY CHECK (only = 1), name TEXT NOT NULL)",
)
_ON_CONFLICT = "ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires"
_PUT = f"INSERT INTO links VALUES {{}} {_ON_CONFLICT}"
# Bytes are compared as such (https://www.sqlite.org/datatype3.html#sort_order).
_RANK = f"substr({{}}, {RANK.start + 1}, {RANK.stop - RANK.start})"
_PUT_UNLESS_LATER = (
    "INSERT INTO links SELECT column1, column2, column3 FROM (VALUES {}) WHERE NOT column4 OR NOT EXISTS"
    " (SELECT 1 FROM links WHERE key = column1 AND expires > ? AND hex(substr(value, 1, 1))"
    f" BETWEEN '{VERSIONS_WITH_RANK.start:02X}' AND '{VERSIONS_WITH_RANK.stop - 1:02X}'"
    f" AND {_RANK.format('value')} > {_RANK.format('column2')}) {_ON_CONFLICT}"
)
_CLAIM = (
    "INSERT INTO claims VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET token = excluded.token,"
    " expires = excluded.expires WHERE claims.expires <= ?"
)
_CLEANED = ("links", "claims")
_SIDE_FILES = ("-wal", "-shm")

WRITES_BETWEEN_CLEANINGS = 512
_OVERDUE = 16 * WRITES_BETWEEN_CLEANINGS
"""After so many writes cleaning waits no longer for the store to be at rest."""
SAMPLE = 4 * WRITES_BETWEEN_CLEANINGS
"""How many entries a cleaning looks at; more only while a quarter of them has expired."""


class File:
    """An open database."""

    def __init__(self, path: str, connection: sqlite3.Connection, scope: str) -> None:
        self.path = path
        self.scope = scope
        self.writes = WRITES_BETWEEN_CLEANINGS
        """Since the last cleaning; others may have left something to do."""
        self._to_clean = list(_CLEANED)
        self._connection = connection
        self.identity = _identity(path)

    @classmethod
    def open(cls, path: str, *, busy: float, scope: str) -> File:
        """Open the database at ``path``, made and given ``scope`` when it is new."""
        with _alone(os.path.dirname(path), busy):
            if not os.path.exists(path):
                _remove_side_files(path)
                _make_for_its_owner(path)
            connection = _connect(path, busy)
            try:
                agreed = _agree_on_scope(connection, scope)
                connection.execute("PRAGMA synchronous=NORMAL")
                return cls(path, connection, agreed)
            except BaseException:
                connection.close()
                raise

    def read(self, hashes: Sequence[bytes]) -> list[SessionLink | None]:
        """Return the link of each hashed key."""
        marks = ",".join("?" * len(hashes))
        rows = self._connection.execute(
            f"SELECT key, value FROM links WHERE key IN ({marks}) AND expires > ?", (*hashes, _now())
        )
        values = dict(rows.fetchall())
        return [decode(values.get(key)) for key in hashes]

    def write(self, rows: Sequence[Row], ttl: float) -> None:
        """Write each row, all or none, but one that would set a session back."""
        if not rows:
            return
        now = _now()
        expires = now + round(ttl)
        # One statement is a transaction, by a third of the steps.
        if any(row.is_mutable for row in rows):
            values = [value for row in rows for value in (row.key, row.record, expires, row.is_mutable)]
            self._connection.execute(_PUT_UNLESS_LATER.format(",".join(["(?, ?, ?, ?)"] * len(rows))), (*values, now))
        else:
            values = [value for row in rows for value in (row.key, row.record, expires)]
            self._connection.execute(_PUT.format(",".join(["(?, ?, ?)"] * len(rows))), values)
        self.writes += len(rows)

    def claim(self, key: bytes, token: bytes, ttl: float) -> bool:
        """Return whether ``token`` is the one that now holds ``key``."""
        now = _now()
        self.writes += 1
        if self._connection.execute(_CLAIM, (key, token, now + round(ttl), now)).rowcount == 1:
            return True
        holder = self._connection.execute("SELECT token FROM claims WHERE key = ?", (key,)).fetchone()
        return bool(holder == (token,))

    def withdraw(self, key: bytes, token: bytes) -> None:
        """Delete the claim of ``key``, if ``token`` holds it."""
        self._connection.execute("DELETE FROM claims WHERE key = ? AND token = ?", (key, token))

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Do all or nothing of what is written inside."""
        return _transaction(self._connection)

    def is_untidy(self, *, is_busy: bool) -> bool:
        """Whether enough was written since the last cleaning: more of it in a store that is busy."""
        return self.writes >= (_OVERDUE if is_busy else WRITES_BETWEEN_CLEANINGS)

    def tidy(self) -> None:
        """Delete some of what expired; when that is done, move what was written from the log into the database."""
        if not self._to_clean:
            self.writes, self._to_clean = 0, list(_CLEANED)
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        elif self._delete_expired(self._to_clean[-1]) <= SAMPLE // 4:
            self._to_clean.pop()

    def _delete_expired(self, table: str) -> int:
        """Delete what expired among as many entries as are looked at, wherever they begin; return how many those were.

        As Redis does it. An index by expiry would be a third of each write.
        """
        begin, now = KEY_PREFIX + os.urandom(16), _now()
        look = f"SELECT key, expires FROM {table} WHERE key {{}} ? LIMIT ?"
        rows = self._connection.execute(look.format(">="), (begin, SAMPLE)).fetchall()
        rows += self._connection.execute(look.format("<"), (begin, SAMPLE - len(rows))).fetchall()
        expired = [(key, now) for key, expires in rows if expires <= now]
        if expired:
            with self.transaction():
                self._connection.executemany(f"DELETE FROM {table} WHERE key = ? AND expires <= ?", expired)
        return len(expired)

    def is_gone(self) -> bool:
        """Whether another file, or none, now has this one's name."""
        return _identity(self.path) != self.identity

    def close(self) -> None:
        """Close the connection, unless the file was deleted meanwhile."""
        if self.is_gone():
            forks.leave_to_parent(self._connection)
        else:
            self._connection.close()


def _now() -> int:
    return int(time.time())


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _connect(path: str, busy: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy, isolation_level=None, check_same_thread=False)
    try:
        # A database that is just being made has nothing to lose, and need not wait for the disk.
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_mode=WAL")
        # Checkpoints wait for the disk: they are done while nobody asks.
        connection.execute("PRAGMA wal_autocheckpoint=0")
    except BaseException:
        connection.close()
        raise
    return connection


def _agree_on_scope(connection: sqlite3.Connection, proposed: str) -> str:
    """Return the scope of all who share the database; makes the tables of a new one."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'scope'").fetchone():
        with _transaction(connection):
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute("INSERT OR IGNORE INTO scope VALUES (1, ?)", (proposed,))
    return str(connection.execute("SELECT name FROM scope").fetchone()[0])[:MAX_SCOPE]


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _alone(directory: str, patience: float) -> Iterator[None]:
    """Be the only process that opens a database in ``directory``: two must not make a deleted file anew at once."""
    if fcntl is None:
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        _lock_within(handle, patience)
        yield
    finally:
        os.close(handle)


def _lock_within(handle: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.002)


def _make_for_its_owner(path: str) -> None:
    """Make an empty file that nobody else may read; SQLite gives the side files what the database has."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _remove_side_files(path: str) -> None:
    for suffix in _SIDE_FILES:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + suffix)
