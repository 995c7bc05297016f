"""Which session a call belongs to: pure decisions over evidence and what the store knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from typing import Final, TypeAlias

from otel_llm_sessions.cheap import value
from otel_llm_sessions.sessions.about import NOTHING_SAID, About
from otel_llm_sessions.sessions.keys import session_key
from otel_llm_sessions.sessions.link import SessionId, SessionLink, Source
from otel_llm_sessions.sessions.sources import Given

Tie: TypeAlias = tuple[Source, str, str, bool]
"""One thing in a request that an earlier call left behind (``tie_by``). A plain tuple, since most turns make one."""

SOURCE: Final = 0
KEY: Final = 1
FOLLOWING: Final = 2


def tie_by(source: Source, key: str, following: str = "", is_newest: bool = False) -> Tie:
    """Return what ties a request to an earlier call.

    Args:
        source: what ``llm_session.source`` says where it tells the session.
        key: the key under which the earlier call is remembered.
        following: the key under which this call is to be remembered, too, where the tie holds; empty if there is none.
        is_newest: whether the request ends with it: then this call is the first to be remembered by it, where nobody
            knows it.
    """
    return source, key, following, is_newest


@value
class Evidence:
    """What a request says about its session."""

    given: Given | None = None
    """A session named by the application or the provider (sources 1 to 6, and 12)."""
    ties: tuple[Tie, ...] = ()
    """What ties it to earlier calls, the strongest first."""
    previous_id: str | None = None
    """The ``previous_response_id`` of the request (for a retrieved response, its own id)."""
    previous_name: SessionId | None = None
    """What ``previous_id`` names a session if nobody knows it."""
    doubt: str = ""
    """The key that is known where the last of ``ties`` may be another conversation's; empty if there is none."""
    key: str = field(default="", compare=False)
    """What ``only_key`` returns, where it was known when the evidence was made; else empty."""


NOTHING_TOLD = Evidence()


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
    about: About = NOTHING_SAID
    """What the application has said of the session."""
    key: str = ""
    """The key under which the turn before is remembered, or would be if somebody knew it; empty if none ties to it."""
    leaves: tuple[str, ...] = ()
    """Keys under which the turn is to be remembered for what its request says."""

    def described(self, about: About = NOTHING_SAID) -> Resolution:
        """Return the same with what is said of the session: ``about``, else what the turn before has."""
        previous = self.previous
        if previous is not None and previous.session_id == self.session_id:
            about = about.over(previous.about)
        return replace(self, about=about) if about != NOTHING_SAID else self


NOTHING_FOUND: Final = (None, None)
"""The strongest of no ties, and what is known by it."""

NEW = Resolution(None, "new", "new", 1, None, None)
NONE = Resolution(None, None, None, 1, None, None)


def lookup_keys(evidence: Evidence) -> list[str]:
    """Return the keys to look up: of each tie, of a given session, of the doubt; one round trip for all."""
    given, ties = evidence.given, evidence.ties
    if not ties:
        return [] if given is None else [session_key(given.session_id)]
    keys = [tie[KEY] for tie in ties]
    if given is not None:
        keys.append(session_key(given.session_id))
    if evidence.doubt:
        keys.append(evidence.doubt)
    return keys


def only_key(evidence: Evidence) -> str:
    """Return the one key of ``lookup_keys``; an empty string where there are none, or several."""
    given, ties = evidence.given, evidence.ties
    if not ties:
        return "" if given is None else session_key(given.session_id)
    return ties[0][KEY] if given is None and len(ties) == 1 and not evidence.doubt else ""


def leaves_of(evidence: Evidence) -> list[str]:
    """Return the keys under which a call may be remembered for what its request says, before its session is known."""
    keys = [] if evidence.given is None else [session_key(evidence.given.session_id)]
    for _, key, following, is_newest in evidence.ties:
        if following:
            keys.append(following)
        if is_newest:
            keys.append(key)
    return keys


def is_unsure(resolution: Resolution) -> bool:
    """Whether others could know more: the chain's beginning is not known here."""
    return resolution.origin == "chain_partial"


