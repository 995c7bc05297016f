"""What calls cost by published prices (``COST=prices``), where their replies do not say it.

The prices are in US dollars per million tokens, read in November 2026. Those in ``SEEN`` stand on the providers' own
pages, in copies that others have stored. Those in ``QUOTED`` were seen as others quote such pages: OpenAI's
developers.openai.com/api/docs/pricing (the models of 2025 from January to April 2026, GPT-5.4 and 5.5 in June 2026),
for GPT-5.2 its announcement (April 2026); ai.google.dev/gemini-api/docs/pricing (October 2026; what is cached and what
comes out, earlier); docs.x.ai (September 2026) and console.groq.com, of which the pages themselves were seen for all
but what is cached; platform.kimi.ai/docs/pricing/chat-k3 (July 2026).
"""

from __future__ import annotations

import copy
import json
import logging
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from odd_kit import JSON, Wire, chat, response
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor as GenAIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from waiting import until

from otel_llm_sessions.telemetry.prices import MAX_MODELS, Prices
from otel_llm_sessions.testing import capture_spans

pytest.importorskip("genai_prices")  # the extra "cost"

COST = "gen_ai.usage.cost."
MILLION = 1_000_000


@pytest.fixture
def priced() -> Iterator[Any]:
    with capture_spans(traces="turn", cost="prices") as spans:
        until_priced(spans)
        yield spans


def until_priced(spans: Any) -> None:
    """Make calls until the prices are there, and forget them."""
    wire = Wire(OPENAI)

    def is_priced() -> bool:
        ask(wire, "gpt-4o", usage_of(1, 0, 1))
        return bool(cost_of(list(spans)[-1]))

    until(is_priced)
    wire.close()
    spans.clear()


def cost_of(span: Any) -> tuple[Any, ...]:
    said = {name: value for name, value in span.attributes.items() if name.startswith(COST)}
    return tuple(said[name] for name in sorted(said))


def usage_of(sent: int, cached: int, said: int, thought: int = 0, **fields: Any) -> dict[str, Any]:
    """The usage of a chat call: cached tokens are among those that were sent, thought ones among those that came."""
    return {
        "prompt_tokens": sent,
        "completion_tokens": said,
        "total_tokens": sent + said,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thought},
        **fields,
    }


def ask(wire: Wire, model: str, usage: Any, **fields: Any) -> None:
    wire.answer(json.dumps(chat(model=model, usage=usage, **fields)).encode(), JSON)
    wire.call("chat", model=model)


OPENAI = "https://api.openai.com/v1"
AZURE = "https://mine.openai.azure.com/openai/v1"
ANTHROPIC = "https://api.anthropic.com/v1"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/openai"
XAI = "https://api.x.ai/v1"
GROQ = "https://api.groq.com/openai/v1"
MOONSHOT = "https://api.moonshot.ai/v1"
DEEPSEEK = "https://api.deepseek.com/v1"

