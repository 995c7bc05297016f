"""What becomes of a content on its way to a span."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider

from otel_llm_sessions import semconv
from otel_llm_sessions.telemetry.content.capture import SPAN_ONLY
from otel_llm_sessions.telemetry.content.hook import ContentHook
from otel_llm_sessions.telemetry.content.recorder import Place, Recorder
from otel_llm_sessions.telemetry.content.values import Content, Extent
from otel_llm_sessions.telemetry.events import EventsSource

APPLICATIONS = {"role": "user", "parts": [{"type": "text", "content": "secret"}]}
"""A message that is the application's own object."""


class Said:
    """A call that says it."""

    def new(self) -> tuple[Content, Extent]:
        return self.whole(), "full"

    def whole(self) -> Content:
        return Content([APPLICATIONS], [], [], [])

    def gone(self) -> list[str]:
        return []

    def recorded(self) -> None:
        """Nothing is left for a next turn."""


def test_a_hook_gets_a_copy():
    def hook(content: dict[str, Any]) -> dict[str, Any]:
        content["input"][0]["parts"][0]["content"] = "***"
        return content

    attributes: dict[str, Any] = {}
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("chat")
    recorder = Recorder(SPAN_ONLY, 100, ContentHook(hook), EventsSource(None))
    recorder.record(attributes, Place(span, Context(), {}, 1), Said())
    span.end()
    assert attributes[semconv.INPUT_MESSAGES] == '[{"role":"user","parts":[{"type":"text","content":"***"}]}]'
    assert APPLICATIONS == {"role": "user", "parts": [{"type": "text", "content": "secret"}]}
