"""What arrives, on its way into the database: one bounded queue, one thread that writes."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from otel_llm_sessions.view.database import Database, Request

logger = logging.getLogger(__name__)

MOST_BYTES: Final = 128 * 1024 * 1024
"""Bytes of requests that are held at once, from the first that is read to the last that is written."""
AT_ONCE: Final = 8 * 1024 * 1024
"""Bytes that one transaction writes, roughly."""
IDLE: Final = 0.2
"""Seconds after which rows are looked after when nothing arrives, and for which they are."""
BUSY: Final = 0.02
"""Seconds that rows get between two transactions where more waits to be written: who sends it waits for the answer."""
RETRY_AFTER: Final = 1
"""Seconds after which a sender may try again."""


class Full(Exception):
    """There is no room for more now; it may be sent again."""


class Unwritable(Exception):
    """The database cannot be written to now (a full disk, a lock); it may be sent again."""


class Room:
    """How many bytes of requests may be held. Thread-safe."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._lock = threading.Lock()
        self._free = most

    def take(self, size: int) -> None:
        """Take room for some bytes.

        Raises:
            Full: there is not so much.
        """
        with self._lock:
            if size > self._free:
                raise Full
            self._free -= size

    def give(self, size: int) -> None:
        """Give room back."""
        with self._lock:
            self._free += size

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Take room for some bytes while the block runs; raises as :meth:`take`."""
        self.take(size)
        try:
            yield
        finally:
            self.give(size)


@dataclass(slots=True)
class _Waiting:
    request: Request
    size: int
    written: Future[bool] = field(default_factory=Future)


class Intake:
    """Writes requests into a database, in a thread of its own, many in one transaction.

    Example:
        >>> with Intake(database) as intake:
        ...     intake.put(request, size).result()

    Args:
        database: where they are kept.
        room: how many bytes may be held.
    """

    def __init__(self, database: Database, room: Room | None = None) -> None:
        self.room = room or Room()
        self._database = database
        self._waiting: deque[_Waiting] = deque()
        self._news = threading.Condition()
        self._is_open = True
        self._told: set[type[Exception]] = set()
        self._thread = threading.Thread(target=self._run, name="otel-llm-sessions-intake", daemon=True)

    def put(self, request: Request, size: int) -> Future[bool]:
        """Have a request written.

        Args:
            request: what is to be written.
            size: its bytes, for which room is taken until it is written.

        Returns:
            Whether it was taken, once it is committed: false if it holds something that cannot be kept, now or later.
            Raises :class:`Unwritable` if it may be sent again.

        Raises:
            Full: there is no room for it now.
        """
        self.room.take(size)
        waiting = _Waiting(request, size)
        with self._news:
            if not self._is_open:
                self.room.give(size)
                raise Full
            self._waiting.append(waiting)
            self._news.notify()
        return waiting.written

    def start(self) -> Intake:
        """Begin to write; returns the intake itself."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Write what waits, then end. Calling it again does nothing."""
        with self._news:
            self._is_open = False
            self._news.notify()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> Intake:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        has_more = True
        while (some := self._next(0.0 if has_more else IDLE)) is not None:
            if some:
                self._write(some)
            has_more = self._tend()

    def _next(self, seconds: float) -> list[_Waiting] | None:
        """What is to be written next; None when all is written and the intake is closed."""
        with self._news:
            if not self._waiting and self._is_open and seconds:
                self._news.wait(seconds)
            some: list[_Waiting] = []
            size = 0
            while self._waiting and size < AT_ONCE:
                some.append(self._waiting.popleft())
                size += some[-1].size
            return some if some or self._is_open else None

    def _tend(self) -> bool:
        try:
            begun = time.monotonic()
            return self._database.tend(lambda: time.monotonic() - begun > (BUSY if self._waiting else IDLE))
        except sqlite3.Error:  # told to who sends next
            pass
        except Exception as error:  # what arrives is written all the same
            if type(error) not in self._told:
                self._told.add(type(error))
                logger.warning("rows of lists are not brought up to date: %s", type(error).__name__)
        time.sleep(IDLE)
        return False

    def _write(self, some: Sequence[_Waiting]) -> None:
        try:
            self._database.keep([each.request for each in some])
        except sqlite3.OperationalError as error:
            self._done(some, Unwritable(str(error)))
        except Exception as error:
            if len(some) == 1:
                self._done(some, error)
            else:  # one of them: the others are not to suffer for it
                for each in some:
                    self._write([each])
        else:
            self._done(some, None)

    def _done(self, some: Sequence[_Waiting], error: Exception | None) -> None:
        for each in some:
            self.room.give(each.size)
            if not each.written.set_running_or_notify_cancel():  # who sent it waits no more: it is written all the same
                continue
            if isinstance(error, Unwritable):
                each.written.set_exception(error)
            else:
                each.written.set_result(error is None)
