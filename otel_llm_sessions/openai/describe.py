"""What a call's span says of its session."""

from __future__ import annotations

from typing import Any

from otel_llm_sessions import semconv
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.openai.turn import Turn
from otel_llm_sessions.sessions.about import NOTHING_SAID
from otel_llm_sessions.sessions.link import GIVEN_SOURCES, SessionLink
from otel_llm_sessions.sessions.names import conversation_of


def add_session(attributes: dict[str, Any], request: Request, turn: Turn, runtime: Runtime) -> None:
    """Add the attributes that say to which session a call belongs, and as which of its turns."""
    resolution, session_id = turn.resolution, turn.session_id
    if request.user:
        attributes[semconv.USER_ID] = request.user
    if resolution.source is None or (session_id is None and turn.is_pending):
        return
    trace = turn.placement.trace
    attributes[semconv.LLM_SESSION_SOURCE] = resolution.source
    if session_id is not None:
        attributes[semconv.SESSION_ID] = session_id
    if (conversation := _conversation_id(request, turn, runtime)) is not None:
        attributes[semconv.CONVERSATION_ID] = conversation
    if resolution.turn and request.match.route.is_turn:
        attributes[semconv.LLM_SESSION_TURN] = resolution.turn
    if trace is not None:
        attributes[semconv.LLM_SESSION_PART] = trace.part
    if resolution.about is not NOTHING_SAID:
        attributes.update(resolution.about.attributes())


def with_user(link: SessionLink, request: Request) -> SessionLink:
    """Return a turn as its marker says it: with the user that its request names, where the application names none."""
    return link._replace(user=request.user) if request.user and not link.user else link


def start_of(before: Turn, turn: Turn, request: Request, runtime: Runtime) -> dict[str, Any]:
    """Return the attributes that a call's span lacks, now that the session which the call starts has its name."""
    attributes: dict[str, Any] = {}
    if turn.resolution is not before.resolution:
        add_session(attributes, request, turn, runtime)
        return attributes
    attributes[semconv.SESSION_ID] = turn.session_id
    if runtime.settings.conversation_id == "always":
        attributes[semconv.CONVERSATION_ID] = turn.session_id
    return attributes


def _conversation_id(request: Request, turn: Turn, runtime: Runtime) -> str | None:
    """Return the provider's conversation, else what the application or the provider called the session."""
    origin, session_id = turn.resolution.origin, turn.session_id
    if request.conversation is not None or session_id is None:
        return request.conversation
    if origin == "conversation":
        return conversation_of(session_id, request.server.name)
    return session_id if origin in GIVEN_SOURCES or runtime.settings.conversation_id == "always" else None
