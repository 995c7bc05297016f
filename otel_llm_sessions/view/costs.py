"""What turns and sessions cost, as their spans say it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from otel_llm_sessions import semconv
from otel_llm_sessions.view.reading import number_in
from otel_llm_sessions.view.spans import Attributes

SYMBOLS = {"USD": "$"}
LEAST = 0.000001
"""The smallest amount that is shown; less is only said to be less."""


class Cost(NamedTuple):
    """An amount of a currency (ISO 4217; empty where no span says which)."""

    amount: float
    currency: str

    def __str__(self) -> str:
        """The cost as people write it: ``$1.25``, ``$0.0125``, ``$0.000123``, ``0.2500 EUR``."""
        places = 2 if self.amount >= 1 else 4 if self.amount >= 0.01 else 6
        written = f"{max(self.amount, LEAST):,.{places}f}" if self.amount else "0"
        less = "<" if 0 < self.amount < LEAST else ""
        symbol = SYMBOLS.get(self.currency)
        return f"{less}{symbol}{written}" if symbol else f"{less}{written} {self.currency}".rstrip()


def cost_in(attributes: Attributes) -> Cost | None:
    """What a span says that its call cost; None if nothing."""
    amount = number_in(attributes, semconv.USAGE_COST_AMOUNT)
    if amount is None or amount < 0:
        return None
    return Cost(amount, str(attributes.get(semconv.USAGE_COST_CURRENCY, "")))


def total_of(costs: Iterable[Cost | None]) -> tuple[Cost, ...]:
    """The sum of what is known, of each currency."""
    amounts: defaultdict[str, list[float]] = defaultdict(list)
    for cost in costs:
        if cost is not None:
            amounts[cost.currency].append(cost.amount)
    return tuple(Cost(math.fsum(parts), currency) for currency, parts in amounts.items())
