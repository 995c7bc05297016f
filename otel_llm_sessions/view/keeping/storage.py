"""SQLite's connections: a file that many threads read while one writes, or memory."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from otel_llm_sessions.view.keeping.schema import TABLES, VERSION, WORDS, Unusable, checked

WAIT: Final = 10.0
"""Seconds for which another process's lock (somebody's ``sqlite3`` command) is waited for."""
MAPPED: Final = (1 << 31) - (1 << 16)
"""Bytes of the file that are read without a copy."""
CACHE: Final = 1 << 15
"""KiB of pages that the writing connection holds."""
MODE: Final = 0o600


class Storage:
    """The connections to one database.

    Args:
        path: the file; None for memory.

    Attributes:
        has_words: whether this SQLite can look for words (most can: FTS5).

    Raises:
        Unusable: the file cannot be used; the message says why in one line.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else os.path.abspath(path)
        self.has_words = True
        self._lock = threading.RLock()
        self._resting: list[sqlite3.Connection] = []
        self._at_rest = threading.Lock()  # who reads never waits for who writes
        self._is_open = True
        self._held = None if self.path is None else _held(self.path)
        try:
            self._writer = self._connection(CACHE)
            self._prepare(self._writer)
        except (sqlite3.Error, OSError) as error:
            self._let_go()
            raise Unusable(f"{self.path} cannot be used: {error}") from error
        except Unusable:
            self._let_go()
            raise

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; what it did is kept when the block ends, and undone when it raises."""
        with self._lock:
            writer = self._open_writer()
            writer.execute("BEGIN IMMEDIATE")
            try:
                yield writer
                writer.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    writer.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the database throughout, which in memory nobody changes meanwhile."""
        if self.path is None:
            with self._lock:
                yield self._open_writer()
            return
        connection = self._rested()
        try:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        self._rest(connection)

    @contextmanager
    def between(self) -> Iterator[sqlite3.Connection]:
        """The writing connection outside of a transaction."""
        with self._lock:
            yield self._open_writer()

    def close(self) -> None:
        """Close all connections; those that are read from close when they are done."""
        with self._lock:
            if not self._is_open:
                return
            with self._at_rest:
                self._is_open = False
                for connection in self._resting:
                    connection.close()
                self._resting.clear()
            self._let_go()

    def _open_writer(self) -> sqlite3.Connection:
        self._check_open()
        return self._writer

    def _check_open(self) -> None:
        if not self._is_open:
            raise sqlite3.ProgrammingError("the database is closed")

    def _rested(self) -> sqlite3.Connection:
        with self._at_rest:
            self._check_open()
            if self._resting:
                return self._resting.pop()
        return self._connection(CACHE // 4)

    def _rest(self, connection: sqlite3.Connection) -> None:
        with self._at_rest:
            if self._is_open and len(self._resting) < 8:
                return self._resting.append(connection)
        connection.close()

    def _connection(self, kibibytes: int) -> sqlite3.Connection:
        there = ":memory:" if self.path is None else self.path
        connection = sqlite3.connect(there, timeout=WAIT, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA cache_size = -{kibibytes}")
            connection.execute("PRAGMA temp_store = MEMORY")
            if self.path is not None:
                connection.execute(f"PRAGMA mmap_size = {MAPPED}")
                connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:  # it is no database
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        is_empty = self.path is None or checked(connection, self.path)
        if self.path is not None:
            _keep_private(self.path)
        if is_empty:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            if self.path is not None:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
        try:
            connection.execute(WORDS)
            connection.execute("SELECT count(*) FROM words WHERE rowid = 0")
        except sqlite3.OperationalError:
            self.has_words = False

    def _let_go(self) -> None:
        with suppress(AttributeError, sqlite3.Error):
            self._writer.close()
        if self._held is not None:
            os.close(self._held)
            self._held = None


def _held(path: str) -> int:
    """Hold the file for this process; made if it is missing, readable for nobody but its owner.

    The descriptor stays open as long as SQLite has the file open: to close one would free all of a process's locks.
    """
    try:
        held = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), MODE)
    except OSError as error:
        raise Unusable(f"{path} cannot be used: {error.strerror}") from error
    try:
        _lock(held)
    except BlockingIOError:
        os.close(held)
        raise Unusable(f"{path} is in use by another viewer: end that one, or name another --db") from None
    except OSError as error:
        os.close(held)
        raise Unusable(f"{path} cannot be used: {error.strerror}") from error
    return held


def _keep_private(path: str) -> None:
    """Have a viewer's file, and what SQLite keeps beside it, readable for nobody but its owner."""
    os.chmod(path, MODE)
    for beside in (f"{path}-wal", f"{path}-shm"):
        with suppress(FileNotFoundError):
            os.chmod(beside, MODE)


def _lock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: two viewers on one file are then not told apart
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
