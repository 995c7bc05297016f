"""The store of one machine: an SQLite file.

One thread of each process owns the process's one connection, and callers wait for it no longer than the time limit: a
lock, a slow disk or a network file system holds up that thread and nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from otel_llm_sessions import forks
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.sessions.stores.codec import KEY_PREFIX, decode, hashed, records
from otel_llm_sessions.sessions.stores.patience import Job
from otel_llm_sessions.sessions.stores.shared import (
    DEFAULT_TIME_LIMIT,
    DEFAULT_TTL,
    Entry,
    SharedStore,
    StoreDown,
    StoreRefused,
)

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be deleted either
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("otel_llm_sessions")

T = TypeVar("T")

_TABLES = (
    "CREATE TABLE IF NOT EXISTS links (key BLOB PRIMARY KEY, value BLOB NOT NULL, expires INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS claims (key BLOB PRIMARY KEY, token BLOB NOT NULL, expires INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS scope (only INTEGER PRIMARY KEY CHECK (only = 1), name TEXT NOT NULL)",
)
_PUT = "INSERT INTO links VALUES {} ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires"
_CLAIM = (
    "INSERT INTO claims VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET token = excluded.token,"
    " expires = excluded.expires WHERE claims.expires <= ?"
)
_REFUSALS = ("full", "readonly", "read-only")
_SIDE_FILES = ("-wal", "-shm")

_WRITES_BETWEEN_CLEANINGS = 512
_SAMPLE = 4 * _WRITES_BETWEEN_CLEANINGS
_DELETED_AT_ONCE = 500
_MAX_WAITING = 1_000


class SqliteStore(SharedStore):
    """Keeps links in an SQLite file that many processes of one machine share; thread-safe and fork-safe."""

    def __init__(self, path: str | Path, *, ttl: float = DEFAULT_TTL, time_limit: float = DEFAULT_TIME_LIMIT) -> None:
        """Args: path of the file (made when it is missing), seconds until an entry expires, seconds a caller waits."""
        self.path = os.path.abspath(path)
        self.scope = uuid.uuid4().hex
        self._ttl = ttl
        self._time_limit = time_limit
        self._worker = _Worker(self._open)
        self._identity: tuple[int, int] | None = None
        forks.renew_in_child(self)
        forks.close_at_fork(self)

    def get_all(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """Return the link of each of ``keys``, in order, None where it is unknown."""
        hashes = [hashed(key) for key in keys]
        return self._wait(lambda file: file.read(hashes))

    def put_all(self, entries: Sequence[Entry]) -> None:
        """Remember each entry, in one transaction."""
        rows = records(entries)
        self._wait(lambda file: file.write(rows, self._ttl))

    def claim(self, key: str, token: bytes | None = None) -> bool:
        """Return True to exactly one of all callers that claim ``key``."""
        claimed, mine = hashed(key, b"claim"), token or uuid.uuid4().bytes
        return self._wait(lambda file: file.claim(claimed, mine, self._ttl))

    def withdraw(self, key: str, token: bytes) -> None:
        """Leave ``key`` to the next caller, if the claim with ``token`` is the one that got it."""
        claimed = hashed(key, b"claim")
        self._wait(lambda file: file.withdraw(claimed, token))

    async def aget_all(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """As ``get_all``, for callers on an event loop."""
        hashes = [hashed(key) for key in keys]
        return await self._await(lambda file: file.read(hashes))

    async def aput_all(self, entries: Sequence[Entry]) -> None:
        """As ``put_all``, for callers on an event loop."""
        rows = records(entries)
        await self._await(lambda file: file.write(rows, self._ttl))

    async def aclaim(self, key: str, token: bytes | None = None) -> bool:
        """As ``claim``, for callers on an event loop."""
        claimed, mine = hashed(key, b"claim"), token or uuid.uuid4().bytes
        return await self._await(lambda file: file.claim(claimed, mine, self._ttl))

    def close(self) -> None:
        """Close the connection once what waits is done."""
        self._worker.stop(self._time_limit)

    def before_fork(self) -> None:
        """Close the file: SQLite keeps its locks in memory that a child would believe to be its own."""
        self._worker.pause(self._time_limit)

    def after_fork_in_parent(self) -> None:
        """Go on; the next operation opens the file again."""
        self._worker.go_on()

    def after_fork_in_child(self) -> None:
        """Leave the thread to the parent."""
        inherited, self._worker = self._worker, _Worker(self._open)
        forks.leave_to_parent(inherited)
        if not inherited.is_paused:
            self._worker.refuse("its file was in use when the process was forked")
        if self._identity is None:
            self.scope = uuid.uuid4().hex

    def _wait(self, job: Callable[[_File], T]) -> T:
        try:
            return Job(job).wait(self._time_limit, self._worker.take)
        except TimeoutError as timeout:
            raise self._late() from timeout
        except (sqlite3.Error, OSError) as error:
            raise _fault(error, self.path) from error

    async def _await(self, job: Callable[[_File], T]) -> T:
        try:
            return await Job(job).wait_on_loop(self._time_limit, self._worker.take)
        except TimeoutError as timeout:
            raise self._late() from timeout
        except (sqlite3.Error, OSError) as error:
            raise _fault(error, self.path) from error

    def _late(self) -> StoreDown:
        return StoreDown(f"no answer from {self.path} in {self._time_limit * 1000:.0f} ms")

    def _open(self) -> _File:
        file = _File.open(self.path, busy=self._time_limit * 0.8, scope=self.scope)
        known, self._identity, self.scope = self._identity, file.identity, file.scope
        if known not in (None, file.identity) and self.on_emptied is not None:
            self.on_emptied()
        return file


def _fault(error: Exception, path: str) -> Exception:
    text = str(error)
    kind = StoreRefused if any(word in text for word in _REFUSALS) else StoreDown
    return kind(f"{path}: {text}")


class _Worker:
    """The thread that owns a process's connection; started by the first job."""

    def __init__(self, open_file: Callable[[], _File]) -> None:
        self._open_file = open_file
        self._jobs: queue.SimpleQueue[Job[_File, Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._refusal = ""
        self._working = threading.Lock()
        self._cleaning = threading.Lock()
        self._is_forking = False
        self.is_paused = False
        self._file: _File | None = None

    def take(self, job: Job[_File, Any]) -> None:
        """Queue ``job``; raises StoreDown when too many wait already."""
        with self._lock:
            if self._refusal or self._jobs.qsize() >= _MAX_WAITING:
                raise StoreDown(self._refusal or f"{_MAX_WAITING} operations wait already")
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="otel-llm-sessions-sqlite", daemon=True)
                thread.start()
                self._thread = thread
            self._jobs.put(job)

    def stop(self, patience: float) -> None:
        """End the thread, after what waits, and close the connection."""
        with self._lock:
            thread, self._refusal = self._thread, "the store is closed"
            self._jobs.put(None)
        if thread is not None:
            thread.join(patience)

    def refuse(self, why: str) -> None:
        """Do nothing from now on."""
        self._refusal = why

    def pause(self, patience: float) -> None:
        """Close the file and keep it closed until ``go_on``; ``is_paused`` says whether that could be done in time."""
        self._is_forking = True
        if not self._working.acquire(timeout=patience):
            return
        if not self._cleaning.acquire(timeout=patience):
            self._working.release()
            return
        self._close_file()
        self.is_paused = True

    def go_on(self) -> None:
        """Work again, after ``pause``."""
        self._is_forking = False
        if self.is_paused:
            self.is_paused = False
            self._cleaning.release()
            self._working.release()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            with self._working:
                job.do(self._current_file)
                self._clean_up()
            del job  # what waits for the next job should not keep the last one alive
        with self._working:
            self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _current_file(self) -> _File:
        if self._file is not None and self._file.is_gone():
            # Closing it would delete the side files of the database that now has its name.
            forks.leave_to_parent(self._file)
            self._file = None
        if self._file is None:
            self._file = self._open_file()
        return self._file

    def _clean_up(self) -> None:
        file = self._file
        if file is None or file.writes < _WRITES_BETWEEN_CLEANINGS:
            return
        if self._cleaning.acquire(blocking=False):  # else one is still under way, and the next operation tries again
            file.writes = 0
            thread = threading.Thread(
                target=self._clean, args=(file.path,), name="otel-llm-sessions-sqlite-clean", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # no thread to spare: it is cleaned after as many writes again
                self._cleaning.release()

    def _clean(self, path: str) -> None:
        try:
            _clean(path, lambda: not self._is_forking)
        finally:
            self._cleaning.release()


class _File:
    """An open database."""

    def __init__(self, path: str, connection: sqlite3.Connection, scope: str) -> None:
        self.path = path
        self.scope = scope
        self.writes = _WRITES_BETWEEN_CLEANINGS
        self._connection = connection
        self.identity = _identity(path)

    @classmethod
    def open(cls, path: str, *, busy: float, scope: str) -> _File:
        """Open the database at ``path``, made and given ``scope`` when it is new."""
        with _alone(os.path.dirname(path), busy):
            if not os.path.exists(path):
                _remove_side_files(path)
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

    def write(self, rows: Sequence[tuple[bytes, bytes]], ttl: float) -> None:
        """Write each key and its record, all or none."""
        if not rows:
            return
        expires = _now() + round(ttl)
        # One statement is a transaction, by a third of the steps.
        values = [value for key, record in rows for value in (key, record, expires)]
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
        # Checkpoints wait for the disk: the cleaning thread does them, not a caller.
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
    return str(connection.execute("SELECT name FROM scope").fetchone()[0])


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


def _remove_side_files(path: str) -> None:
    for suffix in _SIDE_FILES:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + suffix)


def _clean(path: str, may_go_on: Callable[[], bool] = lambda: True) -> None:
    """Delete what expired, and move what was written from the log into the database; best effort.

    Args:
        path: the database.
        may_go_on: asked every few milliseconds.
    """
    # Never makes a database that was deleted meanwhile: that would be one without tables, beside the old one's log.
    existing = f"{Path(path).as_uri()}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(existing, uri=True, timeout=0.01, isolation_level=None)) as connection:
            for table in ("links", "claims"):
                while may_go_on() and _delete_expired(connection, table, may_go_on) > _SAMPLE // 4:
                    pass
            if may_go_on():
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except sqlite3.Error as error:
        logger.debug("the session store %s could not be cleaned: %s", path, error)


def _delete_expired(connection: sqlite3.Connection, table: str, may_go_on: Callable[[], bool]) -> int:
    """Delete what expired among as many entries as are looked at, wherever they begin; return how many those were.

    As Redis does it. An index by expiry would be a third of each write.
    """
    begin, now = KEY_PREFIX + os.urandom(16), _now()
    rows = connection.execute(f"SELECT key, expires FROM {table} WHERE key >= ? LIMIT ?", (begin, _SAMPLE)).fetchall()
    rows += connection.execute(f"SELECT key, expires FROM {table} WHERE key < ? LIMIT ?", (begin, _SAMPLE - len(rows)))
    expired = [(key, now) for key, expires in rows if expires <= now]
    for first in range(0, len(expired), _DELETED_AT_ONCE):
        if not may_go_on():
            break
        with _transaction(connection):
            connection.executemany(
                f"DELETE FROM {table} WHERE key = ? AND expires <= ?", expired[first : first + _DELETED_AT_ONCE]
            )
        time.sleep(0.01)  # others want to write, too
    return len(expired)
