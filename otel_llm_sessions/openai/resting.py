"""Who is not asked for a while, and for what: by server and key, so that no caller's failure is another's."""

from __future__ import annotations

import re
import time
from typing import Any, Final, Literal, NamedTuple

from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.openai.fields import mapping

REST: Final = 30.0
"""Seconds for which a provider that failed is not asked again, or not for a response that it failed to answer with."""

GONE: Final = 3600.0
"""Seconds for which a response is not asked for again that the provider does not have, or whose chain is too long."""

MAX_RESTING: Final = 1024
"""How many responses are remembered that are not asked for, and how many providers."""

TOO_MANY_REQUESTS: Final = 429
SERVER_ERRORS: Final = 500
NOT_FOUND: Final = 404

FOR_GOOD: Final = frozenset({400, NOT_FOUND, 410, 422})
"""The status of answers that will be the same next time."""

LOST_CONNECTIONS: Final = frozenset({"NetworkError", "ProtocolError", "ConnectTimeout", "ProxyError"})
"""httpx's errors of a connection (0.27 to httpx2 2.16); a read that takes too long is one answer's."""

PLAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,512}")
"""An id whose path every gateway that can retrieve a response can find the way by."""

Blame = Literal["nobody", "provider", "response"]


class Finding(NamedTuple):
    """What a failure says."""

    blame: Blame
    """Whom it concerns, under the key it was made with."""
    is_gone: bool = False
    """Whether it is the provider's word that it has no such response."""
    is_lasting: bool = False
    """Whether it would be the same next time."""


class Rest(NamedTuple):
    """Until when something is not asked for."""

    until: float
    is_gone: bool


class Resting:
    """What rests; takes no lock, so that it may be asked from anywhere."""

    def __init__(self) -> None:
        self._providers: Bounded[bytes, Rest] = Bounded(MAX_RESTING)
        self._responses: Bounded[tuple[bytes, str], Rest] = Bounded(MAX_RESTING)
        self._answering: Bounded[bytes, None] = Bounded(MAX_RESTING)

    def provider_rests(self, scope: bytes) -> bool:
        """Whether a provider is not to be asked for anything with a key."""
        return _is_on(self._providers.get(scope))

    def response_rests(self, scope: bytes, response_id: str) -> bool:
        """Whether a response is not to be asked for with a key."""
        return _is_on(self._responses.get((scope, response_id)))

    def is_gone(self, scope: bytes, response_id: str) -> bool:
        """Whether the provider has said that it has no such response for a key."""
        rest = self._responses.get((scope, response_id))
        return rest is not None and rest.is_gone and _is_on(rest)

    def answered(self, scope: bytes) -> None:
        """Note that a provider can retrieve responses with a key."""
        self._answering[scope] = None

    def can_retrieve(self, scope: bytes) -> bool:
        """Whether a provider has retrieved a response with a key before."""
        return scope in self._answering

    def let_provider_rest(self, scope: bytes) -> None:
        """Ask a provider for nothing more with a key, for a while."""
        self._providers[scope] = Rest(time.monotonic() + REST, False)

    def let_response_rest(self, scope: bytes, response_id: str, seconds: float, *, is_gone: bool = False) -> None:
        """Do not ask for a response with a key.

        Args:
            scope: server and key.
            response_id: the response.
            seconds: for how long.
            is_gone: whether the provider has said that it has no such response.
        """
        self._responses[scope, response_id] = Rest(time.monotonic() + seconds, is_gone)


def _is_on(rest: Rest | None) -> bool:
    return rest is not None and rest.until > time.monotonic()


def finding(error: Exception, asked: str, client: Any, *, can_retrieve: bool) -> Finding:
    """Return what a failure to retrieve a response says, and of whom.

    Args:
        error: the failure.
        asked: the id of the response.
        client: the client that asked.
        can_retrieve: whether the provider has retrieved a response before.
    """
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return Finding(_blame_for(error, client))
    if status == TOO_MANY_REQUESTS or status >= SERVER_ERRORS:
        return Finding("provider")
    if status != NOT_FOUND or _names(error, asked):
        return Finding("response", is_gone=status == NOT_FOUND, is_lasting=status in FOR_GOOD)
    # A gateway without this route. One that has it may not name what it does not find, nor find its way by odd ids.
    is_without_route = not can_retrieve and PLAIN.fullmatch(asked) is not None
    return Finding("provider") if is_without_route else Finding("response", is_lasting=True)


def _names(error: Exception, response_id: str) -> bool:
    return response_id in str(mapping(getattr(error, "body", None)).get("message") or error)


def _blame_for(error: Exception, client: Any) -> Blame:
    """Say whom an error concerns that is no answer."""
    cause = error.__cause__ or error
    # Says nothing about the provider: the client was closed meanwhile, or its pool is exhausted.
    if bool(client.is_closed()) or type(cause).__name__ == "PoolTimeout":
        return "nobody"
    kinds = {kind.__name__ for kind in type(cause).__mro__}
    if "TimeoutException" in kinds:
        return "provider" if "ConnectTimeout" in kinds else "response"
    names = {kind.__name__ for kind in type(error).__mro__}
    return "provider" if "APIConnectionError" in names or kinds & LOST_CONNECTIONS else "response"
