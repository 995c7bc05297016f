"""What the demo shows is in Jaeger as well, where `OTEL_EXPORTER_OTLP_ENDPOINT` names a Collector."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence

from jaeger_traces import tags
from servers import Collector, Jaeger, until
from store_kit import free_port

from otel_llm_sessions.demo.expectations import EXAMPLES

COMMAND = [sys.executable, "-m", "otel_llm_sessions.cli", "demo", "--no-view"]
SHORT = """
import sys
from otel_llm_sessions import cli
from otel_llm_sessions.demo import runner
runner.EXAMPLES = runner.EXAMPLES[:1]
sys.exit(cli.main(["demo", "--no-view"]))
"""
"""The demo as it is, with its first example alone."""
UNSET = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OTEL_LLM_SESSIONS_TRACES")
ADDRESS = re.compile(r"session (\S+)\n  trace ([0-9a-f]{32})  http://127\.0\.0\.1:16686/trace/\2\n")


def demo(endpoint: str, command: Sequence[str] = COMMAND) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_session_of_the_demo_is_in_jaeger_under_the_trace_that_is_printed(collector: Collector, jaeger: Jaeger):
    printed = demo(f"http://{collector.http}")
    found = ADDRESS.findall(printed)
    assert len(found) == sum(example.sessions for example in EXAMPLES), printed
    for session, trace_id in found:
        trace = until(lambda trace_id=trace_id: jaeger.has(trace_id))
        roots = [span for span in trace["spans"] if tags(span).get("llm_session.root")]
        assert {tags(root)["session.id"] for root in roots} == {session}


def test_a_collector_that_is_not_there_is_said_and_changes_nothing_else():
    address = f"http://127.0.0.1:{free_port()}"
    printed = demo(address, [sys.executable, "-c", SHORT])
    assert "sessions arrived, each with the turns it should have" in printed
    assert printed.count(f"--forward {address} fails, what arrives is not passed on") == 1
