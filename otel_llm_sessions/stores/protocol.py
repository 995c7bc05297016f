"""The protocol of a session store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from otel_llm_sessions.sessions.link import SessionLink

_NEEDED = ("scope", "get_all", "put", "claim", "close", "aget_all", "aput", "aclaim")


def lacks(store: object) -> list[str]:
    """Return what an object lacks to be a store; ``waits`` it may leave out."""
    return [name for name in _NEEDED if not hasattr(store, name)]


@runtime_checkable
class SessionStore(Protocol):
    """Maps evidence keys to the newest turn that left them.

    Implementations are thread-safe and fork-safe, hold ids, times, counts, digests and names only, and bound what they
    keep. The ``a`` variants are for callers on an event loop and never block it. Example::

        OpenAISessionsInstrumentor().instrument(store=my_store)
    """

    @property
    def scope(self) -> str:
        """The same for all who share the store; random for a store of one process."""
        ...

    waits: bool
    """Whether an answer may take longer than a look into memory; a store that does not say so may."""

    def get_all(self, keys: Sequence[str]) -> Sequence[SessionLink | None]:
        """Return for each of ``keys``, in order, its link, or None where it is unknown."""
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

    async def aget_all(self, keys: Sequence[str]) -> Sequence[SessionLink | None]:
        """As ``get_all``, for callers on an event loop."""
        ...

    async def aput(self, keys: Sequence[str], link: SessionLink) -> None:
        """As ``put``, for callers on an event loop."""
        ...

    async def aclaim(self, key: str) -> bool:
        """As ``claim``, for callers on an event loop."""
        ...
