"""What a call's span says of its session."""

from __future__ import annotations

from typing import Any

from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.openai.turn import Turn
from otel_llm_sessions.semconv import (
    CONVERSATION_ID,
    LLM_SESSION_PART,
    LLM_SESSION_SOURCE,
    LLM_SESSION_TURN,
    SESSION_ID,
    USER_ID,
)
from otel_llm_sessions.sessions.about import NOTHING_SAID
from otel_llm_sessions.sessions.link import GIVEN_SOURCES, SessionLink
from otel_llm_sessions.sessions.names import conversation_of


def add_session(attributes: dict[str, Any], request: Request, turn: Turn, runtime: Runtime) -> None:
    """Add the attributes that say to which session a call belongs, and as which of its turns."""
    resolution, session_id, conversation = turn.resolution, turn.session_id, request.conversation
    origin, trace = resolution.origin, turn.placement.trace
    if request.user:
        attributes[USER_ID] = request.user
    if resolution.source is None or (session_id is None and resolution.session_id is not None):  # ``turn.is_pending``
        return
    attributes[LLM_SESSION_SOURCE] = resolution.source
    if session_id is not None:
        attributes[SESSION_ID] = session_id
        if conversation is None:  # then it is what the application or the provider called the session
            if origin == "conversation":
                conversation = conversation_of(session_id, request.server.name)
            elif origin in GIVEN_SOURCES or runtime.settings.conversation_id == "always":
                conversation = session_id
    if conversation is not None:
        attributes[CONVERSATION_ID] = conversation
    if resolution.turn and request.match.route.is_turn:
        attributes[LLM_SESSION_TURN] = resolution.turn
    if trace is not None:
        attributes[LLM_SESSION_PART] = trace.part
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
    attributes[SESSION_ID] = turn.session_id
    if runtime.settings.conversation_id == "always":
        attributes[CONVERSATION_ID] = turn.session_id
    return attributes
