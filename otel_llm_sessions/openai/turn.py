"""What is known of a call's session and its place there: a value, made anew when more is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from otel_llm_sessions.cheap import value
from otel_llm_sessions.sessions.link import SessionId, SessionLink
from otel_llm_sessions.sessions.resolver import NONE, Resolution
from otel_llm_sessions.traces.plan import NOT_PLACED, Placement


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


def named_by_conversation(turn: Turn, session_id: SessionId, newest: SessionLink | None) -> Turn:
    """Return a turn that its reply puts into a conversation: the next one there, as far as that is known.

    Args:
        turn: the turn.
        session_id: the session that the conversation is.
        newest: its newest turn that this process knows.
    """
    resolution = replace(turn.resolution, source="conversation", origin="conversation")
    if newest is not None and newest.session_id == session_id:
        resolution = replace(resolution, session_id=session_id, turn=newest.turn + 1, previous=newest).described()
    return Turn(resolution, session_id, turn.placement)


NOTHING_KNOWN: Final = Turn(NONE, None, NOT_PLACED)
