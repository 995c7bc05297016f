"""What a running instrumentation is made of: settings, store, and where spans and metrics go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from otel_llm_sessions.guard import is_applications, report
from otel_llm_sessions.openai.propagation import Propagation
from otel_llm_sessions.openai.provider_lookup import ProviderLookup
from otel_llm_sessions.openai.request import KeyLists
from otel_llm_sessions.sessions.link import Record
from otel_llm_sessions.settings import Settings
from otel_llm_sessions.stores.protocol import SessionStore
from otel_llm_sessions.telemetry.metrics import MetricsSource
from otel_llm_sessions.traces.home import Homes


class Runtime:
    """One instrumentation, from ``instrument()`` to ``uninstrument()``."""

    def __init__(
        self,
        settings: Settings,
        store: SessionStore,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        on_provider: Callable[[Any], None],
        at_exit: Callable[[], None],
    ) -> None:
        """Make the parts.

        Args:
            settings: the settings.
            store: where turns are recorded.
            tracer_provider: where spans go; None for the global one, whenever it is set.
            meter_provider: likewise for metrics.
            on_provider: called with each tracer provider that is met.
            at_exit: called then too, and for each meter provider: what is to be done at exit before they shut down.
        """
        self.settings = settings
        self._on_provider = on_provider
        self._at_exit = at_exit
        self.store = store
        self.store_never_waits = not getattr(store, "waits", True)
        self.homes = Homes(tracer_provider, settings, store, self._met)
        self.metrics = MetricsSource(meter_provider, at_exit)
        self.keys = KeyLists(
            settings.headers,
            settings.body_keys,
            settings.metadata_keys,
            frozenset(settings.body_keys),
            settings.baggage,
        )
        self.lookup = ProviderLookup(self) if settings.provider_lookup else None
        self.propagation = Propagation(settings.propagate, settings.key) if settings.propagate else None
        self.enabled = True
        self.records = True
        """Whether there is a store to record in; one of ours is closed with the instrumentation."""

    def _met(self, provider: Any) -> None:
        self._at_exit()
        self._on_provider(provider)

    def remember(self, record: Record | None) -> None:
        """Record what a turn left behind; may take a round trip."""
        if record is not None and self.records:
            try:
                self.store.put(record.keys, record.link)
            except Exception as error:
                self._failed(error)

    async def aremember(self, record: Record | None) -> None:
        """As ``remember``, for callers on an event loop."""
        if record is None or self.store_never_waits or not self.records:
            return self.remember(record)
        try:
            await self.store.aput(record.keys, record.link)
        except Exception as error:
            self._failed(error)

    def remember_soon(self, record: Record | None) -> None:
        """Record what a turn left behind, from where nothing may wait: a garbage collector, a cancelled task."""
        if record is None or not self.records:
            return
        put_soon = getattr(self.store, "put_soon", self.store.put)
        try:
            put_soon(record.keys, record.link)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        # A stream may be read on after `uninstrument()`: nothing is said of this package any more.
        if self.enabled or is_applications(error):
            report("record a turn", error)
