"""What a session is named by where the application names none: the ids of the provider, made one of a kind."""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any, Final

from otel_llm_sessions.sessions.keys import JUDGED, unscoped_key
from otel_llm_sessions.sessions.link import SessionId, SpanRef

MAX_ID: Final = 1024
"""Characters of an id from outside; a gateway's have been seen with 470."""

MAX_ID_OF_TEXT: Final = 256
"""Characters of an id that is not of ASCII alone: each may take four bytes."""

MAX_NAME: Final = 128
"""Characters of a name that is made from an id; longer ones are shortened (Langfuse drops ids of more than 200)."""

_HEAD: Final = 24
_DIGITS: Final = 32

_MADE = re.compile(r"~(?:[0-9a-f]{8}|[0-9a-f]{32})\Z")


def id_of(value: Any) -> str | None:
    """Return ``value`` as an id of the provider's: a printable string of 1 to 1,024 characters; else None.

    Ids come from visitors and from servers. Nothing is kept by one that is longer, and none that is not printable
    reaches a span.
    """
    if type(value) is str and len(value) <= MAX_ID_OF_TEXT:  # nearly all
        return value if value and value.isprintable() and not value.isspace() else None
    if type(value) is not str:
        if not isinstance(value, str):
            return None
        value = str.__str__(value)
    longest = MAX_ID if value.isascii() else MAX_ID_OF_TEXT
    return value if 0 < len(value) <= longest and value.isprintable() and not value.isspace() else None


def returned_id_of(value: Any) -> str | None:
    """As ``id_of``, of an id that comes back: most are known for ids since they were remembered."""
    return value if type(value) is str and value in JUDGED else id_of(value)


def name_of_response(response_id: str, server: str, first: SpanRef | None = None) -> SessionId:
    """Return the name of a session that a response begins.

    It is the response's id if that is one of a kind. A server that counts (``resp_1``) gives the same id to others, and
    begins again when it restarts; so another id gets the server's address and 32 random bits. They are those of the
    first turn's span, where there is one, so that a process which learns of that learns the name.

    Args:
        response_id: the id of the response.
        server: what the server is called in names.
        first: the span of the call that the response answers.
    """
    name = response_id if unscoped_key(response_id) else f"{response_id}@{server}~{_random_digits(first)}"
    return shortened(name)


def _random_digits(span: SpanRef | None) -> str:
    if span is None or not span.span_id:
        return os.urandom(4).hex()
    # A digest, since not all generators make the same part of an id random.
    return hashlib.sha256(b"%032x%016x" % (span.trace_id, span.span_id)).hexdigest()[:8]


def name_of_conversation(conversation_id: str, server: str) -> SessionId:
    """Return the name of the session that a provider's conversation is: the same in every process."""
    return shortened(conversation_id if unscoped_key(conversation_id) else f"{conversation_id}@{server}")


def conversation_of(session_id: str, server: str) -> str | None:
    """Return the conversation's id that ``name_of_conversation`` made ``session_id`` from; None if it does not tell."""
    id_ = session_id.removesuffix(f"@{server}")
    is_told = id_ != session_id or unscoped_key(id_)  # else it is another server's, or shortened
    return id_ if is_told and not is_made(session_id) else None


def shortened(name: str) -> SessionId:
    """Return ``name``; of more than 128 characters its first 24, ``~``, and 32 hex digits of its SHA-256 (in UTF-8)."""
    if len(name) <= MAX_NAME:
        return name  # type: ignore[return-value]  # a cast is a call
    return SessionId(f"{name[:_HEAD]}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:_DIGITS]}")


def is_made(session_id: str) -> bool:
    """Whether a name may be none that a provider knows, since it was shortened or made one of a kind."""
    return _MADE.search(session_id) is not None