# What a million tokens cost: sent and not cached, cached, given out. A million of each are 100,000 sent of which 60,000
# are cached, and 10,000 given out of which 4,000 are thought: 40,000 * first + 60,000 * second + 10,000 * third.
# What costs no less where it is cached has the first price twice.
QUOTED = [
    (OPENAI, "gpt-4o-mini", 0.15, 0.075, 0.60, 0.0165),  # 0.0060 + 0.0045 + 0.0060
    (OPENAI, "gpt-4o-2024-08-06", 2.50, 1.25, 10.00, 0.275),  # 0.1000 + 0.0750 + 0.1000
    (OPENAI, "gpt-4.1-2025-04-14", 2.00, 0.50, 8.00, 0.19),  # 0.0800 + 0.0300 + 0.0800
    (OPENAI, "gpt-5-2025-08-07", 1.25, 0.125, 10.00, 0.1575),  # 0.0500 + 0.0075 + 0.1000
    (OPENAI, "gpt-5.2", 1.75, 0.175, 14.00, 0.2205),  # 0.0700 + 0.0105 + 0.1400
    (OPENAI, "gpt-5.4", 2.50, 0.25, 15.00, 0.265),  # 0.1000 + 0.0150 + 0.1500
    (OPENAI, "gpt-5.4-mini", 0.75, 0.075, 4.50, 0.0795),  # 0.0300 + 0.0045 + 0.0450
    (OPENAI, "gpt-5.5", 5.00, 0.50, 30.00, 0.53),  # 0.2000 + 0.0300 + 0.3000
    (AZURE, "gpt-4o-mini-2024-07-18", 0.15, 0.075, 0.60, 0.0165),  # as OpenAI's
    (GEMINI, "gemini-2.5-pro", 1.25, 0.125, 10.00, 0.1575),  # 0.0500 + 0.0075 + 0.1000
    (XAI, "grok-4.7", 2.00, 0.50, 6.00, 0.17),  # 0.0800 + 0.0300 + 0.0600
    (GROQ, "openai/gpt-oss-120b", 0.15, 0.075, 0.60, 0.0165),  # 0.0060 + 0.0045 + 0.0060
    (MOONSHOT, "kimi-k3", 3.00, 0.30, 15.00, 0.288),  # 0.1200 + 0.0180 + 0.1500
]
SEEN = [
    # platform.claude.com/docs/about-claude/models/whats-new-opus-5
    (ANTHROPIC, "claude-opus-5", 5.00, 0.50, 25.00, 0.48),  # 0.2000 + 0.0300 + 0.2500
    # platform.claude.com/docs/zh-CN/models/sonnet-5/overview, of when it was the newest Sonnet
    (ANTHROPIC, "claude-sonnet-5", 2.00, 0.20, 10.00, 0.192),  # 0.0800 + 0.0120 + 0.1000
    # developers.openai.com/api/docs/models/gpt-5-nano, …/gpt-5-codex, …/gpt-4-turbo, …/gpt-4
    (OPENAI, "gpt-5-nano", 0.05, 0.005, 0.40, 0.0063),  # 0.0020 + 0.0003 + 0.0040
    (OPENAI, "gpt-5-codex", 1.25, 0.125, 10.00, 0.1575),  # 0.0500 + 0.0075 + 0.1000
    (OPENAI, "gpt-4-turbo", 10.00, 10.00, 30.00, 1.30),  # 0.4000 + 0.6000 + 0.3000
    (OPENAI, "gpt-4", 30.00, 30.00, 60.00, 3.60),  # 1.2000 + 1.8000 + 0.6000
    # docs.x.ai/docs/models, as archived on 2 June 2025 (archive.fo/dYUtw)
    (XAI, "grok-3", 3.00, 0.75, 15.00, 0.315),  # 0.1200 + 0.0450 + 0.1500
    (XAI, "grok-3-mini", 0.30, 0.075, 0.50, 0.0215),  # 0.0120 + 0.0045 + 0.0050
    # console.groq.com/docs/models
    (GROQ, "llama-3.3-70b-versatile", 0.59, 0.59, 0.79, 0.0669),  # 0.0236 + 0.0354 + 0.0079
    (GROQ, "llama-3.1-8b-instant", 0.05, 0.05, 0.08, 0.0058),  # 0.0020 + 0.0030 + 0.0008
]
# api-docs.deepseek.com/quick_start/pricing, off peak: from 1 to 4 and from 6 to 10 o'clock (UTC) it is twice that.
SEEN_BY_HOUR = [
    (DEEPSEEK, "deepseek-flash", 0.15, 0.003, 0.60, 0.01218),  # 0.00600 + 0.00018 + 0.00600
    (DEEPSEEK, "deepseek-v4-pro", 0.66, 0.022, 1.98, 0.04752),  # 0.02640 + 0.00132 + 0.01980
]


@pytest.mark.parametrize(("base_url", "model", "new", "cached", "out", "by_hand"), QUOTED + SEEN)
def test_what_published_prices_say(priced, base_url, model, new, cached, out, by_hand):
    assert of_a_million(new, cached, out) == pytest.approx(by_hand, abs=1e-12)
    assert asked_of(priced, base_url, model) == (pytest.approx(by_hand, abs=1e-12), "USD", "local")


@pytest.mark.parametrize(("base_url", "model", "new", "cached", "out", "by_hand"), SEEN_BY_HOUR)
def test_what_published_prices_say_that_go_by_the_hour(priced, base_url, model, new, cached, out, by_hand):
    assert of_a_million(new, cached, out) == pytest.approx(by_hand, abs=1e-12)
    amount, currency, source = asked_of(priced, base_url, model)
    assert amount in (pytest.approx(by_hand, abs=1e-12), pytest.approx(2 * by_hand, abs=1e-12))
    assert (currency, source) == ("USD", "local")


def of_a_million(new: float, cached: float, out: float) -> float:
    return (40_000 * new + 60_000 * cached + 10_000 * out) / MILLION


def asked_of(spans: Any, base_url: str, model: str) -> tuple[Any, ...]:
    """What the span of such a call says of its cost."""
    wire = Wire(base_url)
    ask(wire, model, usage_of(100_000, 60_000, 10_000, thought=4_000))
    wire.close()
    (span,) = spans
    return cost_of(span)


