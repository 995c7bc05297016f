"""The real Collector and the real Jaeger as processes of a test's own, on free ports, with their data in a folder."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import waiting
from backends.environments import BACKENDS, program
from store_kit import free_port

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / ".backends"
CONFIG = ROOT / "collector-config.yaml"
PATIENCE = 120.0
"""Seconds within which a server is ready, or has said what arrived."""

STARTS = 3
"""Times that a server is started when another process has taken one of its ports meanwhile."""


class Server:
    """A program that is ready once it has been entered, and has ended once it has been left; a context manager."""

    starts_within = PATIENCE

    def __init__(self, directory: Path) -> None:
        self.log = directory / f"{type(self).__name__.lower()}.log"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self):
        try:
            for _ in range(STARTS):
                self._start()
                if self._becomes_ready():
                    return self
        except BaseException:  # Ctrl-C while it starts
            self._stop()
            raise
        raise AssertionError(f"{type(self).__name__} did not start:\n{self.log.read_text()[-3000:]}")

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def die(self) -> None:
        """End it as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def come_back(self) -> None:
        """Start it again after it has died, with the addresses and the configuration that it had."""
        self._run()
        assert self._becomes_ready(), self.log.read_text()[-3000:]

    def _start(self) -> None:
        self._command, self._environment = self._prepare()
        self._run()

    def _run(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=log,
            )

    def _becomes_ready(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + self.starts_within
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError):
                if self._is_ready():
                    return True
            time.sleep(0.02)
        self._stop()
        return False

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _prepare(self) -> tuple[list[str], Mapping[str, str]]:
        """Choose ports; return the command, and what it has in its environment besides."""
        raise NotImplementedError

    def _is_ready(self) -> bool:
        raise NotImplementedError


class Jaeger(Server):
    """Jaeger v2 with its data in memory, asked by its HTTP API."""

    def _prepare(self) -> tuple[list[str], Mapping[str, str]]:
        self.grpc, self._http, self._query, self._health, query_grpc = (f"127.0.0.1:{free_port()}" for _ in range(5))
        settings = {
            "service": {
                "extensions": ["jaeger_storage", "jaeger_query", "healthcheckv2"],
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
                "telemetry": {"metrics": {"level": "none"}},
            },
            "extensions": {
                "jaeger_storage": {"backends": {"kept": {"memory": {"max_traces": 100_000}}}},
                "jaeger_query": {
                    "storage": {"traces": "kept"},
                    "http": {"endpoint": self._query},
                    "grpc": {"endpoint": query_grpc},
                    "enable_tracing": False,  # its own, at the default port
                },
                "healthcheckv2": {"use_v2": True, "http": {"endpoint": self._health}},
            },
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": self.grpc}, "http": {"endpoint": self._http}}}},
            "exporters": {"jaeger_storage_exporter": {"trace_storage": "kept"}},
        }
        config = self._directory / "jaeger.json"
        config.write_text(json.dumps(settings))
        return [str(PROGRAMS / "jaeger"), "--config", str(config)], {}

    def _is_ready(self) -> bool:
        return status(f"http://{self._health}/status") == 200

    @property
    def address(self) -> str:
        """Where its pages and its APIs are."""
        return f"http://{self._query}"

    @property
    def otlp(self) -> str:
        """Where it takes OTLP over HTTP."""
        return f"http://{self._http}"

    def ask(self, path: str, **parameters: Any) -> Any:
        """Ask the API that the UI asks; return ``data`` of the answer."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self._query}{path}?{query}", timeout=PATIENCE) as answer:
            return json.load(answer)["data"]

    def find(self, service: str, **tags: str) -> list[dict[str, Any]]:
        """Return the traces that the UI lists for a service and Tags."""
        return self.ask("/api/traces", service=service, tags=json.dumps(tags), limit=1000, lookback="1h")

    def has(self, trace_id: str) -> dict[str, Any] | None:
        """Return a trace by its id, as soon as it is there."""
        try:
            return self.trace(trace_id)
        except urllib.error.HTTPError:
            return None

    def trace(self, trace_id: str) -> dict[str, Any]:
        """Return a trace by its id."""
        (trace,) = self.ask(f"/api/traces/{trace_id}")
        return trace


class Collector(Server):
    """The Collector under the configuration that this repository has, unedited; addresses come from the environment."""

    def __init__(self, directory: Path, jaeger: str, tempo: str, *more: Path) -> None:
        super().__init__(directory)
        self._configs = with_configs(*more)
        self._backends = {"JAEGER_ENDPOINT": jaeger, "TEMPO_ENDPOINT": tempo}

    def _prepare(self) -> tuple[list[str], Mapping[str, str]]:
        self.grpc, self.http = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self._figures = str(free_port())
        own = {"COLLECTOR_GRPC": self.grpc, "COLLECTOR_HTTP": self.http, "COLLECTOR_METRICS_PORT": self._figures}
        return [str(PROGRAMS / "otelcol"), *self._configs], {**self._backends, **own}

    def _is_ready(self) -> bool:
        return status(f"http://{self.http}/v1/traces", b"") == 200

    def figures(self) -> str:
        """What the Collector says of itself, as Prometheus would fetch it."""
        with urllib.request.urlopen(f"http://localhost:{self._figures}/metrics", timeout=PATIENCE) as answer:
            return answer.read().decode()


def with_configs(*more: Path) -> list[str]:
    """The options for this repository's configuration, and for what is laid over it."""
    return [word for config in (CONFIG, *more) for word in ("--config", str(config))]


def validated(*more: Path) -> subprocess.CompletedProcess[str]:
    """What the real Collector says of this repository's configuration, and of what is laid over it."""
    return subprocess.run([str(PROGRAMS / "otelcol"), "validate", *with_configs(*more)], capture_output=True, text=True)


def missing() -> str | None:
    """Return which programs are not there; None if all are."""
    places = {name: PROGRAMS / name for name in ("otelcol", "jaeger")}
    places |= {name: program(name, name) for name in BACKENDS}
    absent = [name for name, place in places.items() if not place.exists()]
    return f"{', '.join(absent)} not made (make backends)" if absent else None


def until(answer: Callable[[], Any]) -> Any:
    """Ask again until the answer is true, and return it."""
    return waiting.until(answer, PATIENCE, pause=0.1)


def eventually(check: Callable[[], Any]) -> Any:
    """Make a check of what arrives in pieces again until it passes, and return what it returns."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return check()
        except (AssertionError, ValueError):  # `(one,) = found` of what has not arrived yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def status(url: str, body: bytes | None = None) -> int:
    request = urllib.request.Request(url, body, {"Content-Type": "application/x-protobuf"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code
