"""Headers of a request: which name a session, and which say who asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from otel_llm_sessions.openai.fields import mapping
from otel_llm_sessions.sessions.link import SessionId
from otel_llm_sessions.sessions.sources import PARENT_HEADER, session_id_of

WORDS: Final = (
    "auth", "key", "token", "secret", "cookie", "credential", "signature", "organization", "project", "tenant",
    "account",
)  # fmt: skip
"""What the name of a header or a query parameter has in it that says who asks; rather one too many than one too few."""

NO_CREDENTIALS: Final = frozenset({"idempotency-key"})

_EMPTY: Final[dict[str, Any]] = {}


def lowered(headers: Any) -> Mapping[str, Any]:
    """Return headers by their names in lower case; an empty mapping for what are none."""
    found = mapping(headers) if headers else _EMPTY
    if not found:
        return _EMPTY
    return {name.lower(): value for name, value in found.items() if isinstance(name, str)}


def header_session(headers: Mapping[str, Any], names: tuple[str, ...]) -> SessionId | None:
    """Return the session id in headers, by their names in lower case.

    Args:
        headers: the headers.
        names: which of them may name a session, the strongest first. A ``*`` stands for any characters, but for none
            that say who asks, or in which other session: a key is never taken for a session, nor a session's parent.
    """
    for value in _values_of(headers, names):
        if isinstance(value, (str, int, float)) and (found := session_id_of(value)):
            return found
    return None


def _values_of(headers: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[Any]:
    for name in names:
        if "*" not in name:
            yield headers.get(name)
            continue
        start, _, end = name.partition("*")
        for sent, value in headers.items():
            fits = sent.startswith(start) and sent.endswith(end) and len(sent) >= len(name) - 1
            if fits and sent != PARENT_HEADER and not tells_who_asks(sent):
                yield value


def tells_who_asks(name: str) -> bool:
    """Whether a header or a query parameter of that name, in lower case, says who asks, as a key does."""
    return any(word in name for word in WORDS) and name not in NO_CREDENTIALS
