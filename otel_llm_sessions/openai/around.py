"""Where a call is made: a value."""

from __future__ import annotations

from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span

from otel_llm_sessions.cheap import value


@value
class Around:
    """Where a call is made."""

    made_in: Context
    """The context that is attached there."""
    context: Context
    """Where the call stands: without a call of ours in whose transport it is made, and in its own session."""
    ambient: Span
    """The span that is current there."""


NOTHING_AROUND: Final = Around(Context(), Context(), INVALID_SPAN)
