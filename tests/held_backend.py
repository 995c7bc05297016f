"""A place of a shared store that answers when a test says so, and in the order in which it was asked."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

from fake_backend import FakeBackend

from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.shared import Ask


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


class LateBackend(HeldBackend):
    """Takes its time, now more and now less."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def serve(self, asks: Sequence[Ask], seconds: float | None = None) -> list[Any]:
        time.sleep(self._random.choice((0.0, 0.01, 0.07, 0.15)))
        return super().serve(asks, seconds)
