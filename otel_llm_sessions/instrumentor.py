"""``OpenAISessionsInstrumentor``: settings in, patch on, patch off."""

from __future__ import annotations

import functools
import logging
import sys
import weakref
from collections.abc import Callable, Collection
from dataclasses import fields
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import wrapt
from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from otel_llm_sessions import forks, threads
from otel_llm_sessions.again import watch_later_imports
from otel_llm_sessions.evaluating import set_evaluator
from otel_llm_sessions.flushing import flush_held
from otel_llm_sessions.guard import report, say
from otel_llm_sessions.session import SessionSpanProcessor, set_entrance
from otel_llm_sessions.settings import Settings, settings_from
from otel_llm_sessions.stores.protocol import SessionStore, lacks

if TYPE_CHECKING:
    from otel_llm_sessions.openai.entrance import SessionEntrance
    from otel_llm_sessions.openai.evaluating import SessionEvaluator
    from otel_llm_sessions.openai.patch import Patch
    from otel_llm_sessions.openai.runtime import Runtime

INSTRUMENTS = ("openai >= 1.66, < 4",)

OTHER_KEYWORDS = frozenset({"tracer_provider", "meter_provider", "logger_provider"})

MEMORY = "memory://"


class Stamped(NamedTuple):
    """A provider that has a ``SessionSpanProcessor``."""

    provider: Callable[[], Any]
    """Returns it, or None when it is gone."""
    processor: SessionSpanProcessor


_stamped: dict[int, Stamped] = {}
"""The processor of each provider: a provider has no way to remove one, so it is switched off and on.

By the provider's identity: it need not be hashable, nor equal to itself alone (logfire's is a dataclass).
"""


class Instrumentation:
    """One instrumentation, from ``instrument()`` to ``uninstrument()``.

    What it is made of is imported when openai is, or at the first ``session(...)``, so that a process that uses
    neither starts as fast as without it.
    """

    def __init__(
        self, settings: Settings, store: SessionStore | None, is_store_ours: bool, keywords: dict[str, Any]
    ) -> None:
        self._settings = settings
        self._store = store
        self._is_store_ours = is_store_ours
        self._tracer_provider = keywords.get("tracer_provider")
        self._meter_provider = keywords.get("meter_provider")
        self._logger_provider = keywords.get("logger_provider")
        self._lock = forks.Lock()
        self._made: tuple[Runtime, Patch, SessionEntrance] | None = None
        self._evaluator: SessionEvaluator | None = None
        self._is_over = False
        try:
            add_processor(self._tracer_provider if self._tracer_provider is not None else trace.get_tracer_provider())
        except Exception as error:
            report("find the tracer provider", error)

    def patch(self, openai: ModuleType) -> None:
        """Wrap the client's request methods, unless ``stop`` has been called meanwhile."""
        try:
            with self._lock.held:
                if not self._is_over:
                    self._make()[1].apply(openai)
        except Exception as error:
            report("patch the client", error)

    def patch_imported(self) -> None:
        """Wrap those of the client that is there, or is a moment later: another thread may be importing it."""
        try:
            import openai
        except Exception as error:  # it failed there
            return report("find the client", error)
        return self.patch(openai)

    def entrance(self) -> SessionEntrance | None:
        """Return what puts ``session(...)`` into its session's trace; None if it cannot be made."""
        try:
            return self._make()[2]
        except Exception as error:
            report("open a session", error)
            return None

    def evaluator(self) -> SessionEvaluator:
        """Return what takes judgements."""
        if self._evaluator is None:
            from otel_llm_sessions.openai.evaluating import SessionEvaluator
            from otel_llm_sessions.openai.watch import end_all_at_exit
            from otel_llm_sessions.telemetry.events import EventsSource

            self._evaluator = SessionEvaluator(self._make()[0], EventsSource(self._logger_provider, end_all_at_exit))
        return self._evaluator

    def write_out(self, seconds: float) -> None:
        """Wait until a shared store has what calls left behind, for so many seconds at most."""
        guarded = sys.modules.get("otel_llm_sessions.stores.guarded")
        if guarded is not None and self._made is not None:
            store = self._made[0].store
            if isinstance(store, guarded.GuardedStore):
                store.write_out(seconds)

    def stop(self) -> None:
        """Put everything back as it was; a store that the application made stays open."""
        with self._lock.held:
            self._is_over = True
        if self._made is not None:
            from otel_llm_sessions.openai.held import HELD
            from otel_llm_sessions.openai.notes import settle

            settle()
            HELD.settle()
        for stamped in list(_stamped.values()):
            stamped.processor.enabled = False
        store = self._store
        if self._made is not None:
            from otel_llm_sessions import tasks

            runtime, patch, _ = self._made
            patch.remove()
            threads.stop_carrying()
            tasks.stop_carrying()
            store = runtime.store
            runtime.switch.records = not self._is_store_ours
        if store is not None and self._is_store_ours:
            try:
                store.close()
            except Exception as error:
                report("close the store", error)

    def _make(self) -> tuple[Runtime, Patch, SessionEntrance]:
        with self._lock.held:
            if self._made is None:
                from otel_llm_sessions import tasks
                from otel_llm_sessions.openai.entrance import SessionEntrance
                from otel_llm_sessions.openai.patch import Patch
                from otel_llm_sessions.openai.runtime import make_runtime
                from otel_llm_sessions.openai.watch import end_all_at_exit
                from otel_llm_sessions.stores.memory import MemoryStore
                from otel_llm_sessions.telemetry.content.making import recorder_of
                from otel_llm_sessions.telemetry.metrics import MetricsSource
                from otel_llm_sessions.traces.home import Homes

                end_all_at_exit()
                store = self._store if self._store is not None else MemoryStore(self._settings.max_keys)

                def met(provider: Any) -> None:
                    end_all_at_exit()
                    add_processor(provider)

                homes = Homes(self._tracer_provider, self._settings, store, met)
                metrics = MetricsSource(self._meter_provider, end_all_at_exit)
                logs = self._logger_provider, end_all_at_exit
                contents = recorder_of(self._settings.content_limit, self._settings.content_hook, *logs)
                runtime = make_runtime(self._settings, store, homes, metrics, contents)
                carry = functools.partial(threads.carry_sessions, self._settings.threads)
                self._made = runtime, Patch(runtime), SessionEntrance(runtime, carry, tasks.carry_sessions)
            return self._made


