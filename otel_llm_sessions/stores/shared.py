"""What a store shared by processes offers to the guard that stands in front of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.answer import Answer

DEFAULT_TTL = 30 * 24 * 3600.0
"""How long a session is remembered, in seconds: as long as the provider keeps responses."""

DEFAULT_TIME_LIMIT = 0.05
"""How long one operation on a store may take, in seconds."""

CONNECT_LIMIT = 2.0
"""How long making a connection may take, in seconds; no caller waits that long for it."""

MAX_SCOPE = 128
"""Characters of a scope that are taken: what a store holds is not trusted, and each derived id is made with it."""

Entry = tuple[str, SessionLink]


class StoreDown(Exception):
    """The store did not answer, or not in time."""


class StoreRefused(Exception):
    """The store answers, but does not take what it was given (it is full, or read-only)."""


class SharedStore(ABC):
    """A store outside of this process. Its operations raise `StoreDown` or `StoreRefused`, within the time limit."""

    scope: str
    waits = True
    on_emptied: Callable[[], None] | None = None
    """Called when the store turns out to have lost what it held (restarted without its data, file deleted)."""

    @abstractmethod
    def get_all(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """Return for each of ``keys``, in order, its link, or None where it is unknown; one round trip."""

    @abstractmethod
    def put_all(self, entries: Sequence[Entry]) -> None:
        """Remember each entry; one round trip."""

    @abstractmethod
    def claim(self, key: str, token: bytes | None = None) -> bool:
        """Return True to exactly one of all callers, in all processes, that ever claim ``key``.

        Args:
            key: what is claimed.
            token: what tells this claim from others, so that it can be made again or withdrawn; a new one by default.
        """

    @abstractmethod
    def close(self) -> None:
        """Release connections; the store is not used afterwards."""

    @abstractmethod
    async def aget_all(self, keys: Sequence[str]) -> list[SessionLink | None]:
        """As ``get_all``, for callers on an event loop."""

    @abstractmethod
    async def aput_all(self, entries: Sequence[Entry]) -> None:
        """As ``put_all``, for callers on an event loop."""

    @abstractmethod
    async def aclaim(self, key: str, token: bytes | None = None) -> bool:
        """As ``claim``, for callers on an event loop."""

    @abstractmethod
    def ask(self, keys: Sequence[str]) -> Answer[list[SessionLink | None]]:
        """As ``get_all``, beside the caller: never waits, and what it cannot do it says in the answer."""

    @abstractmethod
    def ask_claim(self, key: str, token: bytes) -> Answer[bool]:
        """As ``claim``, beside the caller."""

    @abstractmethod
    def withdraw(self, key: str, token: bytes) -> None:
        """Leave ``key`` to the next caller, if the claim with ``token`` is the one that got it."""

    def put(self, keys: Sequence[str], link: SessionLink) -> None:
        """Remember ``link`` under each of ``keys``."""
        self.put_all([(key, link) for key in keys])

    async def aput(self, keys: Sequence[str], link: SessionLink) -> None:
        """As ``put``, for callers on an event loop."""
        await self.aput_all([(key, link) for key in keys])
