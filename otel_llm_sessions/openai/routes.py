"""Which requests of the OpenAI client become spans, or tell of sessions without one: one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from otel_llm_sessions.sessions.names import id_of


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """What a request is, by its method and path."""

    operation: str
    """``gen_ai.operation.name``."""
    api: str
    """``openai.api.type``: ``chat_completions`` or ``responses``; ``conversations`` of what has no span."""
    is_turn: bool
    """Whether the request makes a reply, and so is a turn; fetching or cancelling one is not."""


CHAT: Final = Route("chat", "chat_completions", True)
RESPONSES: Final = Route("chat", "responses", True)
COMPACT: Final = Route("compact", "responses", True)
FETCH: Final = Route("fetch_response", "responses", False)
CANCEL: Final = Route("cancel_response", "responses", False)
CONVERSATIONS: Final = Route("", "conversations", False)
"""Has no span: it tells which items belong to a conversation, and nothing else."""

BY_PATH: Final[dict[str, Route]] = {
    "/chat/completions": CHAT,
    "/responses": RESPONSES,
    "/responses/compact": COMPACT,
    "/conversations": CONVERSATIONS,
}
"""Paths of POST requests that carry no id."""

BY_SHAPE: Final[dict[tuple[str, str, str], Route]] = {
    ("get", "responses", ""): FETCH,
    ("post", "responses", "cancel"): CANCEL,
    ("get", "conversations", "items"): CONVERSATIONS,
    ("post", "conversations", "items"): CONVERSATIONS,
}
"""Requests whose path has an id, by method, what is before the id and what follows it."""


@dataclass(frozen=True, slots=True)
class Match:
    """A route, and the id that the path names: of a response or a conversation."""

    route: Route
    response_id: str | None
    """None of a path that names none, or nothing usable."""
    conversation_id: str | None = None
    """Likewise."""


USUAL: Final = {path: Match(route, None) for path, route in BY_PATH.items()}
"""What ``find`` returns for POST requests to the paths of ``BY_PATH``, which nearly all are."""


def find(method: str, url: str) -> Match | None:
    """Return the route of a request, or None if it is none of ours.

    Args:
        method: the HTTP method, in the client's spelling.
        url: the path as given to the client, relative to its base URL, or an absolute URL.
    """
    match = USUAL.get(url)
    if match is not None:
        return match if method == "post" or method.lower() == "post" else None
    if "responses" not in url and "completions" not in url and "conversations" not in url:
        return None
    return _find_unusual(method.lower(), url)


def _find_unusual(method: str, url: str) -> Match | None:
    path = "/" + url.partition("?")[0].partition("#")[0].strip("/")
    if "://" in url:
        path = _relative(path)
    match = USUAL.get(path)
    if match is not None:
        return match if method == "post" else None
    first, _, rest = path[1:].partition("/")
    segment, _, action = rest.partition("/")
    route = BY_SHAPE.get((method, first, action))
    if route is None or not segment:
        return None
    id_ = _unescaped(segment)
    return Match(route, None, id_) if route is CONVERSATIONS else Match(route, id_)


def _unescaped(segment: str) -> str | None:
    """Return the id that a segment of a path says; None if it is no id."""
    # The client escapes "/" and "%" (openai 3.57). What is escaped but is not UTF-8 becomes unprintable, and so no id.
    return id_of(unquote(segment, errors="surrogateescape") if "%" in segment else segment)


def _relative(path: str) -> str:
    """Return the part of an absolute URL's path that the table knows."""
    for known in ("/chat/completions", "/responses", "/conversations"):
        start = path.rfind(known + "/") if known + "/" in path else path.rfind(known)
        if start >= 0:
            return path[start:]
    return path
