"""The protocol of a session store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from otel_llm_sessions.sessions.link import SessionLink


@runtime_checkable
class SessionStore(Protocol):
    """Maps evidence keys to the newest turn that left them.

    Implementations are thread-safe and fork-safe, hold ids, times and counts only, and bound what they keep.
    The ``a`` variants are for callers on an event loop and never block it.
    """

    scope: str
    """The same for all who share the store; random for a store of one process."""

    def get(self, keys: Sequence[str]) -> SessionLink | None:
        """Return the link of the first of ``keys``, in order, that is known."""
        ...

    def put(self, keys: Sequence[str], link: SessionLink) -> None:
        """Remember ``link`` under each of ``keys``."""
        ...

    def claim(self, key: str) -> bool:
        """Return True to exactly one of all callers that ever claim ``key``."""
        ...

    def close(self) -> None:
        """Release connections; the store is not used afterwards."""
        ...

    async def aget(self, keys: Sequence[str]) -> SessionLink | None:
        """As ``get``, for callers on an event loop."""
        ...

    async def aput(self, keys: Sequence[str], link: SessionLink) -> None:
        """As ``put``, for callers on an event loop."""
        ...

    async def aclaim(self, key: str) -> bool:
        """As ``claim``, for callers on an event loop."""
        ...
