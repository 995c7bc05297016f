"""All that belongs to one tracer provider: its tracers, the roots that were opened with it, where spans stand."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Tracer, TracerProvider

from otel_llm_sessions import forks, semconv
from otel_llm_sessions.sessions.root_names import RootNames
from otel_llm_sessions.settings import Settings
from otel_llm_sessions.stores.protocol import SessionStore
from otel_llm_sessions.traces.placement import Placer, SessionPlacer, TurnPlacer
from otel_llm_sessions.traces.roots import Roots
from otel_llm_sessions.version import __version__

SCOPE = "otel_llm_sessions"
"""Instrumentation scope of the spans of calls."""


class Home:
    """What one tracer provider has of this package; made once for each, and kept by the calls that began with it."""

    __slots__ = ("has_ids", "placer", "provider", "tracer")

    def __init__(self, provider: TracerProvider, settings: Settings, store: SessionStore, since: int = 0) -> None:
        """Furnish a provider.

        Args:
            provider: where spans go.
            settings: the settings.
            store: what tells who opens a session's trace.
            since: when it took the place of another one, in nanoseconds since the epoch; 0 if it took nobody's.
        """
        self.provider = provider
        self.tracer: Tracer = provider.get_tracer(SCOPE, __version__, schema_url=semconv.SCHEMA_URL)
        """The tracer of calls."""
        self.has_ids = False
        """Whether roots have derived ids."""
        self.placer: Placer = TurnPlacer()
        """Where the spans of calls stand."""
        if settings.traces == "session":
            names = RootNames(settings.root_name)
            key, repeat = settings.key, settings.root_repeat
            roots = Roots(provider, store, settings.namespace, names, key, since=since, repeat=repeat)
            self.has_ids = roots.takes_ids
            self.placer = SessionPlacer(roots, settings.max_turns, settings.max_age)


class Homes:
    """Hands out the home of the provider in force: given, or the global one, whenever it is set."""

    def __init__(
        self,
        provider: TracerProvider | None,
        settings: Settings,
        store: SessionStore,
        on_provider: Callable[[Any], None] = lambda _: None,
    ) -> None:
        """Begin with no home.

        Args:
            provider: the provider; None for the global one.
            settings: the settings.
            store: what tells who opens a session's trace.
            on_provider: called with each provider that is met.
        """
        self._given = provider
        self._settings = settings
        self._store = store
        self._on_provider = on_provider
        self._home: Home | None = None
        self._lock = forks.Lock()

    def get(self) -> Home:
        """Return the home; asked anew for every call, since a provider may be set late or replaced."""
        provider = self._given if self._given is not None else trace.get_tracer_provider()
        home = self._home
        return home if home is not None and home.provider is provider else self._of_another(provider)

    def _of_another(self, provider: TracerProvider) -> Home:
        with self._lock.held:
            former = self._home
            if former is not None and former.provider is provider:
                return former
            since = time.time_ns() if former is not None and former.has_ids else 0
            self._home = home = Home(provider, self._settings, self._store, since)
        self._on_provider(provider)
        return home
