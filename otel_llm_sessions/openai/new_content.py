"""What of a call's content is new against the turn before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_llm_sessions.openai.delta import News
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.turn import Turn

ALL: Final = News("full", 0, True, True)


def new_in(asked: Mapping[str, Any], request: Request, turn: Turn) -> News:
    """Return what of a turn is to be recorded.

    Args:
        asked: the body that was sent.
        request: the request.
        turn: the session, and the place in it; ``turn.resolution.previous`` is the linked turn.
    """
    return ALL
