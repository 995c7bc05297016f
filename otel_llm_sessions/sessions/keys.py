"""The keys under which a turn is remembered: one per piece of evidence it leaves."""

from __future__ import annotations

UNIQUE_LENGTH = 24
UNIQUE_CHARACTERS = 10


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
    return "r:" + response_id if is_one_of_a_kind(response_id) else f"r:{server}:{response_id}"


def is_one_of_a_kind(id_: str) -> bool:
    """Whether an id is long and random enough that no two conversations share it."""
    return len(id_) >= UNIQUE_LENGTH and len(set(id_)) >= UNIQUE_CHARACTERS
