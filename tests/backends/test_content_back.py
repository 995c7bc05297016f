"""The redaction that docs/content.md shows, on the real Collector."""

from __future__ import annotations

import json
import re
from pathlib import Path

import openai
import pytest
from loopback import LoopbackServer
from loopback_client import MODEL, options_for
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from otlp_receiver import OtlpReceiver
from servers import ROOT, Collector, validated

from otel_llm_sessions.telemetry.content.capture import VARIABLE
from otel_llm_sessions.testing import capture_spans

(SHOWN,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "content.md").read_text(), re.S)

CARD, MAIL = "4111 1111 1111 1111", "ada@example.org"

ELSEWHERE = """
exporters:
  otlp_http/here:
    endpoint: {endpoint}
service:
  pipelines:
    traces: {{exporters: [otlp_http/here]}}
    logs: {{exporters: [otlp_http/here]}}
"""


@pytest.fixture
def redaction(tmp_path: Path) -> Path:
    path = tmp_path / "redact.yaml"
    path.write_text(SHOWN)
    return path


def test_what_is_shown_is_valid(redaction):
    checked = validated(redaction)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_what_is_to_be_redacted_reaches_no_backend(redaction, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "SPAN_AND_EVENT")
    elsewhere = tmp_path / "elsewhere.yaml"
    with OtlpReceiver() as receiver:
        elsewhere.write_text(ELSEWHERE.format(endpoint=receiver.endpoint))
        with Collector(tmp_path, "localhost:1", "localhost:1", redaction, elsewhere) as collector:
            spans, logs = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
            spans.add_span_processor(
                SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"http://{collector.grpc}", insecure=True))
            )
            logs.add_log_record_processor(
                SimpleLogRecordProcessor(OTLPLogExporter(endpoint=f"http://{collector.grpc}", insecure=True))
            )
            with (
                LoopbackServer() as server,
                openai.OpenAI(**options_for(server)) as client,
                capture_spans(tracer_provider=spans, logger_provider=logs),
            ):
                messages = [{"role": "user", "content": f"My card is {CARD}, write to {MAIL} please"}]
                client.chat.completions.create(model=MODEL, messages=messages)
                error = json.dumps({"error": {"message": f"no such user: {MAIL}", "code": "c"}})
                headers = {"x-loopback-mode": "json=" + error.replace(",", "%2C")}
                client.chat.completions.create(model=MODEL, messages=messages, extra_headers=headers)
            receiver.wait_for(lambda received: len(received.spans) == len(received.logs) == 2, 60)
        told = [span.attributes["gen_ai.input.messages"] for span in receiver.spans]
        told += [str(log.attributes["gen_ai.input.messages"]) for log in receiver.logs]
        everything = repr(receiver.spans) + repr(receiver.logs)
    assert [text for text in told if "My card is ****" not in text] == []
    assert CARD not in everything
    assert MAIL not in everything
    assert "no such user: ****" in everything
