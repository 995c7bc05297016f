"""What a call leaves behind, for the turns that follow: pure, from the request, the reply and where the call stood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from otel_llm_sessions import semconv
from otel_llm_sessions.cheap import new
from otel_llm_sessions.openai.chain_walk import Walk, is_response
from otel_llm_sessions.openai.echoes import left_by_output
from otel_llm_sessions.openai.evidence import LEFT, Left
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.response import Reply
from otel_llm_sessions.openai.response_fields import LEFT_BY_THESE
from otel_llm_sessions.openai.routes import CHAT, RESPONSES
from otel_llm_sessions.openai.turn import Turn
from otel_llm_sessions.openai.usage import NO_TOKENS
from otel_llm_sessions.sessions.about import NOTHING_SAID
from otel_llm_sessions.sessions.keys import completion_key, response_key, session_key
from otel_llm_sessions.sessions.link import GIVEN_SOURCES, Record, SessionId, SessionLink, SpanRef
from otel_llm_sessions.sessions.names import name_of_conversation
from otel_llm_sessions.sessions.resolver import leaves_of

NO_WORDS: Final = ("", "", ())
"""What ``NOTHING_SAID`` says, as a plain tuple, which is taken apart in a tenth of the time."""


def keys_of(request: Request, reply: Reply, rows: Sequence[Left] | None = None) -> list[str]:
    """Return the keys under which a turn is remembered for what its reply leaves, or for some rows of that."""
    keys: list[str] = []
    if rows is None:
        rows = LEFT[reply.route.api]
        if reply.streamed is None:
            if reply.route is CHAT and not reply.kept:  # as most chat replies, which call no tools
                return keys
            if reply.route is RESPONSES:  # in one piece, as most: what the first rows come to, without asking them
                server = request.server
                for id_ in reply.ids:
                    keys.append(response_key(id_, server.scope))  # noqa: PERF401
                if "output" in reply.kept:
                    keys += left_by_output(reply.kept["output"], server, request.digests)
                rows = rows[LEFT_BY_THESE:]
    for row in rows:
        for value in reply.ids if row.field == "id" else reply.said(row.field):
            keys += row.keys(value, request.server, request.digests)
    # A stream says its items twice: as they come, and at its end.
    return keys if reply.streamed is None else [*dict.fromkeys(keys)]


def may_leave(request: Request, reply: Reply) -> list[str]:
    """Return the keys under which a call may be remembered, as far as they are known before its session is."""
    keys = keys_of(request, reply) + leaves_of(request.evidence)
    if reply.conversation is not None:
        keys.append(session_key(name_of_conversation(reply.conversation, request.server.name)))
    if request.history is not None:
        keys += request.history.left(reply.messages())
    return keys


def record_of(request: Request, reply: Reply, turn: Turn, span: SpanRef, started: int, ended: int) -> Record | None:
    """Return what a turn leaves behind, with no keys if it is only to be marked; None if nothing.

    Args:
        request: what was asked.
        reply: what came back so far.
        turn: the session, and the place in it.
        span: the span of the call.
        started: when it began, in nanoseconds since the epoch.
        ended: when it ended; 0 while it goes on.
    """
    resolution = turn.resolution
    session_id = turn.session_id or resolution.session_id
    if session_id is None or not resolution.turn:
        return None
    keys = keys_of(request, reply)
    if resolution.leaves:
        keys.extend(resolution.leaves)
    if resolution.origin in GIVEN_SOURCES:
        keys.append(session_key(session_id))
    is_settled = ended or reply.is_complete
    if request.history is not None and is_settled:
        keys += request.history.left(reply.messages())
    # Of a history nothing is left before it is claimed: that would be one more record.
    if reply.route is CHAT and reply.ids and (is_settled or request.history is None):
        keys.append(completion_key(reply.ids[-1]))
    if not keys and not (ended and turn.placement.is_marked):
        return None
    return keys, _link(request, reply, session_id, turn, span, started, ended)


def fresh(record: Record, before: Record | None) -> Record:
    """Return what is to be recorded of a call that goes on: under the keys that it was not recorded under before."""
    keys, link = record
    if before is None:
        return record
    keys_before, link_before = before
    if link_before[:3] != link[:3]:  # another session, source or number
        return record
    return [key for key in keys if key not in keys_before], link


def record_of_fetched(
    request: Request, reply: Reply, turn: Turn, span: SpanRef, started: int, ended: int
) -> Record | None:
    """Return the link of a response that was fetched, under the ids that it is not known by yet; see ``record_of``."""
    session_id, asked = turn.session_id, request.match.response_id
    if session_id is None:
        return None
    previous = turn.resolution.previous
    # It may go by another id than was asked for.
    others = [id_ for id_ in reply.ids if id_ != asked]
    if asked is not None and (turn.fetched is not None or (others and previous is None)):
        others.append(asked)
    keys = [response_key(id_, request.server.scope) for id_ in others]
    # What was made in the background has no items before it is fetched.
    items = [row for row in LEFT[reply.route.api] if row.field == "output"]
    keys += [key for key in keys_of(request, reply, items) if key not in keys]
    if not keys:
        return None
    link = turn.fetched or previous
    if link is None:
        link = _link(request, reply, session_id, turn, span, started, ended)._replace(turn=1)
    return keys, link


def _link(
    request: Request, reply: Reply, session_id: SessionId, turn: Turn, span: SpanRef, started: int, ended: int
) -> SessionLink:
    resolution, trace = turn.resolution, turn.placement.trace
    assert resolution.origin is not None
    input_tokens, output_tokens = reply.tokens if reply.tokens is not NO_TOKENS else reply.token_counts()
    name, user, tags = NO_WORDS if resolution.about is NOTHING_SAID else resolution.about
    before = resolution.key if resolution.origin == "chain_partial" else ""
    return new(
        SessionLink,
        (
            session_id,
            resolution.origin,
            resolution.turn,
            span,
            started,
            ended,
            request.model or reply.attributes.get(semconv.RESPONSE_MODEL, ""),
            input_tokens,
            output_tokens,
            reply.ids[-1] if reply.ids else "",
            trace,
            name,
            before,
            "" if trace is not None else request.parent,
            reply.told,
            user,
            tags,
        ),
    )


def turn_of_fetched(
    request: Request, reply: Reply, turn: Turn, metadata_keys: Sequence[str], key: str | None = None
) -> Turn:
    """Return what is known of a response that was fetched, by what it says itself; see ``learned_of``."""
    link = learned_of(request, reply.fetched, metadata_keys, key)
    if link is None or link.session_id == turn.session_id:
        return replace(turn, fetched=link)
    resolution = replace(turn.resolution, source="provider", origin=link.source)
    return Turn(resolution, link.session_id, turn.placement, link)


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
