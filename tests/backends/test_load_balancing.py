"""Several Collectors: what routes to them, run with a Collector that has it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest
from loopback_client import MODEL
from servers import PROGRAMS, ROOT, Collector, Server, status, until
from store_kit import free_port

ROUTER = PROGRAMS / "otelcol-routing"
CONFIG = ROOT / "examples" / "collector" / "load-balancing.yaml"
SESSIONS, TURNS = 12, 3

pytestmark = pytest.mark.skipif(
    not ROUTER.exists(), reason="`make backends` could not build a Collector with the loadbalancing exporter here"
)


class Router(Server):
    """A Collector with the configuration that routes."""

    def __init__(self, directory: Path, config: Path, *behind: Collector) -> None:
        super().__init__(directory)
        self._config, self._behind = config, behind

    def _prepare(self) -> tuple[list[str], Mapping[str, str]]:
        self.grpc, self._http = (f"127.0.0.1:{free_port()}" for _ in range(2))
        first, second = (collector.grpc for collector in self._behind)
        own = {"COLLECTOR_GRPC": self.grpc, "COLLECTOR_HTTP": self._http}
        behind = {"FIRST_COLLECTOR": first, "SECOND_COLLECTOR": second}
        return [str(ROUTER), "--config", str(self._config)], {**own, **behind}

    def _is_ready(self) -> bool:
        return status(f"http://{self._http}/v1/traces", b"") == 200


@pytest.fixture
def behind(jaeger, second, tmp_path):
    """Two Collectors, each of which writes down what it gets; with the files."""
    written = [tmp_path / name for name in ("first.json", "second.json")]
    collectors = []
    for number, path in enumerate(written):
        config = tmp_path / f"writes-{number}.yaml"
        config.write_text(
            f"exporters: {{file: {{path: {path}, flush_interval: 100ms}}}}\n"
            "service: {pipelines: {traces: {exporters: [file]}}}"
        )
        directory = tmp_path / str(number)
        directory.mkdir()
        collectors.append(Collector(directory, jaeger.grpc, second.grpc, config))
    with collectors[0], collectors[1]:
        yield collectors, written


def spans_in(path: Path) -> list[tuple[str, str]]:
    """Trace and session of each span that was written down."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        for resource in json.loads(line)["resourceSpans"]:
            for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
                said = {each["key"]: each["value"].get("stringValue") for each in span["attributes"]}
                found.append((span["traceId"], said["session.id"]))
    return found


@pytest.mark.parametrize("traces", ["session", "turn"])
def test_each_session_reaches_one_collector(traces, behind, application, tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_LLM_SESSIONS_TRACES", traces)
    collectors, written = behind
    text = CONFIG.read_text()
    if traces == "turn":
        (said,) = re.findall(r"#     (routing_key: attributes)\n#     (routing_attributes: .*)\n", text)
        text = text.replace("    routing_key: traceID", "".join(f"    {line}\n" for line in said).rstrip())
    config = tmp_path / "routing.yaml"
    config.write_text(text)
    with Router(tmp_path, config, *collectors) as router:
        sender = application(router.grpc, "balanced")
        for _ in range(TURNS):
            for session in range(SESSIONS):
                headers = {"x-session-id": f"{traces}-{session}"}
                sender.client.chat.completions.create(model=MODEL, messages=[], extra_headers=headers)
            sender.send()
        expected = SESSIONS * (TURNS + (traces == "session"))
        until(lambda: sum(len(spans_in(path)) for path in written) == expected)
    places = defaultdict(set)
    for path in written:
        for _, session in spans_in(path):
            places[session].add(path.name)
    assert len(places) == SESSIONS
    assert all(len(each) == 1 for each in places.values())
    assert {name for each in places.values() for name in each} == {path.name for path in written}
