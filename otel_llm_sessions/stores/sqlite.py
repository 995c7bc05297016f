"""The store of one machine: an SQLite file.

The keeper's thread owns the process's one connection, and callers wait for it no longer than the time limit: a lock, a
slow disk or a network file system holds up that thread and nothing else.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from otel_llm_sessions import forks
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.answer import Answer, Late
from otel_llm_sessions.stores.codec import hashed, rows_of
from otel_llm_sessions.stores.keeper import Keeper
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
Work = Callable[[File], Any]

_REFUSALS = ("full", "readonly", "read-only")


class SqliteStore(SharedStore):
    """Keeps links in an SQLite file that many processes of one machine share; thread-safe and fork-safe."""

    def __init__(self, path: str | Path, *, ttl: float = DEFAULT_TTL, time_limit: float = DEFAULT_TIME_LIMIT) -> None:
        """Args: path of the file (made when it is missing), seconds until an entry expires, seconds a caller waits."""
        self.path = os.path.abspath(path)
        self.scope = uuid.uuid4().hex
        self._ttl = ttl
        self._time_limit = time_limit
        self._keeper = self._new_keeper()
        self._identity: tuple[int, int] | None = None
        forks.renew_in_child(self)
        forks.close_at_fork(self)

    def get_all(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """Return the link of each of ``keys``, in order, None where it is unknown."""
        hashes = [hashed(key) for key in keys]
        return self._ask(lambda file: file.read(hashes))

    def put_all(self, entries: Sequence[Entry]) -> None:
        """Remember each entry, in one transaction."""
        rows = rows_of(entries)
        self._ask(lambda file: file.write(rows, self._ttl))

    def claim(self, key: str, token: bytes | None = None) -> bool:
        """Return True to exactly one of all callers that claim ``key``."""
        claimed, mine = hashed(key, b"claim"), token or uuid.uuid4().bytes
        return self._ask(lambda file: file.claim(claimed, mine, self._ttl))

    def withdraw(self, key: str, token: bytes) -> None:
        """Leave ``key`` to the next caller, if the claim with ``token`` is the one that got it."""
        claimed = hashed(key, b"claim")
        self._ask(lambda file: file.withdraw(claimed, token))

    async def aget_all(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """As ``get_all``, for callers on an event loop."""
        hashes = [hashed(key) for key in keys]
        return await self._ask_on_loop(lambda file: file.read(hashes))

    async def aput_all(self, entries: Sequence[Entry]) -> None:
        """As ``put_all``, for callers on an event loop."""
        rows = rows_of(entries)
        await self._ask_on_loop(lambda file: file.write(rows, self._ttl))

    async def aclaim(self, key: str, token: bytes | None = None) -> bool:
        """As ``claim``, for callers on an event loop."""
        claimed, mine = hashed(key, b"claim"), token or uuid.uuid4().bytes
        return await self._ask_on_loop(lambda file: file.claim(claimed, mine, self._ttl))

    def ask(self, keys: Sequence[str]) -> Answer[list[SessionLink | None]]:
        """As ``get_all``, beside the caller."""
        hashes = [hashed(key) for key in keys]
        return self._begin(lambda file: file.read(hashes))

    def ask_claim(self, key: str, token: bytes) -> Answer[bool]:
        """As ``claim``, beside the caller."""
        claimed = hashed(key, b"claim")
        return self._begin(lambda file: file.claim(claimed, token, self._ttl))

    def close(self) -> None:
        """Close the connection once what waits is done."""
        self._keeper.refuse("the store is closed")
        self._keeper.stop(self._time_limit)

    def before_fork(self) -> None:
        """Close the file: SQLite keeps its locks in memory that a child would believe to be its own."""
        self._keeper.pause(self._time_limit)

    def after_fork_in_parent(self) -> None:
        """Go on; the next operation opens the file again."""
        self._keeper.go_on()

    def after_fork_in_child(self) -> None:
        """Leave the thread to the parent."""
        inherited, self._keeper = self._keeper, self._new_keeper()
        forks.leave_to_parent(inherited)
        if not inherited.is_paused:
            self._keeper.refuse("its file was in use when the process was forked")
        if self._identity is None:
            self.scope = uuid.uuid4().hex

    def _new_keeper(self) -> Keeper[Work]:
        return Keeper("sqlite", lambda: _Database(self._open))

    def _ask(self, work: Callable[[File], T]) -> T:
        try:
            answer: T = self._keeper.ask(work, self._time_limit)
            return answer
        except Late:
            raise self._late() from None

    async def _ask_on_loop(self, work: Callable[[File], T]) -> T:
        try:
            answer: T = await self._keeper.ask_on_loop(work, self._time_limit)
            return answer
        except Late:
            raise self._late() from None

    def _begin(self, work: Callable[[File], T]) -> Answer[T]:
        try:
            return self._keeper.begin(work)
        except StoreDown as fault:
            refused: Answer[T] = Answer()
            refused.fail(fault)
            return refused

    def _late(self) -> StoreDown:
        return StoreDown(f"no answer from {self.path} in {self._time_limit * 1000:.0f} ms")

    def _open(self) -> File:
        try:
            file = File.open(self.path, busy=self._time_limit * 0.8, scope=self.scope)
        except (sqlite3.Error, OSError) as error:
            raise fault_of(error, self.path) from error
        known, self._identity, self.scope = self._identity, file.identity, file.scope
        if known not in (None, file.identity) and self.on_emptied is not None:
            self.on_emptied()
        return file


class _Database:
    """What the keeper's thread owns: the open file, and the cleaning that follows many writes."""

    def __init__(self, open_file: Callable[[], File]) -> None:
        self._open_file = open_file
        self._file: File | None = None
        self._cleaning = threading.Lock()
        self._is_forking = False
        self._is_paused = False

    def serve(self, asked: Sequence[Work]) -> Iterator[Any]:
        """Do each piece of work with the file."""
        for work in asked:
            yield self._outcome(work)
        self._clean_up()

    def pause(self, seconds: float) -> bool:
        """Close the file and let no cleaning have one."""
        self._is_forking = True
        self._is_paused = self._cleaning.acquire(timeout=seconds)
        if self._is_paused:
            self.close()
        return self._is_paused

    def go_on(self) -> None:
        """Work again; the next operation opens the file."""
        self._is_forking = False
        if self._is_paused:
            self._is_paused = False
            self._cleaning.release()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _outcome(self, work: Work) -> Any:
        try:
            file = self._current_file()
            return work(file)
        except (sqlite3.Error, OSError) as error:
            return fault_of(error, file.path)
        except BaseException as error:
            return error

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


def fault_of(error: Exception, path: str) -> Exception:
    """Return what SQLite or the file system says as a fault of the store."""
    text = str(error)
    kind = StoreRefused if any(word in text for word in _REFUSALS) else StoreDown
    return kind(f"{path}: {text}")
