"""``OpenAISessionsInstrumentor``: settings in, patch on, patch off."""

from __future__ import annotations

import atexit
import sys
import weakref
from collections.abc import Collection
from dataclasses import fields
from types import ModuleType
from typing import Any

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from otel_llm_sessions import threads
from otel_llm_sessions.openai.opener import SessionOpener
from otel_llm_sessions.openai.patch import Patch
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.openai.watch import end_all
from otel_llm_sessions.session import SessionSpanProcessor, set_opener
from otel_llm_sessions.sessions.store import SessionStore
from otel_llm_sessions.sessions.stores.opening import open_store
from otel_llm_sessions.settings import Settings, settings_from

INSTRUMENTS = ("openai >= 1.66, < 4",)

OTHER_KEYWORDS = frozenset({"tracer_provider", "meter_provider", "logger_provider"})

_processors: weakref.WeakKeyDictionary[Any, SessionSpanProcessor] = weakref.WeakKeyDictionary()
"""The processor of each provider: a provider has no way to remove one, so it is switched off and on."""

_active: Patch | None = None


def _on_import(openai: ModuleType) -> None:
    if _active is not None:
        _active.apply(openai)


class OpenAISessionsInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Instruments the ``openai`` client: every chat and responses call becomes a span of its session.

    ``opentelemetry-instrument`` finds it through its entry point. In code::

        OpenAISessionsInstrumentor().instrument(store="redis://localhost")

    Keywords are the settings (see the README's table), and ``tracer_provider`` and ``meter_provider``. May be called
    before or after ``import openai``, and before or after the providers are set.

    Raises:
        ValueError: a setting has a value that is not valid.
        TypeError: there is no such keyword.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of the client that are supported."""
        return INSTRUMENTS

    def _instrument(self, **kwargs: Any) -> None:
        global _active
        names = {field.name for field in fields(Settings)}
        unknown = sorted(set(kwargs) - names - OTHER_KEYWORDS)
        if unknown:
            allowed = ", ".join(sorted(names | OTHER_KEYWORDS))
            raise TypeError(f"instrument() has no keyword {', '.join(unknown)}: expected any of {allowed}")
        given_store = kwargs.get("store")
        if isinstance(given_store, SessionStore):
            settings, store = settings_from({**kwargs, "store": None}), given_store
        else:
            settings = settings_from(kwargs)
            store = open_store(settings.store, ttl=settings.ttl, max_keys=settings.max_keys)
        runtime = Runtime(settings, store, kwargs.get("tracer_provider"), kwargs.get("meter_provider"), _add_processor)
        self._runtime = runtime
        self._patch = _active = Patch(runtime)
        set_opener(SessionOpener(runtime, threads.carry_sessions))
        runtime.tracers.get()
        _watch_imports()
        openai = sys.modules.get("openai")
        if openai is not None:
            _active.apply(openai)

    def _uninstrument(self, **kwargs: Any) -> None:
        global _active
        _active = None
        set_opener(None)
        threads.stop_carrying()
        self._patch.remove()
        for processor in _processors.values():
            processor.enabled = False
        self._runtime.store.close()


def _add_processor(provider: Any) -> None:
    processor = _processors.get(provider)
    if processor is not None:
        processor.enabled = True
    elif hasattr(provider, "add_span_processor"):
        _processors[provider] = processor = SessionSpanProcessor()
        provider.add_span_processor(processor)


_watching = False


def _watch_imports() -> None:
    global _watching
    if not _watching:
        _watching = True
        wrapt.register_post_import_hook(_on_import, "openai")
        atexit.register(end_all)
