"""What a store that processes share is asked, and what the keeper, which asks it, needs of the place where it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from otel_llm_sessions.sessions.link import SessionLink

DEFAULT_TTL = 30 * 24 * 3600.0
"""How long a session is remembered, in seconds: as long as the provider keeps responses."""

DEFAULT_TIME_LIMIT = 0.05
"""How long a caller waits for a store, in seconds."""

PATIENCE = 2.0
"""How long the keeper waits for a store beside all callers, in seconds; also for a connection."""

MAX_SCOPE = 128
"""Characters of a scope that are taken: what a store holds is not trusted, and each derived id is made with it."""

Entry = tuple[str, SessionLink]


class StoreDown(Exception):
    """The store did not answer, or not in time."""


class StoreRefused(Exception):
    """The store answers, but does not take what it was given (it is full, or read-only)."""


class Lookup(NamedTuple):
    """Asks for the link of each key; the outcome is a list with one answer per key, None where it is unknown."""

    keys: Sequence[str]


class Put(NamedTuple):
    """Asks to remember each entry, unless that would set its session back; the outcome is None."""

    entries: Sequence[Entry]


class Claim(NamedTuple):
    """Asks for a claim, which exactly one token gets, as often as it asks; the outcome says whether it is this one."""

    key: str
    token: bytes


class Withdraw(NamedTuple):
    """Asks to leave a claim to the next token, if it is this one's; the outcome is None."""

    key: str
    token: bytes


Ask = Lookup | Put | Claim | Withdraw


class Backend(ABC):
    """A place outside of this process, and the way there. Used by one thread at a time; opened by the first use."""

    name: str
    """What tells its keeper's thread from others."""

    scope: str
    """The same for all who share the place, once it has answered; random before."""

    keeps_limits = False
    """Whether ``serve`` can be told how long it may take: callers may then use the place in their own threads."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether what is asked now takes no longer than the way there and back."""

    @abstractmethod
    def serve(self, asks: Sequence[Ask], seconds: float | None = None) -> list[Any]:
        """Do all that is asked, in one round trip or transaction; return what each comes to.

        An outcome may be an exception: `StoreRefused`, or `StoreDown` where only a part of the place did not answer.

        Args:
            asks: what is asked.
            seconds: how long it may take, where ``keeps_limits``; else as long as the keeper waits.

        Raises:
            StoreDown: there was no answer (in time).
        """

    def was_emptied(self) -> bool:
        """Whether the place has lost what it held since this was asked last (restarted without data, file deleted)."""
        return False

    def is_untidy(self, *, is_busy: bool) -> bool:
        """Whether ``tidy`` has something to do, which can wait no longer if callers wait."""
        return False

    def tidy(self) -> None:
        """Do a small part of what keeps the place small and quick."""
        return

    @abstractmethod
    def close(self) -> None:
        """Release what is open; it is opened anew when it is used again."""

    @abstractmethod
    def anew(self) -> Backend:
        """Return the same place with nothing open, for threads of another kind."""

    @abstractmethod
    def in_child(self) -> Backend:
        """Return the same place for a child process. It leaves what is open to the parent, and waits for nothing."""
