"""The store of one machine: an SQLite file, which the keeper's thread alone uses.

A lock, a slow disk or a network file system holds up that thread and nothing else.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from otel_llm_sessions import forks
from otel_llm_sessions.guard import logger
from otel_llm_sessions.stores.codec import hashed, rows_of
from otel_llm_sessions.stores.shared import (
    DEFAULT_TTL,
    Ask,
    Backend,
    Claim,
    Lookup,
    Put,
    StoreDown,
    StoreRefused,
    Withdraw,
)
from otel_llm_sessions.stores.sqlite_file import File

BUSY = 1.0
"""Seconds for which a lock of another process is waited for."""

_REFUSALS = ("full", "readonly", "read-only")

_inherited: list[File] = []
"""What was open and at rest when this process was forked; see ``in_child``."""


class SqliteBackend(Backend):
    """Keeps links in an SQLite file that many processes of one machine share; one transaction for whatever is asked."""

    name = "sqlite"

    def __init__(self, path: str | Path, *, ttl: float = DEFAULT_TTL) -> None:
        """Args: path of the file (made when it is missing), seconds until an entry expires."""
        self.path = os.path.abspath(path)
        self.scope = uuid.uuid4().hex
        self._ttl = ttl
        self._file: File | None = None
        self._identity: tuple[int, int] | None = None
        self._is_emptied = self._is_busy = False
        self._refusal = ""

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return self._file is not None

    def serve(self, asks: Sequence[Ask], seconds: float | None = None) -> list[Any]:
        """Do all that is asked: what is to be read, then what is to be written, in one transaction."""
        with self._busy():
            file = self._current_file()
            found = {place: self._read(file, ask) for place, ask in enumerate(asks) if isinstance(ask, Lookup)}
            writes = {place: ask for place, ask in enumerate(asks) if not isinstance(ask, Lookup)}
            found.update(zip(writes, self._written(file, [*writes.values()]), strict=True))
            return [found[place] for place in range(len(asks))]

    def was_emptied(self) -> bool:
        """Whether the file was deleted since this was asked last."""
        was_emptied, self._is_emptied = self._is_emptied, False
        return was_emptied

    def is_untidy(self, *, is_busy: bool) -> bool:
        """Whether enough was written since the last cleaning."""
        return self._file is not None and self._file.is_untidy(is_busy=is_busy)

    def tidy(self) -> None:
        """Delete some of what expired, or move what was written from the log into the database; best effort."""
        file = self._file
        if file is None or file.is_gone():
            return
        try:
            with self._busy():
                file.tidy()
        except (StoreDown, StoreRefused) as error:
            file.writes = 0
            logger.debug("the session store could not be cleaned: %s", error)

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            with self._busy():
                file.close()

    def anew(self) -> SqliteBackend:
        """Return the same with nothing open."""
        other = SqliteBackend(self.path, ttl=self._ttl)
        other.scope, other._identity, other._refusal = self.scope, self._identity, self._refusal
        return other

    def in_child(self) -> SqliteBackend:
        """Return the same for a child process.

        SQLite's library keeps in memory which files a process has open and locked, and a child would take its parent's
        locks for its own. A connection that is at rest can be closed in the child, which then has none: that touches no
        lock of the parent's, and deletes no log, since the parent's lock forbids it. One that is in use cannot: its
        child does without the file.
        """
        other = self.anew()
        if self._is_busy:
            other._refusal = "its file was in use when the process was forked"
        elif self._file is not None:
            _inherited.append(self._file)
        if self._identity is None:
            other.scope = uuid.uuid4().hex
        return other

    @contextmanager
    def _busy(self) -> Iterator[None]:
        self._is_busy = True
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise fault_of(error, self.path) from error
        finally:
            self._is_busy = False

    def _read(self, file: File, ask: Lookup) -> Any:
        return file.read([hashed(key) for key in ask.keys])

    def _written(self, file: File, asks: Sequence[Ask]) -> list[Any]:
        if not asks:
            return []
        try:
            if len(asks) == 1:  # one statement is a transaction, by a third of the steps
                return [self._write(file, asks[0])]
            with file.transaction():
                return [self._write(file, ask) for ask in asks]
        except (sqlite3.Error, OSError) as error:
            fault = fault_of(error, self.path)
            if isinstance(fault, StoreDown):
                raise
            return [fault] * len(asks)

    def _write(self, file: File, ask: Ask) -> Any:
        if isinstance(ask, Put):
            return file.write(rows_of(ask.entries), self._ttl)
        if isinstance(ask, Claim):
            return file.claim(hashed(ask.key, b"claim"), ask.token, self._ttl)
        assert isinstance(ask, Withdraw)
        return file.withdraw(hashed(ask.key, b"claim"), ask.token)

    def _current_file(self) -> File:
        if self._refusal:
            raise StoreDown(self._refusal)
        while _inherited:
            _inherited.pop().close()
        if self._file is not None and self._file.is_gone():
            # Closing it would delete the side files of the database that now has its name.
            forks.leave_to_parent(self._file)
            self._file = None
        if self._file is None:
            self._file = self._opened()
        return self._file

    def _opened(self) -> File:
        file = File.open(self.path, busy=BUSY, scope=self.scope)
        known, self._identity, self.scope = self._identity, file.identity, file.scope
        if known not in (None, file.identity):
            self._is_emptied = True
        return file


def fault_of(error: Exception, path: str) -> StoreDown | StoreRefused:
    """Return what SQLite or the file system says as a fault of the store."""
    text = str(error)
    kind = StoreRefused if any(word in text for word in _REFUSALS) else StoreDown
    return kind(f"{path}: {text}")
