"""Every test in this folder needs the real programs; without them each is named in one line."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import LoopbackServer
from loopback_client import options_for
from openai import OpenAI
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from servers import Collector, Jaeger, missing
from session_servers import MLflow, Phoenix

from otel_llm_sessions import OpenAISessionsInstrumentor
from otel_llm_sessions.demo.runner import environment_of, instrument_command
from otel_llm_sessions.telemetry.content.capture import VARIABLE

HERE = Path(__file__).parent
NOT_THE_USERS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_LOGS_EXPORTER",
    "OTEL_BSP_SCHEDULE_DELAY",
)
"""What the demo sets, and a user who follows README does not."""
FIRST = ("test_phoenix.py", "test_backend_outages.py", "test_readme.py", "test_fleet_in_jaeger.py", "test_examples.py")
"""The files that take longest: what begins late is what the other processes wait for in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lacking = missing()
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.backends)
        if lacking and "CI" not in os.environ:
            # The name makes each reason another: pytest says equal ones in one line.
            item.add_marker(pytest.mark.skip(reason=f"{item.name}: {lacking}"))


@pytest.fixture(scope="session")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """A Jaeger that the tests share: each has a service name of its own."""
    with Jaeger(tmp_path_factory.mktemp("jaeger")) as server:
        yield server


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """What stands where the collector's configuration has Tempo, which takes the same OTLP."""
    with Jaeger(tmp_path_factory.mktemp("second")) as server:
        yield server


@pytest.fixture(scope="session")
def collector(jaeger: Jaeger, second: Jaeger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """The collector under this repository's own configuration, before both."""
    with Collector(tmp_path_factory.mktemp("collector"), jaeger.grpc, second.grpc) as server:
        yield server


@pytest.fixture(scope="session")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    """A Phoenix that the tests share: each has a project of its own."""
    with Phoenix(tmp_path_factory.mktemp("phoenix")) as server:
        yield server


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflow]:
    """An MLflow that the tests share: each has sessions of its own."""
    with MLflow(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="session")
def environment(loopback: LoopbackServer) -> Callable[..., dict[str, str]]:
    """The environment of a user's process: a model, an address to send to, and nothing else of OpenTelemetry's."""

    def made(address: str, service: str, **more: str) -> dict[str, str]:
        outer = environment_of(os.environ, "", {"OPENAI_BASE_URL": loopback.base_url, "OPENAI_API_KEY": "x"})
        for name in NOT_THE_USERS:
            del outer[name]
        own = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}", "OTEL_SERVICE_NAME": service}
        return {**outer, **own, **more}

    return made


@pytest.fixture(scope="session")
def two_people(environment: Callable[..., dict[str, str]]) -> Callable[..., None]:
    """Run the application of two people, one trace per turn and with its contents, and export to an address."""

    def run(address: str, name: str, *options: str, **more: str) -> None:
        settings = {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={name}",
            "OTEL_LLM_SESSIONS_TRACES": "turn",
            VARIABLE: "SPAN_ONLY",
        }
        command = [*instrument_command(), str(HERE / "two_people.py"), name, *options]
        outer = environment(address.removeprefix("http://"), name, **{**settings, **more})
        done = subprocess.run(command, env=outer, timeout=300, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")

    return run


class Application:
    """This process as an application, which sends spans to an address when it is told to."""

    def __init__(self, client: OpenAI, provider: TracerProvider) -> None:
        self.client = client
        self.provider = provider
        self.send = provider.force_flush


@pytest.fixture
def application(loopback: LoopbackServer) -> Iterator[Callable[..., Application]]:
    """Make this process an application that sends to an address under a service's name, with settings."""
    with contextlib.ExitStack() as stack:

        def started(address: str, service: str, **settings: Any) -> Application:
            provider = TracerProvider(resource=Resource.create({"service.name": service}))
            stack.callback(provider.shutdown)
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(address, insecure=True)))
            OpenAISessionsInstrumentor().instrument(tracer_provider=provider, **settings)
            stack.callback(OpenAISessionsInstrumentor().uninstrument)
            return Application(stack.enter_context(OpenAI(**options_for(loopback))), provider)

        yield started
