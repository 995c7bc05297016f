"""Stands in front of a shared store, so that one that is slow or down neither breaks nor holds up a call.

Three parts: a cache that answers alone what cannot have changed, and everything while the store rests; a breaker that
keeps callers away from a store that failed; a backlog of what was not written, which a thread of its own writes when
the store is back. No call of the application ever waits for a store that is known to be down.
"""

from __future__ import annotations

import asyncio
import atexit
import time
import weakref
from collections.abc import Sequence

from otel_llm_sessions.guard import is_applications
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.answer import Answer
from otel_llm_sessions.stores.memory import DEFAULT_MAX_KEYS, MemoryStore
from otel_llm_sessions.stores.newest import is_mutable, is_newer, may_be_given_again
from otel_llm_sessions.stores.recovery import Recovery, Rests
from otel_llm_sessions.stores.shared import SharedStore

DEFAULT_REST = 30.0
"""How long a store that keeps failing is left alone, in seconds."""

FIRST_REST = 0.02
"""How long a store that was well is left alone, in seconds: most failures are hiccups. Each further rest is longer."""


class GuardedStore:
    """A shared store that never raises and never keeps a caller longer than the store's own time limit.

    While the store is down this process goes on from what it knows itself: sessions that it has met keep their ids and
    turns, and what it records is written when the store is back. ``claim`` then answers for this process alone, so that
    a session that two processes open at that time gets two root spans.
    """

    waits = True

    def __init__(
        self,
        inner: SharedStore,
        *,
        max_keys: int = DEFAULT_MAX_KEYS,
        ttl: float | None = None,
        rest: float = DEFAULT_REST,
        first_rest: float = FIRST_REST,
    ) -> None:
        """Put a guard before ``inner``.

        Args:
            inner: the store.
            max_keys: how many keys this process remembers.
            ttl: for how many seconds it remembers them.
            rest: how long a store that keeps failing is left alone, in seconds.
            first_rest: how long after its first failure.
        """
        self._inner = inner
        self._ttl_ns = None if ttl is None else round(ttl * 1e9)
        self._known = MemoryStore(max_keys)
        self._recovery = Recovery(inner, self._known, max_keys, Rests(first_rest, rest))
        inner.on_emptied = self._recovery.refill
        _close_at_exit(self)

    @property
    def scope(self) -> str:
        """The same for all who share the store, once the store has answered; random before."""
        return self._inner.scope

    def get_all(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """Return for each of ``keys``, in order, its link, or None where it is unknown."""
        known, open_keys = self._known_of(keys)
        if open_keys and self._recovery.readable:
            try:
                self._merge(known, open_keys, self._inner.get_all(open_keys))
            except Exception as fault:
                self._recovery.failed(fault)
        return [known[key] for key in keys]

    def put(self, keys: Sequence[str], link: SessionLink) -> None:
        """Remember ``link`` under each of ``keys``."""
        self._known.put(keys, link)
        if not self._recovery.writable:
            return self._recovery.keep(keys, link)
        try:
            self._inner.put(keys, link)
        except BaseException as fault:
            self._not_written(keys, link, fault)

    def ask(self, keys: Sequence[str]) -> Answer[list[SessionLink | None]]:
        """Ask for the links of ``keys``, one per key in order, None where it is unknown. Never waits, never raises.

        The answer is there at once where this process knows what cannot have changed, and where the store is left
        alone; else it comes from the store, on the keeper's thread. ``is_known`` is False where the store was not asked
        or failed: the links are then what this process knows. Who waits no longer cancels nothing; what comes late is
        remembered here.
        """
        known, open_keys = self._known_of(keys)
        if not (open_keys and self._recovery.readable):
            return Answer.of([known[key] for key in keys], is_known=not open_keys)
        return self._inner.ask(open_keys).then(lambda found: self._found(keys, known, open_keys, found))

    def ask_claim(self, key: str) -> Answer[bool]:
        """Ask for a claim: the answer is True to exactly one of all callers. Never waits, never raises.

        ``is_known`` is False where the store was not asked or failed: it is then an answer for this process alone. A
        claim whose caller is cancelled or interrupted while it waits is withdrawn, so that the next caller gets it; one
        whose caller merely waits no longer is not, and who is given it late has it.
        """
        if not self._known.claim(key):
            return Answer.of(False)
        if not self._recovery.writable:
            return Answer.of(self._recovery.keep_claim(key), is_known=False)
        token = self._recovery.token_of(key)
        withdrawn: list[bool] = []

        def withdraw() -> None:
            withdrawn.append(True)
            self._withdraw(key, token)

        def got(answer: Answer[bool]) -> bool:
            try:
                return answer.result()
            except Exception as fault:
                self._recovery.failed(fault)
                return not withdrawn and self._recovery.keep_claim(key)

        return self._inner.ask_claim(key, token).then(got, withdraw)

    def put_soon(self, keys: Sequence[str], link: SessionLink) -> None:
        """As ``put``, from where nothing may wait (a garbage collector, a cancelled task): another thread writes it."""
        self._known.put(keys, link)
        self._recovery.keep(keys, link)

    def claim(self, key: str) -> bool:
        """Return True to exactly one of all callers that claim ``key``; of this process's while the store is down."""
        if not self._known.claim(key):
            return False
        if not self._recovery.writable:
            return self._recovery.keep_claim(key)
        token = self._recovery.token_of(key)
        try:
            return self._inner.claim(key, token)
        except BaseException as fault:
            return self._not_claimed(key, token, fault)

    async def aget_all(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """As ``get_all``, for callers on an event loop."""
        if not _on_asyncio():
            return self.get_all(keys)
        known, open_keys = self._known_of(keys)
        if open_keys and self._recovery.readable:
            try:
                self._merge(known, open_keys, await self._inner.aget_all(open_keys))
            except Exception as fault:
                self._recovery.failed(fault)
        return [known[key] for key in keys]

    async def aput(self, keys: Sequence[str], link: SessionLink) -> None:
        """As ``put``, for callers on an event loop; what a cancelled caller recorded is written all the same."""
        if not self._recovery.writable or not _on_asyncio():
            return self.put(keys, link)
        self._known.put(keys, link)
        try:
            await self._inner.aput(keys, link)
        except BaseException as fault:
            self._not_written(keys, link, fault)

    async def aclaim(self, key: str) -> bool:
        """As ``claim``, for callers on an event loop."""
        if not self._recovery.writable or not _on_asyncio():
            return self.claim(key)
        if not self._known.claim(key):
            return False
        token = self._recovery.token_of(key)
        try:
            return await self._inner.aclaim(key, token)
        except BaseException as fault:
            return self._not_claimed(key, token, fault)

    def close(self) -> None:
        """Write what waits, if the store takes it now, and release connections."""
        self._recovery.close()
        self._inner.close()

    def _not_written(self, keys: Sequence[str], link: SessionLink, fault: BaseException) -> None:
        """Keep a turn for later; what is none of the store's failures (a cancellation, a time limit) goes on."""
        if is_applications(fault):
            self._recovery.keep(keys, link)
            raise fault
        self._recovery.failed(fault)
        self._recovery.keep(keys, link)

    def _not_claimed(self, key: str, token: bytes, fault: BaseException) -> bool:
        """As ``_not_written``, for a claim; returns the answer to who made it."""
        if is_applications(fault):
            self._withdraw(key, token)
            raise fault
        self._recovery.failed(fault)
        return self._recovery.keep_claim(key)

    def _withdraw(self, key: str, token: bytes) -> None:
        # Who is interrupted opens nothing; the store may have the claim already, and nobody else would get it.
        self._known.withdraw(key)
        self._recovery.withdraw(key, token)

    def _found(
        self,
        keys: Sequence[str],
        known: dict[str, SessionLink | None],
        open_keys: Sequence[str],
        found: Answer[list[SessionLink | None]],
    ) -> list[SessionLink | None]:
        """Return what the store answered, or what is known without it if it failed."""
        try:
            self._merge(known, open_keys, found.result())
        except Exception as fault:
            self._recovery.failed(fault)
        return [known[key] for key in keys]

    def _known_of(self, keys: Sequence[str]) -> tuple[dict[str, SessionLink | None], list[str]]:
        """Return what this process knows, and of which keys the store may know better."""
        found = self._known.get_all(keys)
        known = dict(zip(keys, map(self._unless_expired, found), strict=True))
        return known, [key for key, link in known.items() if not _is_settled(key, link)]

    def _unless_expired(self, link: SessionLink | None) -> SessionLink | None:
        if link is None or self._ttl_ns is None:
            return link
        return link if time.time_ns() - (link.end or link.start) <= self._ttl_ns else None

    def _merge(
        self, known: dict[str, SessionLink | None], keys: Sequence[str], found: Sequence[SessionLink | None]
    ) -> None:
        """Add what was found to what is known, and remember it."""
        for key, link in zip(keys, found, strict=True):
            mine = _newest(key, self._recovery.unwritten(key), known[key])
            if link is None:
                known[key] = mine
            elif mine is None or not is_newer(key, mine, link):
                known[key] = link
                self._known.put((key,), link)
            else:
                # A write of an earlier turn, whose caller was cancelled, came in last: the later one is told again.
                known[key] = mine
                self._recovery.keep((key,), mine)


def _is_settled(key: str, link: SessionLink | None) -> bool:
    """Whether what is known here can no longer change anywhere."""
    if link is None or not link.end or link.source == "chain_partial":
        return False
    return not is_mutable(key) and not may_be_given_again(key)


def _newest(key: str, one: SessionLink | None, other: SessionLink | None) -> SessionLink | None:
    if one is None or other is None:
        return one or other
    return one if is_newer(key, one, other) else other


def _on_asyncio() -> bool:
    """Whether the caller runs on asyncio; under trio the stores' own limits bound a blocking call."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _close_at_exit(store: GuardedStore) -> None:
    """Give what waits a last chance when the interpreter ends, without keeping the store alive until then."""
    living = weakref.ref(store)

    def close() -> None:
        remaining = living()
        if remaining is not None:
            remaining.close()

    atexit.register(close)
    weakref.finalize(store, atexit.unregister, close).atexit = False