_running: Instrumentation | None = None

_switching = forks.Lock()
"""Held while the client is instrumented or un-instrumented: of two threads that do so at once, one would leave it
instrumented for good."""


def _on_import(openai: ModuleType) -> None:
    watch_later_imports("openai", _on_import)  # wrapt forgets its hook once it has run
    if _running is not None:
        _running.patch(openai)


def add_processor(provider: Any) -> None:
    """Have ``session.id`` stamped on the spans of a provider; does nothing for one of the API only, or twice."""
    try:
        if hasattr(provider, "add_span_processor"):
            new = Stamped(_reference_to(provider), SessionSpanProcessor())
            stamped = _stamped.setdefault(id(provider), new)  # one step: many threads may make the first call
            stamped.processor.enabled = True
            if stamped is new:
                new.processor.before_flush = functools.partial(flush_held, new.provider, _write_out)
                provider.add_span_processor(new.processor)
    except Exception as error:
        report("add the span processor", error)


def _write_out(seconds: float) -> None:
    running = _running
    if running is not None:
        running.write_out(seconds)


def _reference_to(provider: Any) -> Callable[[], Any]:
    key = id(provider)
    try:
        # Called before the provider's identity may be another object's.
        return weakref.ref(provider, lambda _: _stamped.pop(key, None) and None)
    except TypeError:  # of a class with slots
        return lambda: provider


def store_of(given: Any, settings: Settings) -> SessionStore | None:
    """Return the store given or named; None for the default, which is made when it is needed.

    Raises:
        ValueError: ``given``, a keyword, is or names no store, or one whose package is missing (also an ImportError).
            What the environment names is logged instead, and the default is used.
    """
    if hasattr(given, "put"):
        if missing := lacks(given):
            raise ValueError(f"store={type(given).__qualname__}: a SessionStore also has {', '.join(missing)}")
        store: SessionStore = given
        return store
    if settings.store == MEMORY:
        return None
    from otel_llm_sessions.stores.opening import StoreSettingError, open_store

    try:
        return open_store(settings.store, ttl=settings.ttl, max_keys=settings.max_keys)
    except StoreSettingError as error:
        if given is not None:
            raise
        say(logging.WARNING, "%s; the default %r is used", error, MEMORY)
        return None


class OpenAISessionsInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Instruments the ``openai`` client: every chat and responses call becomes a span of its session.

    ``opentelemetry-instrument`` finds it through its entry point. Example, in code::

        OpenAISessionsInstrumentor().instrument(traces="turn", max_age="1h")

    Keywords are the settings (see the README's table), and ``tracer_provider``, ``meter_provider`` and
    ``logger_provider``. May be called
    before or after ``import openai``, and before or after the providers are set.

    Raises:
        ValueError: a setting has a value that is not valid.
        TypeError: there is no such keyword.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of the client that are supported."""
        return INSTRUMENTS

    def instrument(self, **kwargs: Any) -> Any:
        """Instrument the client; see the class."""
        with _switching.held:
            result = super().instrument(**kwargs)
        # Not under the lock: another thread may be importing the client, and instrument it amid that.
        running = _running
        if running is not None and sys.modules.get("openai") is not None:
            running.patch_imported()
        return result

    def uninstrument(self, **kwargs: Any) -> Any:
        """Put everything back as it was."""
        with _switching.held:
            return super().uninstrument(**kwargs)

    def _instrument(self, **kwargs: Any) -> None:
        global _running
        names = {field.name for field in fields(Settings)}
        unknown = sorted(set(kwargs) - names - OTHER_KEYWORDS)
        if unknown:
            allowed = ", ".join(sorted(names | OTHER_KEYWORDS))
            raise TypeError(f"instrument() has no keyword {', '.join(unknown)}: expected any of {allowed}")
        given_store = kwargs.get("store")
        if hasattr(given_store, "put"):
            kwargs["store"] = None
        settings = settings_from(kwargs)
        store = store_of(given_store, settings)
        self._running = _running = Instrumentation(settings, store, store is not given_store, kwargs)
        set_entrance(_running.entrance, baggage=settings.baggage)
        set_evaluator(_running.evaluator)
        _watch_imports()

    def _uninstrument(self, **kwargs: Any) -> None:
        global _running
        _running = None
        set_entrance(None)
        set_evaluator(None)
        self._running.stop()


_watching = False


def _watch_imports() -> None:
    global _watching
    if not _watching:
        _watching = True
        wrapt.register_post_import_hook(_on_import, "openai")
