"""Which session a call belongs to: pure decisions over evidence and what the store knows."""

from __future__ import annotations

from typing import NamedTuple

from otel_llm_sessions.sessions.keys import session_key
from otel_llm_sessions.sessions.link import SessionId, SessionLink, Source
from otel_llm_sessions.sessions.sources import Given


class Evidence(NamedTuple):
    """What a request says about its session."""

    given: Given | None
    """A session named by the application or the provider (sources 1 to 5)."""
    previous_id: str | None
    """The ``previous_response_id`` of the request (for a retrieved response, its own id)."""
    previous_key: str | None
    """The evidence key of ``previous_id``."""
    previous_name: SessionId | None = None
    """What ``previous_id`` names a session if nobody knows it."""


class Resolution(NamedTuple):
    """The session of a call and its place in it."""

    session_id: SessionId | None
    """None for a call that starts a session named by its own response id, or belongs to none."""
    source: Source | None
    origin: Source | None
    """How the session got its name; differs from ``source`` when a chain inherits a given id."""
    turn: int
    previous: SessionLink | None
    """The turn before this one."""
    other: SessionLink | None
    """The newest known turn of another session that the evidence names too."""


NEW = Resolution(None, "new", "new", 1, None, None)
NONE = Resolution(None, None, None, 1, None, None)


def lookup_keys(evidence: Evidence) -> tuple[str, ...]:
    """Return the keys to look up, in order; one round trip for all."""
    given, previous_key = evidence.given, evidence.previous_key
    if given is None:
        return (previous_key,) if previous_key else ()
    key = session_key(given.session_id)
    return (previous_key, key) if previous_key else (key,)


def is_unsure(found: SessionLink | None) -> bool:
    """Whether the provider could know more: nobody knows the previous response, or only where knowledge of it ends."""
    return found is None or found.source == "chain_partial"


def second_key(evidence: Evidence, found: SessionLink | None) -> str | None:
    """Return the key of the given session's own newest turn when the first look-up found another session."""
    if evidence.given is None or found is None or found.session_id == evidence.given.session_id:
        return None
    return session_key(evidence.given.session_id)


def resolve(evidence: Evidence, found: SessionLink | None, own: SessionLink | None, starts_session: bool) -> Resolution:
    """Decide the session of a call; the first source that answers wins.

    Args:
        evidence: what the request says.
        found: the link that ``lookup_keys`` led to.
        own: the link that ``second_key`` led to.
        starts_session: whether a call without any evidence starts a session of its own.
    """
    if evidence.given is not None:
        return _given(evidence.given, found, own)
    if found is not None:
        return Resolution(found.session_id, "chain", found.source, found.turn + 1, found, None)
    if evidence.previous_name is not None:
        # Nobody knows the previous response; it names the session, of which it is the one turn known of.
        return Resolution(evidence.previous_name, "chain_partial", "chain_partial", 2, None, None)
    return NEW if starts_session else NONE


def resolve_looked_up(previous: SessionLink, *, complete: bool) -> Resolution:
    """Decide the session of a call whose ``previous_response_id`` was looked up at the provider.

    Args:
        previous: the turn before the call, as the provider tells of it.
        complete: whether the session is known for certain, or named by the oldest response that is still known of.
    """
    source: Source = "provider" if complete else "chain_partial"
    return Resolution(previous.session_id, source, previous.source, previous.turn + 1, previous, None)


def _given(given: Given, found: SessionLink | None, own: SessionLink | None) -> Resolution:
    session_id, source = given
    if found is None:
        return Resolution(session_id, source, source, 1, None, None)
    if found.session_id == session_id:
        return Resolution(session_id, source, source, found.turn + 1, found, None)
    previous = own or found
    return Resolution(session_id, source, source, previous.turn + 1, previous, found)