def resolve(evidence: Evidence, answers: Sequence[SessionLink | None], starts_session: bool) -> Resolution:
    """Decide the session of a call; the first source that answers wins.

    Args:
        evidence: what the request says.
        answers: what is known under each of its ``lookup_keys``.
        starts_session: whether a call without any evidence starts a session of its own.
    """
    if evidence.doubt and answers:
        answers = _cleared(evidence, answers)
    ties = evidence.ties
    tie, found = NOTHING_FOUND
    if ties and answers:
        tie, found = ties[0], answers[0]
        if found is None:  # seldom
            tie, found = _strongest(ties, answers)
    leaves = _leaves(ties, answers, tie) if ties and ties[-1][SOURCE] != "chain" else ()
    if evidence.given is not None and (found is None or evidence.given.source != "baggage"):
        return _given(evidence.given, tie, found, answers, leaves)
    if tie is not None and found is not None:
        session_id, origin, turn = found.session_id, found.source, found.turn + 1
        other = _other(session_id, answers) if len(answers) > 1 else None
        return Resolution(session_id, tie[SOURCE], origin, turn, found, other, NOTHING_SAID, tie[KEY], leaves)
    if evidence.previous_name is not None:
        # Nobody knows the previous response; it names the session, of which it is the one turn known of.
        name, key = evidence.previous_name, ties[0][KEY]
        return Resolution(name, "chain_partial", "chain_partial", 2, None, None, NOTHING_SAID, key, leaves)
    alone = NEW if starts_session else NONE
    return replace(alone, leaves=leaves) if leaves else alone


def _cleared(evidence: Evidence, answers: Sequence[SessionLink | None]) -> Sequence[SessionLink | None]:
    """Return the answers but that to the doubt; where there is one, the last tie's counts for nothing."""
    *others, doubt = answers
    return others if doubt is None else doubted(evidence, others)


def doubted(evidence: Evidence, answers: Sequence[SessionLink | None]) -> list[SessionLink | None]:
    """Return the answers as they are where nobody can say whose turn the last tie leads to."""
    last = len(evidence.ties) - 1
    return [*answers[:last], None, *answers[last + 1 :]] if evidence.doubt else [*answers]


def _strongest(
    ties: Sequence[Tie], answers: Sequence[SessionLink | None]
) -> tuple[Tie, SessionLink] | tuple[None, None]:
    """Return the first tie that somebody knows, and what is known."""
    for position, tie in enumerate(ties):
        found = answers[position]
        if found is not None:
            return tie, found
    return NOTHING_FOUND


def _leaves(ties: Sequence[Tie], answers: Sequence[SessionLink | None], strongest: Tie | None) -> tuple[str, ...]:
    """Return the keys under which a turn is remembered for what its request echoes."""
    keys = [strongest[FOLLOWING]] if strongest is not None and strongest[FOLLOWING] else []
    for (_, key, following, is_newest), found in zip(ties, answers, strict=False):
        if is_newest and found is None:
            keys += [key, following] if following else [key]
    return tuple(dict.fromkeys(keys))


def _other(session_id: str, answers: Sequence[SessionLink | None]) -> SessionLink | None:
    """Return the first turn of another session that the evidence names."""
    return next((link for link in answers if link is not None and link.session_id != session_id), None)


def resolve_looked_up(previous: SessionLink, *, complete: bool) -> Resolution:
    """Decide the session of a call whose ``previous_response_id`` was looked up at the provider.

    Args:
        previous: the turn before the call, as the provider tells of it.
        complete: whether the session is known for certain, or named by the oldest response that is still known of.
    """
    source: Source = "provider" if complete else "chain_partial"
    return Resolution(previous.session_id, source, previous.source, previous.turn + 1, previous, None)


def _given(
    given: Given,
    tie: Tie | None,
    found: SessionLink | None,
    answers: Sequence[SessionLink | None],
    leaves: tuple[str, ...],
) -> Resolution:
    """Go on from the response before if it is of the session, else from the session's own newest turn."""
    session_id, source = given.session_id, given.source
    own = answers[-1] if answers else None
    previous = own or found
    if found is not None and found.session_id == session_id and own is not None:
        # What is echoed may be of an older turn than the one before: the session itself knows better.
        previous = found if tie is not None and (tie[SOURCE] == "chain" or found.turn > own.turn) else own
    other = _other(session_id, answers) if found is not None else None
    turn = previous.turn + 1 if previous is not None else 1
    key = tie[KEY] if tie is not None else ""
    return Resolution(session_id, source, source, turn, previous, other, NOTHING_SAID, key, leaves)
