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

from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.memory import DEFAULT_MAX_KEYS, MemoryStore
from otel_llm_sessions.stores.recovery import Recovery, Rests, is_newer
from otel_llm_sessions.stores.shared import SharedStore

DEFAULT_REST = 30.0
"""How long a store that keeps failing is left alone, in seconds."""

FIRST_REST = 0.02
"""How long a store that was well is left alone, in seconds: most failures are hiccups. Each further rest is longer."""

MUTABLE_PREFIXES = ("s:", "c:")
"""Keys of sessions and conversations point to another turn after each turn; all others never change."""


class GuardedStore:
    """A shared store that never raises and never keeps a caller longer than the store's own time limit.

    While the store is down this process goes on from what it knows itself: sessions that it has met keep their ids and
    turns, and what it records is written when the store is back. ``claim`` then answers for this process alone, so that
    a session that two processes open at that time gets two root spans.
    """

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

    @scope.setter
    def scope(self, scope: str) -> None:
        self._inner.scope = scope

    def get(self, keys: Sequence[str]) -> SessionLink | None:
        """Return the link of the first of ``keys``, in order, that is known."""
        settled = self._settled(keys)
        if settled is not None or not self._recovery.readable:
            return settled or self._remembered(keys)
        try:
            return self._merged(keys, self._inner.get_all(keys))
        except Exception as fault:
            self._recovery.failed("ask", fault)
            return self._remembered(keys)

    def put(self, keys: Sequence[str], link: SessionLink) -> None:
        """Remember ``link`` under each of ``keys``."""
        self._known.put(keys, link)
        if not self._recovery.writable:
            return self._recovery.keep(keys, link)
        try:
            self._inner.put(keys, link)
        except Exception as fault:
            self._recovery.failed("write to", fault)
            self._recovery.keep(keys, link)

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
        try:
            return self._inner.claim(key, self._recovery.token_of(key))
        except Exception as fault:
            self._recovery.failed("write to", fault)
            return self._recovery.keep_claim(key)

    async def aget(self, keys: Sequence[str]) -> SessionLink | None:
        """As ``get``, for callers on an event loop."""
        settled = self._settled(keys)
        if settled is not None or not self._recovery.readable:
            return settled or self._remembered(keys)
        if not _on_asyncio():
            return self.get(keys)
        try:
            return self._merged(keys, await self._inner.aget_all(keys))
        except Exception as fault:
            self._recovery.failed("ask", fault)
            return self._remembered(keys)

    async def aput(self, keys: Sequence[str], link: SessionLink) -> None:
        """As ``put``, for callers on an event loop; what a cancelled caller recorded is written all the same."""
        if not self._recovery.writable or not _on_asyncio():
            return self.put(keys, link)
        self._known.put(keys, link)
        try:
            await self._inner.aput(keys, link)
        except Exception as fault:
            self._recovery.failed("write to", fault)
            self._recovery.keep(keys, link)
        except BaseException:
            self._recovery.keep(keys, link)
            self._recovery.begin()
            raise

    async def aclaim(self, key: str) -> bool:
        """As ``claim``, for callers on an event loop."""
        if not self._recovery.writable or not _on_asyncio():
            return self.claim(key)
        if not self._known.claim(key):
            return False
        token = self._recovery.token_of(key)
        try:
            return await self._inner.aclaim(key, token)
        except Exception as fault:
            self._recovery.failed("write to", fault)
            return self._recovery.keep_claim(key)
        except BaseException:
            # Who is cancelled opens nothing; the store may have the claim already, and nobody else would get it.
            self._known.withdraw(key)
            self._recovery.withdraw(key, token)
            raise

    def close(self) -> None:
        """Write what waits, if the store takes it now, and release connections."""
        self._recovery.close()
        self._inner.close()

    def _settled(self, keys: Sequence[str]) -> SessionLink | None:
        """Return the link of the first key if it is known here and can no longer change anywhere."""
        if not keys or keys[0].startswith(MUTABLE_PREFIXES):
            return None
        link = self._remembered(keys[:1])
        return link if link is not None and link.end and link.source != "chain_partial" else None

    def _remembered(self, keys: Sequence[str]) -> SessionLink | None:
        link = self._known.get(keys)
        return None if link is None or self._is_expired(link) else link

    def _is_expired(self, link: SessionLink) -> bool:
        return self._ttl_ns is not None and time.time_ns() - (link.end or link.start) > self._ttl_ns

    def _merged(self, keys: Sequence[str], found: Sequence[SessionLink | None]) -> SessionLink | None:
        """Return the first link that is known, there or here, and remember what was found."""
        first = None
        for key, link in zip(keys, found, strict=True):
            known = _newest(self._recovery.unwritten(key), self._remembered((key,)))
            if link is None:
                link = known
            elif known is None or not is_newer(known, link):
                self._known.put((key,), link)
            else:
                # A write of an earlier turn, whose caller was cancelled, came in last: the later one is told again.
                link = known
                self._recovery.keep((key,), known)
            first = first or link
        return first


def _newest(one: SessionLink | None, other: SessionLink | None) -> SessionLink | None:
    if one is None or other is None:
        return one or other
    return one if is_newer(one, other) else other


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
