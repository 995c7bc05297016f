"""What a reply costs, by OpenAI's published prices (April 2026), for a server that says so as OpenRouter does."""

from __future__ import annotations

from otel_llm_sessions.demo.provider.call import Call
from otel_llm_sessions.demo.provider.reply import Json

PRICES = {
    "gpt-4o-mini": (0.15, 0.075, 0.60),
    "gpt-4.1": (2.00, 0.50, 8.00),
    "gpt-5-mini": (0.25, 0.025, 2.00),
}
"""US dollars for a million tokens: of the input what is new and what is cached, and of the output."""

MILLION = 1_000_000
DIGITS = 10


def with_cost(call: Call, usage: Json, asked: int, cached: int, said: int) -> Json:
    """The usage with what the reply costs in it, if the server says such things and has a price for the model.

    `asked` counts all tokens of the input, `cached` those of them that were cached, `said` those of the output.
    """
    prices = PRICES.get(call.model) if call.manner.charges else None
    if prices is None:
        return usage
    of_new, of_cached, of_said = prices
    cost = ((asked - cached) * of_new + cached * of_cached + said * of_said) / MILLION
    return {**usage, "cost": round(cost, DIGITS)}
