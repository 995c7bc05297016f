"""What a call cost: its reply's own figure, wherever that stands.

Who sends one says it in US dollars: OpenRouter and LiteLLM as ``usage.cost`` (OpenRouter's credits are dollars),
Perplexity as ``usage.cost.total_cost``, xAI as ``usage.cost_in_usd_ticks``, and LiteLLM also in a header.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.fields import extras_of, mapping
from otel_llm_sessions.openai.response import Reply
from otel_llm_sessions.telemetry.cost import PROVIDER, amount_in, amount_of, cost_attributes
from otel_llm_sessions.telemetry.values import int64_of

HEADER: Final = "x-litellm-response-cost"

TICKS: Final = 10_000_000_000
"""How many of xAI's ticks are a US dollar."""

NOTHING: Final[dict[str, Any]] = {}
"""Not to be changed."""


class Costs:
    """Tells what calls cost."""

    def see_headers(self, reply: Reply, response: Any, *, is_stream: bool) -> None:
        """Take in what the headers of an HTTP response say that the reply cost.

        A stream's headers come before there is anything to be paid for: a zero there says nothing.
        """
        amount = amount_in(response.headers.get(HEADER))
        reply.cost = amount if amount or not is_stream else None

    def of(self, reply: Reply, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a call's span says of its cost: nothing that can be changed, where it is not known.

        Args:
            reply: what came back, read to its end.
            asked: the attributes that the request gives to the span.
        """
        try:
            said = reply.usage.__pydantic_extra__
        except AttributeError as error:  # none, or not as the newest client has them
            pass_on(error)
            said = extras_of(reply.usage)
        # Nearly all replies say nothing. Fetching one costs nothing: it was paid for when it was made.
        if (not said and reply.cost is None) or not reply.route.is_turn:
            return NOTHING
        amount = figure_in(said) if said else None
        if amount is None and (amount := reply.cost) is None:
            return NOTHING
        return cost_attributes(amount, PROVIDER)


class NoCosts(Costs):
    """Tells nothing, and looks at nothing."""

    def see_headers(self, reply: Reply, response: Any, *, is_stream: bool) -> None:
        """Do nothing."""

    def of(self, reply: Reply, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return nothing."""
        return NOTHING


def figure_in(usage: Mapping[str, Any]) -> float | None:
    """Return what a usage says that the call cost, in US dollars; None if it does not.

    Args:
        usage: its fields, of which the client's models know none that is looked for.
    """
    if (cost := usage.get("cost")) is not None:
        return amount_of(mapping(cost).get("total_cost", cost))
    return amount_of_ticks(usage.get("cost_in_usd_ticks"))


def amount_of_ticks(ticks: Any) -> float | None:
    """Return xAI's figure in US dollars; None if it is no whole number, or not there."""
    return amount_of(ticks / TICKS) if int64_of(ticks) is not None else None
