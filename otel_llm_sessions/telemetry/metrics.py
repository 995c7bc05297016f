"""The metrics of a model call, by the GenAI conventions; never with a session id."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from opentelemetry.context import Context
from opentelemetry.metrics import Meter, MeterProvider, NoOpMeterProvider, get_meter_provider
from opentelemetry.trace import INVALID_SPAN, set_span_in_context
from opentelemetry.util.types import AttributeValue

from otel_llm_sessions.telemetry import semconv
from otel_llm_sessions.version import __version__

Attributes = Mapping[str, AttributeValue]

NO_EXEMPLARS = set_span_in_context(INVALID_SPAN, Context())
"""The context of token counts. The duration's exemplars already lead to the call's span; offering one for each count
too costs the SDK (1.45) a sixth of a record."""


class CallMetrics(Protocol):
    """Records what one finished call contributes to the metrics."""

    def record(
        self, asked: Attributes, answered: Attributes, seconds: float, first_chunk: float | None, context: Context
    ) -> None:
        """Record one call.

        Args:
            asked: the attributes that the call's span was created with; the low-cardinality ones are kept.
            answered: the attributes that it got later.
            seconds: how long the call took.
            first_chunk: seconds to the first chunk of a stream; None if there was none.
            context: the context of the call's span, for exemplars.
        """
        ...


def latest_names_wanted() -> bool:
    """Whether ``OTEL_SEMCONV_STABILITY_OPT_IN`` asks for the newest names."""
    opted_in = os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "")
    return "gen_ai_latest_experimental" in {name.strip() for name in opted_in.split(",")}


def _kept(asked: Attributes, answered: Attributes) -> dict[str, AttributeValue]:
    kept = {name: asked[name] for name in semconv.ASKED_METRIC_ATTRIBUTES if name in asked}
    for name in semconv.ANSWERED_METRIC_ATTRIBUTES:
        if name in answered:
            kept[name] = answered[name]
    return kept


def without_server(kept: dict[str, AttributeValue]) -> None:
    """Take away what the conventions only recommend: the SDK hashes each attribute at each record."""
    kept.pop(semconv.SERVER_ADDRESS, None)
    kept.pop(semconv.SERVER_PORT, None)


class CurrentMetrics:
    """The metrics under the names that today's official instrumentation emits."""

    def __init__(self, meter: Meter) -> None:
        self._duration = meter.create_histogram(
            semconv.OPERATION_DURATION,
            unit="s",
            description="Duration of GenAI client operation",
            explicit_bucket_boundaries_advisory=semconv.DURATION_BUCKETS,
        )
        self._tokens = meter.create_histogram(
            semconv.TOKEN_USAGE,
            unit="{token}",
            description="Number of input and output tokens used by GenAI clients",
            explicit_bucket_boundaries_advisory=semconv.TOKEN_BUCKETS,
        )
        self._first_chunk = meter.create_histogram(
            semconv.TIME_TO_FIRST_CHUNK,
            unit="s",
            description="Time to receive the first chunk of a streamed response",
            explicit_bucket_boundaries_advisory=semconv.DURATION_BUCKETS,
        )

    def record(
        self, asked: Attributes, answered: Attributes, seconds: float, first_chunk: float | None, context: Context
    ) -> None:
        """Record one call; see ``CallMetrics.record``."""
        kept = _kept(asked, answered)
        self._duration.record(seconds, kept, context=context)
        if first_chunk is not None:
            self._first_chunk.record(first_chunk, kept, context=context)
        without_server(kept)
        for name, token_type in semconv.TOKEN_TYPES.items():
            count = answered.get(name)
            if isinstance(count, int):
                kept[semconv.TOKEN_TYPE] = token_type
                self._tokens.record(count, kept, context=NO_EXEMPLARS)


class LatestMetrics:
    """The metrics under the names of the newest conventions (``gen_ai.client.inference.*``)."""

    def __init__(self, meter: Meter) -> None:
        self._duration = meter.create_histogram(
            semconv.LATEST_DURATION,
            unit="s",
            description="GenAI client inference operation duration",
            explicit_bucket_boundaries_advisory=semconv.DURATION_BUCKETS,
        )
        self._first_chunk = meter.create_histogram(
            semconv.LATEST_TIME_TO_FIRST_CHUNK,
            unit="s",
            description="Time to receive the first chunk of a streamed response",
            explicit_bucket_boundaries_advisory=semconv.DURATION_BUCKETS,
        )
        self._histograms = {
            attribute: meter.create_histogram(
                name, unit="{token}", explicit_bucket_boundaries_advisory=semconv.TOKEN_BUCKETS
            )
            for attribute, name in semconv.LATEST_TOKEN_HISTOGRAMS.items()
        }
        self._counters = {
            attribute: meter.create_counter(name, unit="{token}")
            for attribute, name in semconv.LATEST_TOKEN_COUNTERS.items()
        }

    def record(
        self, asked: Attributes, answered: Attributes, seconds: float, first_chunk: float | None, context: Context
    ) -> None:
        """Record one call; see ``CallMetrics.record``."""
        kept = _kept(asked, answered)
        self._duration.record(seconds, kept, context=context)
        if first_chunk is not None:
            self._first_chunk.record(first_chunk, kept, context=context)
        without_server(kept)
        for name, counter in self._counters.items():
            count = answered.get(name)
            if isinstance(count, int):
                counter.add(count, kept, context=NO_EXEMPLARS)
        for name, histogram in self._histograms.items():
            count = answered.get(name)
            if isinstance(count, int):
                histogram.record(count, kept, context=NO_EXEMPLARS)


class MetricsSource:
    """Hands out the metrics of the meter provider in force, made anew when another provider is set."""

    def __init__(self, provider: MeterProvider | None) -> None:
        self._given = provider
        self._bound: MeterProvider | None = None
        self._metrics: CallMetrics | None = None

    def get(self) -> CallMetrics | None:
        """Return the metrics to record to, or None while no meter provider is set."""
        provider = self._given or get_meter_provider()
        if provider is not self._bound:
            self._metrics = _bind(provider)
            self._bound = provider
        return self._metrics


def _bind(provider: MeterProvider) -> CallMetrics | None:
    # The API's stand-in of an application that has set no provider (yet): recording would go nowhere.
    if isinstance(provider, NoOpMeterProvider) or type(provider).__name__ == "_ProxyMeterProvider":
        return None
    meter = provider.get_meter("otel_llm_sessions", __version__)
    return LatestMetrics(meter) if latest_names_wanted() else CurrentMetrics(meter)
