"""What a call leaves behind, for the turns that follow: pure, from the request, the reply and where the call stood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otel_llm_sessions import semconv
from otel_llm_sessions.cheap import new
from otel_llm_sessions.openai.chain_walk import Walk, is_response
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.response import Reply
from otel_llm_sessions.sessions.keys import response_key, session_key
from otel_llm_sessions.sessions.link import (
    GIVEN_SOURCES,
    SessionId,
    SessionLink,
    SessionTrace,
    Source,
    SpanRef,
)
from otel_llm_sessions.sessions.resolver import Resolution


def keys_of(request: Request, reply: Reply, session_id: SessionId | None, origin: Source | None) -> list[str]:
    """Return the keys under which a turn is remembered: of all ids of its reply, and of a given session."""
    keys = []
    if request.match.route.api == "responses":
        keys = [response_key(id_, request.server.scope) for id_ in reply.ids]
    if origin in GIVEN_SOURCES and session_id is not None:
        keys.append(session_key(session_id))
    return keys


def alias_keys(request: Request, reply: Reply, *, is_learned: bool, is_known: bool) -> list[str]:
    """Return the keys under which a response that was fetched is not known yet.

    Args:
        request: the request that fetched it.
        reply: what came back, which may go by another id than was asked for.
        is_learned: whether its session is known from itself.
        is_known: whether the store knew it by the id that was asked for.
    """
    asked = request.match.response_id
    others = [id_ for id_ in reply.ids if id_ != asked]
    if asked is not None and (is_learned or (others and not is_known)):
        others.append(asked)
    return [response_key(id_, request.server.scope) for id_ in others]


def link_of(
    request: Request,
    reply: Reply,
    session_id: SessionId,
    resolution: Resolution,
    span: SpanRef,
    started: int,
    ended: int,
    trace: SessionTrace | None,
) -> SessionLink:
    """Return the link of a turn; ``ended`` is 0 while it goes on."""
    assert resolution.origin is not None
    said = reply.attributes
    input_tokens, output_tokens = reply.token_counts()
    return new(
        SessionLink,
        (
            session_id,
            resolution.origin,
            resolution.turn,
            span,
            started,
            ended,
            request.model or said.get(semconv.RESPONSE_MODEL, ""),
            input_tokens,
            output_tokens,
            reply.ids[-1] if reply.ids else "",
            trace,
            resolution.name,
            (resolution.origin == "chain_partial" and request.evidence.previous_key) or "",
        ),
    )


def learned_of(
    request: Request, response: Any, metadata_keys: Sequence[str], key: str | None = None
) -> SessionLink | None:
    """Return the link of a response that was fetched, by what it says of its session itself; None if it says nothing.

    Args:
        request: the request that fetched it.
        response: what came back.
        metadata_keys: under which names of its ``metadata`` a session is named.
        key: the setting ``KEY``.
    """
    asked = request.match.response_id
    if asked is None or not is_response(response):
        return None
    walk = Walk(asked, metadata_keys, request.server.name, key)
    walk.take(response)
    return walk.previous() if walk.is_complete else None
