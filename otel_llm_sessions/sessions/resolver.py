"""Which session a call belongs to: pure decisions over evidence and what the store knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from otel_llm_sessions.cheap import value
from otel_llm_sessions.sessions.keys import session_key
from otel_llm_sessions.sessions.link import SessionId, SessionLink, Source
from otel_llm_sessions.sessions.sources import Given


class Evidence(NamedTuple):
    """What a request says about its session."""

    given: Given | None
    """A session named by the application or the provider."""
    previous_id: str | None
    """The ``previous_response_id`` of the request (for a retrieved response, its own id)."""
    previous_key: str | None
    """The evidence key of ``previous_id``."""
    previous_name: SessionId | None = None
    """What ``previous_id`` names a session if nobody knows it."""


@value
class Resolution:
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
    name: str = ""
    """The session's name; empty if the application gave it none."""

    def named(self, name: str) -> Resolution:
        """Return the same with the session's name: ``name``, or where that is empty what the turn before has."""
        previous = self.previous
        if not name and previous is not None and previous.session_id == self.session_id:
            name = previous.name
        return replace(self, name=name) if name else self


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


def resolve(evidence: Evidence, answers: Sequence[SessionLink | None], starts_session: bool) -> Resolution:
    """Decide the session of a call; the first source that answers wins.

    Args:
        evidence: what the request says.
        answers: what is known under each of its ``lookup_keys``.
        starts_session: whether a call without any evidence starts a session of its own.
    """
    found = answers[0] if evidence.previous_key and answers else None
    if evidence.given is not None:
        return _given(evidence.given, found, answers[-1] if answers else None)
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
    """Go on from the turn of the previous response if it is of the session, else from the session's own newest."""
    session_id, source = given
    is_of_session = found is not None and found.session_id == session_id
    previous = found if is_of_session else own or found
    other = None if is_of_session else found
    turn = previous.turn + 1 if previous is not None else 1
    return Resolution(session_id, source, source, turn, previous, other)
