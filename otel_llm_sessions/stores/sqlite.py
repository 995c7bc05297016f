"""The store of one machine: an SQLite file.

One thread of each process owns the process's one connection, and callers wait for it no longer than the time limit: a
lock, a slow disk or a network file system holds up that thread and nothing else.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from otel_llm_sessions import forks
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.codec import hashed, rows_of
from otel_llm_sessions.stores.patience import Job
from otel_llm_sessions.stores.shared import (
    DEFAULT_TIME_LIMIT,
    DEFAULT_TTL,
    Entry,
    SharedStore,
    StoreDown,
    StoreRefused,
)
from otel_llm_sessions.stores.sqlite_file import WRITES_BETWEEN_CLEANINGS, File, clean

T = TypeVar("T")

_REFUSALS = ("full", "readonly", "read-only")
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
        rows = rows_of(entries)
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
        rows = rows_of(entries)
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

    def _wait(self, job: Callable[[File], T]) -> T:
        try:
            return Job(job).wait(self._time_limit, self._worker.take)
        except TimeoutError as timeout:
            raise self._late() from timeout
        except (sqlite3.Error, OSError) as error:
            raise _fault(error, self.path) from error

    async def _await(self, job: Callable[[File], T]) -> T:
        try:
            return await Job(job).wait_on_loop(self._time_limit, self._worker.take)
        except TimeoutError as timeout:
            raise self._late() from timeout
        except (sqlite3.Error, OSError) as error:
            raise _fault(error, self.path) from error

    def _late(self) -> StoreDown:
        return StoreDown(f"no answer from {self.path} in {self._time_limit * 1000:.0f} ms")

    def _open(self) -> File:
        file = File.open(self.path, busy=self._time_limit * 0.8, scope=self.scope)
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

    def __init__(self, open_file: Callable[[], File]) -> None:
        self._open_file = open_file
        self._jobs: queue.SimpleQueue[Job[File, Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._refusal = ""
        self._working = threading.Lock()
        self._cleaning = threading.Lock()
        self._is_forking = False
        self.is_paused = False
        self._file: File | None = None

    def take(self, job: Job[File, Any]) -> None:
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

    def _current_file(self) -> File:
        if self._file is not None and self._file.is_gone():
            # Closing it would delete the side files of the database that now has its name.
            forks.leave_to_parent(self._file)
            self._file = None
        if self._file is None:
            self._file = self._open_file()
        return self._file

    def _clean_up(self) -> None:
        file = self._file
        if file is None or file.writes < WRITES_BETWEEN_CLEANINGS:
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
            clean(path, lambda: not self._is_forking)
        finally:
            self._cleaning.release()
