"""What tests of contents share: calls that are recorded, and all that is told of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from providers_kit import loggers_to

from otel_llm_sessions.telemetry.content import completion
from otel_llm_sessions.telemetry.content.capture import VARIABLE
from otel_llm_sessions.testing import CapturedSpans, capture_spans

INPUT, OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"
INSTRUCTIONS, TOOLS = "gen_ai.system_instructions", "gen_ai.tool.definitions"
EXTENT, CUT = "llm_session.content", "llm_session.content_cut"
CONTENT = (INPUT, OUTPUT, INSTRUCTIONS, TOOLS, EXTENT, CUT, "error.message")


class Recorded:
    """What was told of the calls in a block."""

    def __init__(self, provider: TracerProvider, spans: CapturedSpans) -> None:
        self.provider = provider
        self.spans = spans
        self.logs, self.metrics = InMemoryLogRecordExporter(), InMemoryMetricReader()

    @property
    def calls(self) -> list[Any]:
        """The spans of calls."""
        return [span for span in self.spans if "gen_ai.operation.name" in span.attributes]

    @property
    def events(self) -> list[Any]:
        """The events."""
        return [log.log_record for log in self.logs.get_finished_logs()]

    def all(self) -> str:
        """All that was exported, as one text."""
        told = [span.to_json() for span in self.spans] + [log.to_json() for log in self.logs.get_finished_logs()]
        data = self.metrics.get_metrics_data()
        return "\n".join([*told, data.to_json() if data is not None else ""])


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch, mode: str | None = "SPAN_ONLY", **settings: Any) -> Iterator[Recorded]:
    """Instrument the client inside the block, with contents recorded as a mode says."""
    if mode is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, mode)
    sampler, limits = settings.pop("sampler", None), settings.pop("limits", None)
    provider = TracerProvider(sampler=sampler, span_limits=limits, shutdown_on_exit=False)
    told = Recorded(provider, CapturedSpans())
    loggers = loggers_to(told.logs)
    meters = MeterProvider([told.metrics], shutdown_on_exit=False)
    with capture_spans(
        tracer_provider=provider, logger_provider=loggers, meter_provider=meters, **settings
    ) as told.spans:
        yield told


def texts(said: Any) -> list[str]:
    """The texts in messages or parts, of a span's attribute or an event's."""
    messages = json.loads(said) if isinstance(said, str) else said
    return [part["content"] for message in messages for part in message.get("parts", (message,)) if "content" in part]


THEIR_HOOK = """
calls = []

class Hook:
    def on_completion(self, **said):
        calls.append(said)
        if said["span"] is not None:
            said["span"].set_attribute("their.reference", "s3://1")
        if said["log_record"] is not None:
            said["log_record"].attributes = {**said["log_record"].attributes, "their.reference": "s3://1"}
"""


def install_completion_hook(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Install a completion hook of util-genai's in a directory, and name it; return the calls that it gets."""
    about = path / "their_hook-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-hook\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[opentelemetry_genai_completion_hook]\ntheirs = their_hook:Hook\n")
    (path / "their_hook.py").write_text(THEIR_HOOK)
    monkeypatch.syspath_prepend(str(path))
    monkeypatch.delitem(sys.modules, "their_hook", raising=False)
    monkeypatch.setenv(completion.VARIABLE, "theirs")
    import their_hook

    calls: list[dict[str, Any]] = their_hook.calls
    return calls
