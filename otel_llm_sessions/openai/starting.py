"""Which calls start a session of their own: what their replies say decides it, and names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from otel_llm_sessions.openai.echoes import calls_in
from otel_llm_sessions.openai.fields import field
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.response import Reply
from otel_llm_sessions.openai.routes import CHAT
from otel_llm_sessions.openai.turn import Turn, begun_by
from otel_llm_sessions.sessions.keys import CACHE_PREFIX
from otel_llm_sessions.sessions.link import SpanRef
from otel_llm_sessions.sessions.names import id_of
from otel_llm_sessions.sessions.resolver import NEW, Resolution


def begun(turn: Turn, request: Request, reply: Reply, span: Callable[[], SpanRef]) -> Turn | None:
    """Return a call as the first turn of the session that it starts, which its reply names.

    Args:
        turn: the call, which has no session yet.
        request: what was asked.
        reply: what came back so far.
        span: returns the span of the call, which makes a name one of a kind.

    Returns:
        None if it starts no session, or cannot be named yet.
    """
    resolution = turn.resolution
    if resolution.source is None:
        # Most chat calls start none: that is told first, by what is not there.
        if not (reply.kept or reply.streamed or resolution.leaves or request.history is not None):
            return None
        if request.match.route is not CHAT or not can_go_on(request, reply, resolution):
            return None
        resolution = replace(NEW, leaves=resolution.leaves)
    if resolution.source != "new" or not reply.ids:
        return None
    started = turn if resolution is turn.resolution else replace(turn, resolution=resolution)
    return begun_by(started, reply.ids[0], reply.conversation, request.server.name, span())


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
