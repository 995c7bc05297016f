"""What a call needs of the running instrumentation: a value, made once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from otel_llm_sessions.openai.costs import Costs, NoCosts, PricedCosts
from otel_llm_sessions.openai.delta import Deltas
from otel_llm_sessions.openai.history import HistoryReader
from otel_llm_sessions.openai.propagation import Propagation
from otel_llm_sessions.openai.provider_lookup import ProviderLookup
from otel_llm_sessions.openai.request import TELLING, KeyLists
from otel_llm_sessions.openai.switch import Switch
from otel_llm_sessions.sessions.digest import DigestSource
from otel_llm_sessions.settings import Settings
from otel_llm_sessions.stores.asking import AskedStore, asked
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.stores.protocol import SessionStore
from otel_llm_sessions.telemetry.content.recorder import Recorder
from otel_llm_sessions.telemetry.metrics import MetricsSource
from otel_llm_sessions.telemetry.prices import Prices
from otel_llm_sessions.traces.home import Homes


@dataclass(frozen=True, slots=True)
class Runtime:
    """What calls share, from ``instrument()`` to ``uninstrument()``."""

    settings: Settings
    spans: str
    """The setting ``SPANS``."""
    is_by_session: bool
    """``TRACES=session``."""
    keys: KeyLists
    switch: Switch
    store: SessionStore
    asked: AskedStore
    """The store, as one that may answer late."""
    may_be_late: bool
    """Whether the store itself can be asked so; one that the application made only answers its callers."""
    never_waits: bool
    """Whether the store answers at once, always."""
    memory: MemoryStore | None
    """The store, where it is this process's own memory and nothing is claimed before it is recorded: used directly."""
    begins_at_once: bool
    """Whether calls begin at once, always: the store answers so, and nobody else is asked."""
    reads_more: bool
    """Whether requests are read for what only some settings ask for."""
    homes: Homes
    metrics: MetricsSource
    costs: Costs
    lookup: ProviderLookup | None
    propagation: Propagation | None
    histories: HistoryReader | None
    """Reads chat histories, where they are evidence."""
    contents: Recorder | None
    """Records what calls say; None where nobody wants to know it."""
    deltas: Deltas | None
    """Tells what of that is new; None where all of it is recorded each time."""


def make_runtime(
    settings: Settings, store: SessionStore, homes: Homes, metrics: MetricsSource, contents: Recorder | None = None
) -> Runtime:
    """Return the parts of an instrumentation.

    Args:
        settings: the settings.
        store: where turns are recorded.
        homes: where spans go.
        metrics: where metrics go.
        contents: what records contents, if anybody wants to know them.
    """
    switch = Switch()
    never_waits = not getattr(store, "waits", True)
    asked_store: Any = asked(store)
    keys = KeyLists(
        settings.headers,
        settings.body_keys,
        settings.metadata_keys,
        TELLING.union(settings.body_keys),
        frozenset(settings.body_keys),
        # The random id that stands in a key beside such a digest keeps ready-made tables off. A store's scope would do
        # no more, and is not known before the store has answered once, which the first call would have to wait for.
        DigestSource(settings.key, str),
        settings.baggage,
    )
    return Runtime(
        settings=settings,
        spans=settings.spans,
        is_by_session=settings.traces == "session",
        keys=keys,
        switch=switch,
        store=store,
        asked=asked_store,
        may_be_late=asked_store is store,
        never_waits=never_waits,
        memory=store if type(store) is MemoryStore and not settings.history else None,
        begins_at_once=never_waits and not settings.provider_lookup,
        reads_more=settings.history or settings.user,
        homes=homes,
        metrics=metrics,
        costs=_costs(settings.cost),
        lookup=ProviderLookup(asked_store, switch, settings) if settings.provider_lookup else None,
        propagation=Propagation(settings.propagate, settings.key) if settings.propagate else None,
        histories=_histories(settings, store) if settings.history else None,
        contents=contents,
        deltas=None if contents is None or settings.content == "full" else Deltas(_digests(settings, store)),
    )


def _costs(mode: str) -> Costs:
    if mode == "prices":
        return PricedCosts(Prices())
    return Costs() if mode == "provider" else NoCosts()


def _histories(settings: Settings, store: SessionStore) -> HistoryReader:
    is_sure = settings.key is not None or not getattr(store, "waits", True)
    return HistoryReader(_digests(settings, store), is_sure=is_sure)


def _digests(settings: Settings, store: SessionStore) -> DigestSource:
    return DigestSource(settings.key, lambda: store.scope)