def test_a_long_cached_conversation(priced):
    """500 turns that send all that was said before: 17 dollars. Who takes no notice of what was cached makes 149 of it.

    Turn n sends 470 * n tokens, of which 470 * (n - 1) are cached, and gets 232. As 1 + 2 + … + 500 = 125,250, in all:

        sent     470 * 125,250           58,867,500
        cached   470 * (125,250 - 500)   58,632,500   at 0.25 a million   14.658125
        new      470 * 500                  235,000   at 2.50              0.587500
        out      232 * 500                  116,000   at 15.00             1.740000
                                                                          16.985625
    """
    assert 58.8675 * 2.5 + 0.116 * 15 == pytest.approx(148.90875)
    wire = Wire(OPENAI)
    for turn in range(1, 501):
        ask(wire, "gpt-5.4", usage_of(470 * turn, 470 * (turn - 1), 232))
    wire.close()
    assert sum(cost_of(span)[0] for span in priced) == pytest.approx(16.985625, abs=1e-9)


def test_a_cached_conversation_with_what_it_writes_into_the_cache(priced):
    """100 turns with Claude Opus 5, whose prices stand on its own page: 2.04 dollars; without a cache 12.45.

    Turn n sends 470 * n tokens, of which 470 * (n - 1) are read from the cache and 470 written to it, and gets 232:

        read      470 * (5,050 - 100)     2,326,500   at 0.50 a million    1.16325
        written   470 * 100                  47,000   at 6.25              0.29375
        out       232 * 100                  23,200   at 25.00             0.58000
                                                                           2.03700
    """
    wire = Wire(ANTHROPIC)
    for turn in range(1, 101):
        details = {"cached_tokens": 470 * (turn - 1), "cache_write_tokens": 470}
        ask(wire, "claude-opus-5", usage_of(470 * turn, 0, 232, prompt_tokens_details=details))
    wire.close()
    assert sum(cost_of(span)[0] for span in priced) == pytest.approx(2.037, abs=1e-9)


def test_responses_streams_and_cached_writes(priced):
    counts = {
        "input_tokens": 100_000,
        "input_tokens_details": {"cached_tokens": 60_000, "cache_write_tokens": 30_000},
        "output_tokens": 10_000,
        "output_tokens_details": {"reasoning_tokens": 4_000},
        "total_tokens": 110_000,
    }
    wire = Wire(ANTHROPIC)
    wire.answer(json.dumps(response(model="claude-sonnet-5", usage=counts)).encode(), JSON)
    wire.call("responses", model="claude-sonnet-5")
    wire.close()
    (span,) = priced
    # 10,000 new at 2.00, 30,000 written to the cache at 2.50, 60,000 read from it at 0.20, 10,000 out at 10.00
    assert cost_of(span)[0] == pytest.approx(0.020 + 0.075 + 0.012 + 0.100)


def test_a_flexible_or_a_hurried_tier_has_its_own_price(priced):
    wire = Wire(OPENAI)
    for tier in ("default", "flex", "priority"):
        ask(wire, "o3", usage_of(100_000, 0, 10_000), service_tier=tier)
    wire.close()
    standard, flex, priority = (cost_of(span)[0] for span in priced)
    assert standard == pytest.approx(0.28)  # 100,000 at 2.00, 10,000 at 8.00
    assert flex == pytest.approx(0.14)  # half of it
    assert priority > standard


@pytest.mark.parametrize("base_url", [XAI, GEMINI])
def test_thought_that_only_the_total_counts_is_paid_for(priced, base_url):
    model, out = ("grok-4.7", 6.0) if base_url is XAI else ("gemini-2.5-pro", 10.0)
    sent = 2.0 if base_url is XAI else 1.25
    wire = Wire(base_url)
    ask(wire, model, usage_of(1_000, 0, 500, total_tokens=4_500))
    wire.close()
    (span,) = priced
    assert cost_of(span)[0] == pytest.approx((1_000 * sent + 3_500 * out) / MILLION)


def test_what_was_cached_may_stand_elsewhere(priced):
    wire = Wire(MOONSHOT)
    usage = usage_of(100_000, 0, 10_000, cached_tokens=60_000)
    del usage["prompt_tokens_details"]
    ask(wire, "kimi-k3", usage)
    wire.close()
    (span,) = priced
    assert cost_of(span)[0] == pytest.approx(0.288)


def test_the_replys_own_figure_goes_first(priced):
    wire = Wire(OPENAI)
    ask(wire, "gpt-4o", usage_of(100, 0, 10, cost=0))
    ask(wire, "gpt-4o", usage_of(100, 0, 10, cost="free"))
    wire.close()
    assert [cost_of(span)[2] for span in priced] == ["provider", "local"]


def test_the_model_that_answered_goes_first(priced):
    wire = Wire(OPENAI)
    for answered in ("gpt-4o-2024-08-06", "my-deployment"):
        wire.answer(json.dumps(chat(model=answered, usage=usage_of(MILLION, 0, 0))).encode(), JSON)
        wire.call("chat", model="gpt-4o-mini")
    wire.close()
    assert [cost_of(span)[0] for span in priced] == pytest.approx([2.50, 0.15])


