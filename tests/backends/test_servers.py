"""The servers that the tests start, and what a backend shows of a session that is not whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from jaeger_traces import calls, tags
from loopback_client import MODEL
from opentelemetry.sdk.trace import TracerProvider
from servers import ROOT, Jaeger, eventually

STARTED = """
import signal, sys
from pathlib import Path
from servers import Collector, Jaeger

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
with Jaeger(Path(sys.argv[1])) as jaeger, Collector(Path(sys.argv[1]), jaeger.grpc, jaeger.grpc) as collector:
    print(jaeger.pid, collector.pid, flush=True)
    sys.stdin.read()
"""


def test_servers_end_with_their_test_also_on_ctrl_c(tmp_path: Path):
    places = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "backends")])
    command = [sys.executable, "-c", STARTED, str(tmp_path)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": places}, text=True, **pipes) as test:
        assert test.stdout is not None
        pids = [int(word) for word in test.stdout.readline().split()]
        assert len(pids) == 2
        test.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in test.communicate(timeout=60)[1]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


class WithoutRoot:
    """Passes on all spans but a session's root."""

    def __init__(self, exporter) -> None:
        self._export, self.shutdown, self.force_flush = exporter.export, exporter.shutdown, exporter.force_flush

    def export(self, spans):
        return self._export([span for span in spans if "llm_session.root" not in span.attributes])


def test_a_session_whose_root_was_lost_is_found_by_its_id(application, jaeger: Jaeger, monkeypatch):
    service = "rootless"
    kept = TracerProvider.add_span_processor

    def without_root(provider, processor):
        if hasattr(processor, "span_exporter"):
            processor = type(processor)(WithoutRoot(processor.span_exporter))
        kept(provider, processor)

    monkeypatch.setattr(TracerProvider, "add_span_processor", without_root)
    sender = application(jaeger.grpc, service)
    for _ in range(2):
        sender.client.chat.completions.create(model=MODEL, messages=[], extra_headers={"x-session-id": "rootless"})
    sender.send()
    eventually(lambda: check_rootless(jaeger, service))


def check_rootless(jaeger: Jaeger, service: str) -> None:
    """Fail unless Jaeger shows both turns, by their session's id alone, and says that their parent is missing."""
    found = jaeger.find(service, **{"session.id": "rootless"})
    assert len(found) == 1
    assert jaeger.find(service, **{"llm_session.root": "true"}) == []
    assert [tags(span)["llm_session.turn"] for span in calls(found)] == [1, 2]
    assert all("invalid parent" in span["warnings"][0] for span in calls(found))
