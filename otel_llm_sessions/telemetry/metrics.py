"""The metrics of a model call, by the GenAI conventions; never with a session id."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from opentelemetry.context import Context, set_value
from opentelemetry.environment_variables import OTEL_PYTHON_METER_PROVIDER
from opentelemetry.metrics import Meter, MeterProvider, NoOpMeterProvider, get_meter_provider
from opentelemetry.util.types import AttributeValue

from otel_llm_sessions import forks, semconv
from otel_llm_sessions.telemetry.cardinality import MAX_SETS, Cardinality
from otel_llm_sessions.version import __version__

_api: Any = sys.modules.get("opentelemetry.metrics._internal")

Attributes = Mapping[str, AttributeValue]

UNKNOWN = "unknown"
"""``gen_ai.token.modality`` of tokens that the reply does not tell apart."""

_TOLD_OF_COST = (semconv.USAGE_COST_CURRENCY, semconv.USAGE_COST_SOURCE)

NO_EXEMPLARS = set_value("otel_llm_sessions.no_exemplars", True, Context())
"""The context of token counts, in which there is no span. The duration's exemplars already lead to the call's; offering
one for each count too costs the SDK (1.45) a sixth of a record. An empty context would mean the current one."""


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


def _required(kept: Attributes) -> dict[str, AttributeValue]:
    """Return the attributes that the conventions require of all metrics; costs have the model that answered too."""
    return {name: kept[name] for name in kept if name != semconv.RESPONSE_MODEL}


def _by_modality(name: str, total: int, answered: Attributes) -> Iterator[tuple[str, int]]:
    """Yield how much of a count was which modality; what the reply does not say is of an unknown one."""
    rest = total
    for modality, attribute in semconv.TOKEN_MODALITIES.get(name, ()):
        part = answered.get(attribute)
        if isinstance(part, int) and part <= rest:
            rest -= part
            yield modality, part
    if rest or not total:
        yield UNKNOWN, rest


def _key_of(asked: Attributes, answered: Attributes) -> tuple[object, ...]:
    """Return the values of ``ASKED_METRIC_ATTRIBUTES`` and ``ANSWERED_METRIC_ATTRIBUTES``.

    Written out: a walk through the tables takes three times as long, which is as much as two attributes of a span.
    """
    of_request, of_reply = asked.get, answered.get
    return (
        of_request(semconv.OPERATION_NAME),
        of_request(semconv.PROVIDER_NAME),
        of_request(semconv.REQUEST_MODEL),
        of_reply(semconv.RESPONSE_MODEL),
        of_reply(semconv.ERROR_TYPE),
    )


def _sorted(attributes: Attributes) -> Attributes:
    """Return the attributes by name: the SDK (1.45) sorts them at each record, which is faster if they are."""
    return dict(sorted(attributes.items()))


_Series = tuple[Attributes, Attributes, tuple[tuple[str, Attributes], ...]]
"""The attributes of a call's costs, its times, and each of its counts of tokens: kept, as most calls have the same."""


class _Times:
    """The two histograms of seconds, under the names given."""

    def __init__(self, meter: Meter, duration: str, first_chunk: str) -> None:
        self.duration, self.first_chunk = (
            meter.create_histogram(
                name, unit="s", description=text, explicit_bucket_boundaries_advisory=semconv.DURATION_BUCKETS
            )
            for name, text in (
                (duration, semconv.DURATION_DESCRIPTION),
                (first_chunk, semconv.FIRST_CHUNK_DESCRIPTION),
            )
        )

    def record(self, seconds: float, first_chunk: float | None, kept: Attributes, context: Context) -> None:
        self.duration.record(seconds, kept, context=context)
        if first_chunk is not None:
            self.first_chunk.record(first_chunk, kept, context=context)


class _Costs:
    """The histogram of what calls cost, by both models, currency and source; not by errors."""

    def __init__(self, meter: Meter) -> None:
        self._histogram = meter.create_histogram(
            semconv.OPERATION_COST,
            unit=semconv.COST_UNIT,
            description=semconv.COST_DESCRIPTION,
            explicit_bucket_boundaries_advisory=semconv.COST_BUCKETS,
        )

    def record(self, kept: Attributes, answered: Attributes) -> None:
        amount = answered[semconv.USAGE_COST_AMOUNT]
        told = {**kept, **{name: answered[name] for name in _TOLD_OF_COST if name in answered}}
        told.pop(semconv.ERROR_TYPE, None)
        if isinstance(amount, float):
            self._histogram.record(amount, _sorted(told), context=NO_EXEMPLARS)