UNKNOWN = [
    (OPENAI, "my-own-model", usage_of(100, 0, 10)),
    (OPENAI, "", usage_of(100, 0, 10)),
    (OPENAI, "moderation", usage_of(100, 0, 10)),  # in the package, without any price
    ("https://eu.watsonx.ai/v1", "gpt-4o", usage_of(100, 0, 10)),  # a provider without prices
    (OPENAI, "gpt-4o", None),
    (OPENAI, "gpt-4o", {"prompt_tokens": 100}),
    (OPENAI, "gpt-4o", {"completion_tokens": 100}),
    (OPENAI, "gpt-4o", usage_of(100, 200, 10)),  # more cached than sent
    (OPENAI, "gpt-4o", {"prompt_tokens": "100", "completion_tokens": -5}),
]


@pytest.mark.parametrize(("base_url", "model", "usage"), UNKNOWN)
def test_what_is_not_known_is_left_out(priced, base_url, model, usage, warned):
    wire = Wire(base_url)
    ask(wire, model, usage)
    wire.close()
    (span,) = priced
    assert cost_of(span) == ()


def test_names_of_models_do_not_pile_up():
    from genai_prices import data_snapshot

    prices = Prices()
    prices.load()
    until(lambda: prices.book)
    for number in range(MAX_MODELS + 50):
        prices.amount("openai", [f"gpt-4o-{number}-mine"], {"input_tokens": 1, "output_tokens": 1}, {})
    assert prices.book is not None
    assert len(prices.book.models) == MAX_MODELS
    snapshot = data_snapshot.get_snapshot()
    assert len(snapshot._lookup_cache) + len(snapshot._provider_cache) + len(snapshot._provider_misses) < 10


def test_prices_that_the_application_updates_count(priced):
    from genai_prices import data_snapshot

    wire = Wire(OPENAI)
    ask(wire, "gpt-4o", usage_of(MILLION, 0, 0))
    newer = copy.deepcopy(data_snapshot.get_snapshot())
    (openai,) = (provider for provider in newer.providers if provider.id == "openai")
    model = openai.find_model("gpt-4o")
    model.prices.input_mtok = model.prices.input_mtok * 2
    data_snapshot.set_custom_snapshot(newer)
    try:
        ask(wire, "gpt-4o", usage_of(MILLION, 0, 0))
    finally:
        data_snapshot.set_custom_snapshot(None)
    wire.close()
    assert [cost_of(span)[0] for span in priced] == pytest.approx([2.50, 5.00])


def test_annotated_spans_have_it_too():
    provider = TracerProvider(shutdown_on_exit=False)
    peer = GenAIInstrumentor()
    peer.instrument(tracer_provider=provider)
    try:
        with capture_spans(tracer_provider=provider, traces="turn", cost="prices") as spans:
            until_priced(spans)
            wire = Wire(OPENAI)
            ask(wire, "gpt-4o", usage_of(MILLION, 0, 0))
            wire.close()
    finally:
        peer.uninstrument()
    (span,) = spans
    assert span.instrumentation_scope.name.startswith("opentelemetry.")
    assert cost_of(span) == (2.5, "USD", "local")


def test_the_metric_says_that_it_was_computed():
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with capture_spans(meter_provider=provider, traces="turn", cost="prices") as spans:
        until_priced(spans)
        wire = Wire(OPENAI)
        ask(wire, "gpt-4o", usage_of(MILLION, 0, 0))
        wire.close()
    data: Any = reader.get_metrics_data()
    metrics = {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    (point,) = metrics["gen_ai.client.operation.cost"].data.data_points
    assert point.max == 2.5
    assert point.attributes["gen_ai.usage.cost.source"] == "local"
    provider.shutdown()


@pytest.mark.parametrize(
    ("package", "said"),
    [
        (None, "genai-prices is not installed: pip install genai-prices."),
        (types.ModuleType("genai_prices"), "genai-prices cannot be used (AttributeError: "),
    ],
)
def test_without_the_package_there_is_one_clear_message(monkeypatch, caplog, package, said):
    monkeypatch.setitem(sys.modules, "genai_prices", package)
    with (
        caplog.at_level(logging.DEBUG, logger="otel_llm_sessions"),
        capture_spans(traces="turn", cost="prices") as spans,
    ):
        until(lambda: caplog.records)
        wire = Wire(OPENAI)
        for _ in range(3):
            ask(wire, "gpt-4o", usage_of(100, 0, 10))
        ask(wire, "gpt-4o", usage_of(100, 0, 10, cost=0.5))
        wire.close()
    (record,) = [record for record in caplog.records if record.name == "otel_llm_sessions"]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("OTEL_LLM_SESSIONS_COST=prices: " + said)
    assert [cost_of(span) for span in spans] == [(), (), (), (0.5, "USD", "provider")]
