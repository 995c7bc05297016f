"""A lock for tests of what threads do at the same time."""

from __future__ import annotations

import threading


class AnnouncedLock:
    """A reentrant lock that tells when a thread is about to take it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._wanted = threading.Semaphore(0)
        self.held = self  # as the package's locks have it

    def __enter__(self) -> None:
        self._wanted.release()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait_for(self, threads: int) -> None:
        """Return when so many have come to take it, since the last time."""
        for _ in range(threads):
            assert self._wanted.acquire(timeout=10)
