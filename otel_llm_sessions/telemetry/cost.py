"""What a call cost, as attributes: an amount, its currency, and who says so."""

from __future__ import annotations

import math
from typing import Any, Final

from otel_llm_sessions import semconv
from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.telemetry.values import double_of

PROVIDER: Final = "provider"
"""``gen_ai.usage.cost.source`` of what a reply says itself: a gateway's figure too, for to its client it is the
provider."""
LOCAL: Final = "local"
"""That of what was computed here."""

USD: Final = "USD"
MAX_AMOUNT: Final = 1_000_000.0
"""What no call costs: a larger figure is a server's mistake, or in another unit."""

MAX_DIGITS: Final = 64
"""Characters of an amount that is written out."""


def amount_of(value: Any) -> float | None:
    """Return an amount of money: a number from 0 to a million; None for anything else, NaN, ``True`` and texts too."""
    amount = double_of(value)
    if amount is None or not math.isfinite(amount) or not 0 <= amount <= MAX_AMOUNT:
        return None
    return amount + 0.0  # no -0.0


def amount_in(text: Any) -> float | None:
    """Return the amount that a text says; None if it says none."""
    if not isinstance(text, str) or len(text) > MAX_DIGITS:
        return None
    try:
        return amount_of(float(text))
    except ValueError as error:
        pass_on(error)
        return None


def cost_attributes(amount: float, source: str) -> dict[str, Any]:
    """Return what a span says of an amount in US dollars.

    Args:
        amount: the amount.
        source: ``PROVIDER`` or ``LOCAL``.
    """
    return {
        semconv.USAGE_COST_AMOUNT: amount,
        semconv.USAGE_COST_CURRENCY: USD,
        semconv.USAGE_COST_SOURCE: source,
    }
