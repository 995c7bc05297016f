"""Telling those who wait that something has changed, across threads and event loops."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress


class Changes:
    """A number that rises with each change. Thread-safe.

    Example:
        >>> changes = Changes()
        >>> changes.changed()
        >>> changes.revision
        1
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._revision = 0
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def revision(self) -> int:
        """How many changes there were."""
        return self._revision

    def changed(self) -> None:
        """Tell everybody who waits; from any thread."""
        with self._lock:
            self._revision += 1
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            with suppress(RuntimeError):  # its loop is closed
                future.get_loop().call_soon_threadsafe(_wake, future)

    async def wait(self, after: int, timeout: float) -> int:
        """Wait for a change.

        Args:
            after: the revision that is known.
            timeout: how long at most, in seconds.

        Returns:
            The revision: greater than ``after`` if there was a change, else the same.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._revision != after:
                return self._revision
            self._waiting.add(future)
        try:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(future, timeout)
        finally:
            with self._lock:
                self._waiting.discard(future)
        return self._revision


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
