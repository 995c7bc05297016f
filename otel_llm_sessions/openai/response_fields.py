"""The fields of a response that are read of it, in one go."""

from __future__ import annotations

from typing import Any, Final

from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.fields import Fields, extras_of

RESPONSE: Final = Fields(
    "id",
    "usage",
    "model",
    "service_tier",
    "status",
    "conversation",
    "background",
    "output",
    "incomplete_details",
    "error",
)

LEFT_BY_THESE: Final = 2
"""How many rows of ``evidence.LEFT`` for responses are of fields above, and come first: ``id`` and ``output``."""

FINGERPRINT: Final = "system_fingerprint"
"""A field that other servers add, which no model of a response knows."""


def said_by(response: Any) -> tuple[Any, ...]:
    """Return what the fields of ``RESPONSE`` hold, in order, and the fingerprint; None for each that is missing."""
    try:
        said, more = response.__dict__, response.__pydantic_extra__
        return (
            said["id"],
            said["usage"],
            said["model"],
            said["service_tier"],
            said["status"],
            said["conversation"],
            said["background"],
            said["output"],
            said["incomplete_details"],
            said["error"],
            more.get(FINGERPRINT) if more else None,
        )
    except (AttributeError, KeyError, TypeError) as odd:  # not as the newest client has it
        pass_on(odd)
        return (*RESPONSE.of(response), extras_of(response).get(FINGERPRINT))
