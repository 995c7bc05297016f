"""What a call cost: its reply's own figure, wherever that stands; else what published prices say, where that is asked.

Who sends one says it in US dollars: OpenRouter and LiteLLM as ``usage.cost`` (OpenRouter's credits are dollars),
Perplexity as ``usage.cost.total_cost``, xAI as ``usage.cost_in_usd_ticks``, and LiteLLM also in a header.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_llm_sessions import semconv
from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.fields import extras_of, field, mapping
from otel_llm_sessions.openai.response import Reply
from otel_llm_sessions.telemetry.cost import LOCAL, PROVIDER, amount_in, amount_of, cost_attributes
from otel_llm_sessions.telemetry.prices import Prices
from otel_llm_sessions.telemetry.values import count_of, int64_of

HEADER: Final = "x-litellm-response-cost"

OUTPUT: Final = "output_tokens"
CACHED: Final = "cache_read_tokens"
REASONING: Final = "output_reasoning_tokens"

TICKS: Final = 10_000_000_000
"""How many of xAI's ticks are a US dollar."""

NOTHING: Final[dict[str, Any]] = {}
"""Not to be changed."""


UNITS: Final[Mapping[str, str]] = {
    semconv.USAGE_INPUT_TOKENS: "input_tokens",
    semconv.USAGE_OUTPUT_TOKENS: OUTPUT,
    semconv.USAGE_CACHE_READ_INPUT_TOKENS: CACHED,
    semconv.USAGE_CACHE_WRITE_INPUT_TOKENS: "cache_write_tokens",
    semconv.USAGE_REASONING_OUTPUT_TOKENS: REASONING,
    semconv.USAGE_AUDIO_INPUT_TOKENS: "input_audio_tokens",
    semconv.USAGE_IMAGE_INPUT_TOKENS: "input_image_tokens",
    semconv.USAGE_AUDIO_OUTPUT_TOKENS: "output_audio_tokens",
    semconv.USAGE_IMAGE_OUTPUT_TOKENS: "output_image_tokens",
    semconv.USAGE_AUDIO_CACHE_READ_INPUT_TOKENS: "cache_audio_read_tokens",
    semconv.USAGE_IMAGE_CACHE_READ_INPUT_TOKENS: "cache_image_read_tokens",
}
"""What is priced, by what a span says of it. Input and output are all of it; the others are parts of them."""

CACHED_ELSEWHERE: Final = ("cached_tokens", "prompt_cache_hit_tokens")
"""Where Moonshot and DeepSeek say in a usage itself how much of the input was cached."""

THINK_APART: Final = frozenset({"x_ai", "gcp.gemini", "gcp.vertex_ai"})
"""Providers whose chat replies count tokens of thought in the total, and not in the output."""

STANDARD_TIERS: Final = frozenset({"default", "auto"})


class Costs:
    """Tells what calls cost by their replies."""

    def prepare(self) -> None:
        """Get ready what takes a while; returns at once."""

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
        said: Any
        usage = reply.usage
        if usage is None or type(usage) is dict:
            said = usage
        else:
            try:
                said = usage.__pydantic_extra__
            except AttributeError as error:  # not as the newest client has them
                pass_on(error)
                said = extras_of(usage)
        # Nearly all replies say nothing. Fetching one costs nothing: it was paid for when it was made.
        if (not said and reply.cost is None) or not reply.route.is_turn:
            return NOTHING
        amount = figure_in(mapping(said)) if said else None
        if amount is None and (amount := reply.cost) is None:
            return NOTHING
        return cost_attributes(amount, PROVIDER)


class PricedCosts(Costs):
    """Tells what calls cost by their replies, and by published prices where those say nothing."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices

    def prepare(self) -> None:
        """See ``Costs``."""
        self._prices.load()

    def of(self, reply: Reply, asked: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Costs``."""
        return super().of(reply, asked) or self._computed(reply, asked)

    def _computed(self, reply: Reply, asked: Mapping[str, Any]) -> dict[str, Any]:
        if not reply.route.is_turn or None in reply.token_counts():
            return NOTHING
        told, provider = reply.attributes, asked.get(semconv.PROVIDER_NAME)
        models = (told.get(semconv.RESPONSE_MODEL), asked.get(semconv.REQUEST_MODEL))
        tier = told.get(semconv.OPENAI_RESPONSE_SERVICE_TIER, "default")
        context = {} if tier in STANDARD_TIERS else {"service_tier": tier}
        amount = self._prices.amount(provider, models, counts_of(reply, provider), context)
        return NOTHING if amount is None else cost_attributes(amount, LOCAL)


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


def counts_of(reply: Reply, provider: Any) -> dict[str, int]:
    """Return what a call is to be paid for, by the names of its units."""
    told, usage = reply.attributes, extras_of(reply.usage)
    counts = {unit: told[name] for name, unit in UNITS.items() if name in told}
    if CACHED not in counts:
        elsewhere = (count_of(usage.get(name)) for name in CACHED_ELSEWHERE)
        if cached := next((count for count in elsewhere if count), 0):
            counts[CACHED] = cached
    total = count_of(field(reply.usage, "total_tokens")) or 0
    thought = total - counts["input_tokens"] - counts[OUTPUT]
    if provider in THINK_APART and thought > 0:
        counts[OUTPUT] += thought
        counts.setdefault(REASONING, thought)
    return counts
