"""A place of a shared store that fails, and takes its time, as a test tells it; and notes who asks it what."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.shared import Ask, Backend, Claim, Lookup, Put, StoreDown


class FakeBackend(Backend):
    name, scope, keeps_limits = "fake", "shared", True

    def __init__(self) -> None:
        self.links: dict[str, SessionLink] = {}
        self.claims: dict[str, bytes] = {}
        self.down_keys: set[str] = set()
        self.asked: list[str] = []
        self.served: list[list[Ask]] = []
        self.threads: list[int] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.amid: Callable[[], object] | None = None
        self.read_fault: Exception | None = None
        self.write_fault: Exception | None = None
        self.most_at_once = self._at_once = 0
        self._fault_after: Exception | None = None
        self._emptied = self._is_open = False

    def fail(self, fault: Exception | None) -> None:
        self.read_fault = self.write_fault = fault

    def fail_after(self, fault: Exception) -> None:
        """Do what is asked next, but do not say so."""
        self._fault_after = fault

    def empty(self) -> None:
        self.links.clear()
        self._emptied = True

    @property
    def is_open(self) -> bool:
        return self._is_open

    def serve(self, asks: Sequence[Ask], seconds: float | None = None) -> list[Any]:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        self._is_open = True
        self.threads.append(threading.get_ident())
        self.served.append(list(asks))
        self.begun.set()
        try:
            amid, self.amid = self.amid, None
            if amid is not None:
                amid()
            if not self.go_on.wait(10 if seconds is None else seconds):
                raise StoreDown("late")
            outcomes = [self._outcome(ask) for ask in asks]
            fault, self._fault_after = self._fault_after, None
            if fault is not None:
                raise fault
            time.sleep(0)
            return outcomes
        finally:
            self._at_once -= 1

    def was_emptied(self) -> bool:
        emptied, self._emptied = self._emptied, False
        return emptied

    def close(self) -> None:
        self._is_open = False
        self.asked.append("close")

    def anew(self) -> FakeBackend:
        other = FakeBackend()
        other.links, other.claims = self.links, self.claims
        other.fail(self.read_fault)
        return other

    in_child = anew

    def _outcome(self, ask: Ask) -> Any:
        fault = self.read_fault if isinstance(ask, Lookup) else self.write_fault
        self.asked.append("get" if isinstance(ask, Lookup) else "put" if isinstance(ask, Put) else "claim")
        if isinstance(fault, StoreDown):
            raise fault
        if fault is not None:
            return fault
        if isinstance(ask, Lookup):
            return [self.links.get(key) for key in ask.keys]
        if isinstance(ask, Put):
            if self.down_keys & {key for key, _ in ask.entries}:
                return StoreDown("a part is down")
            return self.links.update(ask.entries)
        if isinstance(ask, Claim):
            return self.claims.setdefault(ask.key, ask.token) == ask.token
        if self.claims.get(ask.key) == ask.token:
            del self.claims[ask.key]
        return None
