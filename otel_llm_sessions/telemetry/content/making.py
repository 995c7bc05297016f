"""What records contents, as settings and environment say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry._logs import LoggerProvider

from otel_llm_sessions.telemetry.content.capture import NO_CONTENT, capture_asked
from otel_llm_sessions.telemetry.content.completion import completion_hook
from otel_llm_sessions.telemetry.content.hook import ContentHook
from otel_llm_sessions.telemetry.content.recorder import Recorder
from otel_llm_sessions.telemetry.events import EventsSource


def recorder_of(
    limit: int,
    hook: Callable[..., Any] | str | None,
    provider: LoggerProvider | None,
    on_provider: Callable[[], None] = lambda: None,
) -> Recorder | None:
    """Return what records contents; None where nobody wants to know them.

    Args:
        limit: characters of one text.
        hook: the setting ``CONTENT_HOOK``.
        provider: where events go; None for the global one.
        on_provider: called with each provider of events that is met.
    """
    capture, completed = capture_asked(), completion_hook()
    if capture == NO_CONTENT and completed is None:
        return None
    events = EventsSource(provider, on_provider)
    return Recorder(capture, limit, None if hook is None else ContentHook(hook), events, completed)
