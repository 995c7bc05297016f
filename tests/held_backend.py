"""A place of a shared store that answers when a test says so, and in the order in which it was asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from fake_backend import FakeBackend

from otel_llm_sessions.stores.guarded import GuardedStore


class HeldBackend(FakeBackend):
    """Asked by the keeper's thread alone, so that callers go on without it."""

    keeps_limits = False

    @contextlib.contextmanager
    def held(self, store: GuardedStore) -> Iterator[None]:
        """Nothing that its store is asked is answered meanwhile; afterwards all is, at once."""
        self.go_on.clear()
        self.begun.clear()
        store.ask(["anything"])
        self.begun.wait()
        try:
            yield
        finally:
            self.go_on.set()
