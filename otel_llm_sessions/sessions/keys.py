"""The keys under which a turn is remembered: one per piece of evidence it leaves."""

from __future__ import annotations

import hashlib
from typing import Final

from otel_llm_sessions.sessions.randomness import is_one_of_a_kind

MAX_KEY: Final = 160
"""Characters of a key behind its prefix: of longer ones a digest is kept, so that what is known is bounded in bytes."""


SCOPED_PREFIX: Final = "r@"
"""How the key of an id begins that is not one of a kind."""


def session_key(session_id: str) -> str:
    """Key of a session's newest turn."""
    return "s:" + session_id


def response_key(response_id: str, server: str) -> str:
    """Key of the turn that a response belongs to.

    Args:
        response_id: the id as the server sent it.
        server: the server's address. Servers that count (``chatcmpl-150``) give the same id to unrelated
            conversations, so an id that is not one of a kind counts for its own server only.
    """
    if is_one_of_a_kind(response_id):
        return "r:" + response_id if len(response_id) <= MAX_KEY else _bounded("r:", response_id)
    # Begins otherwise, lest an id that holds an address be taken for another server's; an address has no blanks.
    return _bounded(SCOPED_PREFIX, f"{server} {response_id}")


def _bounded(prefix: str, rest: str) -> str:
    if len(rest) <= MAX_KEY:
        return prefix + rest
    # No id and no address begins with a line's end.
    return f"{prefix}\n{hashlib.sha256(rest.encode('utf-8', 'surrogatepass')).hexdigest()}"
