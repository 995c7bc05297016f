"""Where events go: the logs API, by the provider in force."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from opentelemetry._logs import Logger, LoggerProvider, LogRecord, get_logger_provider
from opentelemetry.context import Context

from otel_llm_sessions import forks, semconv
from otel_llm_sessions.version import __version__

SCOPE: Final = "otel_llm_sessions"


class EventsSource:
    """Hands out the logger of the provider in force, made anew when another provider is set.

    Example::

        EventsSource(None).get().emit(LogRecord(event_name=EVALUATION_RESULT, attributes=attributes))
    """

    def __init__(self, provider: LoggerProvider | None, on_provider: Callable[[], object] = lambda: None) -> None:
        """Args: the provider, None for the global one; what is called with each that is met."""
        self._given = provider
        self._on_provider = on_provider
        self._bound: tuple[LoggerProvider, Logger] | None = None
        self._lock = forks.Lock()

    def get(self) -> Logger:
        """Return the logger to emit events with."""
        provider = self._given if self._given is not None else get_logger_provider()
        bound = self._bound
        return bound[1] if bound is not None and bound[0] is provider else self._of_another(provider)

    def _of_another(self, provider: LoggerProvider) -> Logger:
        with self._lock.held:
            bound = self._bound
            if bound is None or bound[0] is not provider:
                logger = provider.get_logger(SCOPE, __version__, schema_url=semconv.SCHEMA_URL)
                self._bound = bound = provider, logger
                self._on_provider()
            return bound[1]


def event_of(name: str, attributes: dict[str, Any], context: Context, time: int) -> LogRecord:
    """Return an event.

    Args:
        name: which event it is.
        attributes: what it carries.
        context: the context of the span that it belongs to.
        time: when it happened, in nanoseconds since the epoch.
    """
    return LogRecord(timestamp=time, context=context, attributes=attributes, event_name=name)
