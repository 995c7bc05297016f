"""Which calls start a session of their own: what their replies say decides it, and names it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from otel_llm_sessions.openai.echoes import calls_in
from otel_llm_sessions.openai.fields import field
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.response import Reply
from otel_llm_sessions.openai.routes import CHAT
from otel_llm_sessions.openai.turn import Turn, named_by_conversation
from otel_llm_sessions.sessions.keys import CACHE_PREFIX, session_key
from otel_llm_sessions.sessions.link import SessionLink, SpanRef
from otel_llm_sessions.sessions.names import id_of, name_of_conversation, name_of_response
from otel_llm_sessions.sessions.resolver import NEW, Resolution
from otel_llm_sessions.telemetry.call_span import CallSpan
from otel_llm_sessions.traces.placement import Placer
from otel_llm_sessions.traces.plan import NO_PLAN

Known: TypeAlias = Callable[[Sequence[str]], Sequence[SessionLink | None]]
"""Returns what this process knows under each of some keys."""


def begun(turn: Turn, request: Request, reply: Reply, span: Callable[[], SpanRef], known: Known) -> Turn | None:
    """Return a call as the first turn of the session that it starts, which its reply names.

    That is by the conversation which the reply says it belongs to, as a server may put it into one that the request
    does not name, and where there may be turns already; else by the reply's id.

    Args:
        turn: the call, which has no session yet.
        request: what was asked.
        reply: what came back so far.
        span: returns the span of the call, which makes a name one of a kind.
        known: tells what is known of a conversation.

    Returns:
        None if it starts no session, or cannot be named yet.
    """
    resolution = turn.resolution
    if resolution.source is None:
        if request.match.route is not CHAT or not can_go_on(request, reply, resolution):
            return None
        resolution = replace(NEW, leaves=resolution.leaves)
    if resolution.source != "new" or not reply.ids:
        return None
    started = turn if resolution is turn.resolution else replace(turn, resolution=resolution)
    server = request.server.name
    if reply.conversation is None:
        return Turn(started.resolution, name_of_response(reply.ids[0], server, span()), started.placement)
    session_id = name_of_conversation(reply.conversation, server)
    return named_by_conversation(started, session_id, known([session_key(session_id)])[0])


def placed(turn: Turn, placer: Placer, span: CallSpan, now: int) -> Turn:
    """Return a turn with its place in the trace of a session that is there already, as it turns out.

    Args:
        turn: the turn.
        placer: decides that.
        span: the span of the call, which gets its links and does not move.
        now: when it began, in nanoseconds since the epoch.
    """
    plan, before = placer.plan(turn.resolution, now=now), turn.placement
    # What would have to be claimed is not opened: the trace that the call itself has opened is as good.
    plan = plan if plan.opening is None else NO_PLAN
    placement, links = placer.amend(turn.resolution, plan, False, span.context)
    span.link(links)
    trace, root, opened = placement.trace or before.trace, before.open_root, before.opened
    return replace(turn, placement=replace(placement, trace=trace, open_root=root, opened=opened))


def can_go_on(request: Request, reply: Reply, resolution: Resolution) -> bool:
    """Whether a chat call leaves what the next call could be tied to it by."""
    return request.history is not None or calls_tools(reply) or is_cached(resolution)


def calls_tools(reply: Reply) -> bool:
    """Whether a chat reply calls tools, by ids: what these give back ties the next call to this one."""
    for choices in reply.said("choices"):
        for call in calls_in(choices):
            if id_of(field(call, "id")) is not None:
                return True
    return False


def is_cached(resolution: Resolution) -> bool:
    """Whether a call has a prompt cache key that ties the next one to it."""
    return bool(resolution.leaves) and any(key.startswith(CACHE_PREFIX) for key in resolution.leaves)
