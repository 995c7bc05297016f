"""Which of two turns a key points to: the newest of a session, and what is known best of a response."""

from __future__ import annotations

from otel_llm_sessions.sessions.keys import ANNOUNCED_PREFIX, SCOPED_PREFIX
from otel_llm_sessions.sessions.link import SessionLink

MUTABLE_PREFIXES = ("s:", "c:")
"""Keys of sessions and conversations point to another turn after each turn; others to one turn for ever, unless a
server gives their id again."""

MUTABLE_KINDS = "sc"
"""What these begin with, and no other key: told in half the time."""


def is_mutable(key: str) -> bool:
    """Whether the key points to the newest turn of something."""
    return key[:2] in MUTABLE_PREFIXES  # told in half the time that `startswith` takes for two


def may_be_given_again(key: str) -> bool:
    """Whether the key is of an id that its server gives to another turn when it counts anew."""
    return key.startswith(SCOPED_PREFIX)


def goes_back(key: str, link: SessionLink, known: SessionLink) -> bool:
    """Whether remembering ``link`` under ``key`` would set its session back: a slow turn's that ended last."""
    return link.turn <= known.turn and is_mutable(key) and _rank(link) < _rank(known)


def is_newer(key: str, link: SessionLink, known: SessionLink) -> bool:
    """Whether ``link`` says something later than ``known`` about the same key, or knows the turn's session better."""
    if key.startswith(ANNOUNCED_PREFIX):  # one's own came after what was asked: the store's answer is what counts
        return False
    if is_mutable(key):
        return (_rank(link), link.end) > (_rank(known), known.end)
    return _age(link) > _age(known)


def newer(key: str, link: SessionLink | None, other: SessionLink | None) -> SessionLink | None:
    """Return what says more of two that are known under a key; ``link`` where neither does."""
    return other if other is not None and (link is None or is_newer(key, other, link)) else link


def _rank(link: SessionLink) -> tuple[int, int, bool]:
    # The number first: the clocks of two machines differ, and one that runs ahead would have the last word for ever.
    return link.turn, link.start, bool(link.end)


def _age(link: SessionLink) -> tuple[int, int, bool]:
    return link.start, link.end, link.source != "chain_partial"
