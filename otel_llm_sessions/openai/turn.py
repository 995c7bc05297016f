"""What is known of a call's session and its place there: a value, made anew when more is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from opentelemetry.context import Context

from otel_llm_sessions.cheap import value
from otel_llm_sessions.sessions.link import SessionId, SessionLink, SpanRef
from otel_llm_sessions.sessions.names import name_of_conversation, name_of_response
from otel_llm_sessions.sessions.resolver import NONE, Resolution
from otel_llm_sessions.traces.placement import Placement


@value
class Turn:
    """A call as a turn of its session."""

    resolution: Resolution
    """The session as the evidence has it; what would be recorded if nothing more were heard."""
    session_id: SessionId | None
    """The session; None while it is not known, or has no name yet."""
    placement: Placement
    fetched: SessionLink | None = None
    """What a response that was fetched says of its session itself."""

    @property
    def is_pending(self) -> bool:
        """Whether the session is still to be heard of."""
        return self.session_id is None and self.resolution.session_id is not None


def begun_by(turn: Turn, reply_id: str, conversation: str | None, server: str, span: SpanRef) -> Turn:
    """Return the first turn of a session with the name that its reply gives it.

    That is the conversation which the reply says it belongs to, as a server may put it into one that the request does
    not name; else the reply's id.

    Args:
        turn: the turn.
        reply_id: the first id of its reply.
        conversation: the id of the reply's conversation, if it has one.
        server: what the server is called in names.
        span: the turn's span.
    """
    if conversation is None:
        return Turn(turn.resolution, name_of_response(reply_id, server, span), turn.placement)
    resolution = replace(turn.resolution, source="conversation", origin="conversation")
    return Turn(resolution, name_of_conversation(conversation, server), turn.placement)


NOT_PLACED: Final = Placement(Context(), [], None)

NOTHING_KNOWN: Final = Turn(NONE, None, NOT_PLACED)