class CurrentMetrics:
    """The metrics under the names that today's official instrumentation emits."""

    def __init__(self, meter: Meter) -> None:
        self._cardinality = Cardinality()
        self._series: dict[tuple[object, ...], _Series] = {}
        self._times = _Times(meter, semconv.OPERATION_DURATION, semconv.TIME_TO_FIRST_CHUNK)
        self._tokens = meter.create_histogram(
            semconv.TOKEN_USAGE,
            unit="{token}",
            description="Number of input and output tokens used by GenAI clients",
            explicit_bucket_boundaries_advisory=semconv.TOKEN_BUCKETS,
        )
        self._costs = _Costs(meter)

    def record(
        self, asked: Attributes, answered: Attributes, seconds: float, first_chunk: float | None, context: Context
    ) -> None:
        """Record one call; see ``CallMetrics.record``."""
        key = _key_of(asked, answered)
        kept, shared, of_tokens = self._series.get(key) or self._of_new(key, asked, answered)
        self._times.duration.record(seconds, shared, context=context)
        if first_chunk is not None:
            self._times.first_chunk.record(first_chunk, shared, context=context)
        for name, attributes in of_tokens:
            count = answered.get(name)
            if isinstance(count, int):
                self._tokens.record(count, attributes, context=NO_EXEMPLARS)
        if semconv.USAGE_COST_AMOUNT in answered:
            self._costs.record(kept, answered)

    def _of_new(self, key: tuple[object, ...], asked: Attributes, answered: Attributes) -> _Series:
        kept = _sorted(self._cardinality.bounded(_kept(asked, answered)))
        shared = _required(kept)
        # A dict for each, since the SDK (before 1.45) keeps the one it is given.
        of_tokens = tuple(
            (name, _sorted({**shared, semconv.TOKEN_TYPE: kind})) for name, kind in semconv.TOKEN_TYPES.items()
        )
        series = kept, shared, of_tokens
        if len(self._series) < MAX_SETS:
            self._series[key] = series
        return series


class LatestMetrics:
    """The metrics under the names of the newest conventions.

    Those are ``gen_ai.client.inference.*`` for calls of a model; fetching or cancelling a response is none, and stays
    with ``gen_ai.client.operation.*``.
    """

    def __init__(self, meter: Meter) -> None:
        self._cardinality = Cardinality()
        self._times = _Times(meter, semconv.LATEST_DURATION, semconv.LATEST_TIME_TO_FIRST_CHUNK)
        self._other_times = _Times(meter, semconv.OPERATION_DURATION, semconv.TIME_TO_FIRST_CHUNK)
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
        self._costs = _Costs(meter)

    def record(
        self, asked: Attributes, answered: Attributes, seconds: float, first_chunk: float | None, context: Context
    ) -> None:
        """Record one call; see ``CallMetrics.record``."""
        kept = self._cardinality.bounded(_kept(asked, answered))
        shared = _required(kept)
        if asked.get(semconv.OPERATION_NAME) not in semconv.INFERENCE_OPERATIONS:
            return self._other_times.record(seconds, first_chunk, shared, context)
        self._times.record(seconds, first_chunk, shared, context)
        if semconv.USAGE_COST_AMOUNT in answered:
            self._costs.record(kept, answered)
        return self._count(shared, answered)

    def _count(self, kept: dict[str, AttributeValue], answered: Attributes) -> None:
        of_tokens = dict(kept)
        if semconv.ERROR_TYPE in kept and not any(name in answered for name in semconv.TOKEN_TYPES):
            # A call that failed before it used anything counts as 0 tokens, which no error needs to tell apart.
            of_tokens.pop(semconv.ERROR_TYPE)
        for name, counter in self._counters.items():
            # They ask for a count of 0 where there is no usage, but not of the parts (cached, reasoning).
            count = answered.get(name, 0 if name in semconv.TOKEN_TYPES else None)
            if isinstance(count, int):
                for modality, part in _by_modality(name, count, answered):
                    counter.add(part, {**of_tokens, semconv.TOKEN_MODALITY: modality}, context=NO_EXEMPLARS)
        for name, histogram in self._histograms.items():
            count = answered.get(name)
            if isinstance(count, int):
                histogram.record(count, kept, context=NO_EXEMPLARS)


class MetricsSource:
    """Hands out the metrics of the meter provider in force, made anew when another provider is set.

    While none is set, ``get_meter_provider()`` reads the environment at each call (opentelemetry-api 1.45), which costs
    as much as an attribute of a span; so the API's variable is looked at first, where it is there.
    """

    def __init__(self, provider: MeterProvider | None, on_provider: Callable[[], None] = lambda: None) -> None:
        self._given = provider
        self._on_provider = on_provider
        self._bound: MeterProvider | None = None
        self._metrics: CallMetrics | None = None
        self._lock = forks.Lock()
        may_load = OTEL_PYTHON_METER_PROVIDER in os.environ
        self._looks_first = not may_load and hasattr(_api, "_METER_PROVIDER")

    def get(self) -> CallMetrics | None:
        """Return the metrics to record to, or None while no meter provider is set."""
        if self._given is None and self._looks_first and _api._METER_PROVIDER is None:
            return None
        provider = self._given if self._given is not None else get_meter_provider()
        return self._metrics if provider is self._bound else self._of_another(provider)

    def _of_another(self, provider: MeterProvider) -> CallMetrics | None:
        # The SDK (1.45) takes instruments that two threads make at the same time for two of the same name, and says so.
        with self._lock.held:
            if provider is not self._bound:
                self._metrics = _bind(provider)
                self._bound = provider
                self._on_provider()
            return self._metrics


def _bind(provider: MeterProvider) -> CallMetrics | None:
    # The API's stand-in of an application that has set no provider (yet): recording would go nowhere.
    if isinstance(provider, NoOpMeterProvider) or type(provider).__name__ == "_ProxyMeterProvider":
        return None
    meter = provider.get_meter("otel_llm_sessions", __version__, schema_url=semconv.SCHEMA_URL)
    return LatestMetrics(meter) if latest_names_wanted() else CurrentMetrics(meter)
