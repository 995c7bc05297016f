"""A store that is far away or shared, and the chains that tests of look-ups begin with."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from answered import client_of, httpx
from exported import Exported
from failures import Failure, failures_of_ours
from loopback import LoopbackServer
from loopback_client import MODEL, options_for
from odd_kit import Telemetry, Wire, telemetry
from openai import OpenAI
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from store_kit import Proxy, RedisServer
from traces_kit import CHAT_REPLY

from otel_llm_sessions.openai import added, flow
from otel_llm_sessions.stores import pace
from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.testing import CapturedSpans, capture_spans

PATIENT = 60.0
"""Seconds: longer than a busy machine's store takes."""


@pytest.fixture
def patient(monkeypatch) -> None:
    """Have calls wait for their store however long it takes: for tests of what it answers, not of when."""
    monkeypatch.setattr(flow, "BUDGET", PATIENT)
    monkeypatch.setattr(pace, "SLOW", PATIENT)
    monkeypatch.setitem(GuardedStore.__init__.__kwdefaults__, "time_limit", PATIENT)


@pytest.fixture
def proxy(redis: RedisServer) -> Iterator[Proxy]:
    """What passes everything on to that Redis, and answers late once its ``delay`` is set."""
    proxy = Proxy(redis.port)
    yield proxy
    proxy.close()


@pytest.fixture(params=["sqlite", "redis"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a store that processes share, with nothing in it; then the same test with one of another kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'sessions.db'}"
    return str(request.getfixturevalue("redis").url)


@pytest.fixture
def elsewhere(server):
    """Return a function that makes a response as a process does that nobody instruments, and returns its id."""
    with openai.OpenAI(**options_for(server)) as client:

        def respond(**arguments: Any) -> str:
            with suppress_instrumentation():
                return client.responses.create(model=MODEL, input="x", **arguments).id

        yield respond


@pytest.fixture
def chain(server, elsewhere):
    """Return a function that has a chain of responses made elsewhere, and returns their ids."""

    def make(turns: int) -> list[str]:
        ids: list[str] = []
        for _ in range(turns):
            ids.append(elsewhere(**({"previous_response_id": ids[-1]} if ids else {})))
        server.requests.clear()
        return ids

    return make


@pytest.fixture
def traced(exported: Exported):
    """Instrumented, with spans that go over OTLP."""
    with capture_spans(tracer_provider=exported.provider):
        yield exported


@pytest.fixture
def tracer(exported: Exported) -> trace.Tracer:
    return exported.provider.get_tracer("the application's")


@pytest.fixture
def quick_client():
    """A client that is answered without a socket, for very many calls."""
    with client_of(lambda request: httpx.Response(200, json=CHAT_REPLY)) as client:
        yield client


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def metered(reader: InMemoryMetricReader) -> Iterator[CapturedSpans]:
    """The spans of the test's calls, whose metrics go to the reader."""
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with capture_spans(meter_provider=provider, traces="turn") as spans:
        yield spans
    provider.shutdown()


@pytest.fixture
def ours() -> Iterator[list[Failure]]:
    """Every failure of ours that was reported, also the silent repetitions."""
    with failures_of_ours() as reported:
        yield reported


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """Two clients, answered with what the test says."""
    wire = Wire()
    yield wire
    wire.close()


@pytest.fixture(autouse=True)
def _is_another_task() -> None:
    """Nothing was put into a conversation lately where a test runs: within a second the same words would be of that."""
    added._lately.set(())


@pytest.fixture
def seen() -> Iterator[Telemetry]:
    """The spans and metrics of the test's calls."""
    with telemetry() as seen:
        yield seen


@pytest.fixture(scope="module")
def shared_client(loopback: LoopbackServer) -> Iterator[OpenAI]:
    """One client for all tests of a module: making one takes 50 ms."""
    with OpenAI(**options_for(loopback)) as client:
        yield client


@pytest.fixture(scope="module")
def quick_collections() -> Iterator[None]:
    """What is there already is not looked at again by the many collections of a module's tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def spans_in_silence(caplog: pytest.LogCaptureFixture) -> Iterator[CapturedSpans]:
    """The spans of the test's calls; nothing of ours may be reported, and no span ended twice."""
    with capture_spans(traces="turn") as captured, caplog.at_level(logging.DEBUG):
        yield captured
        gc.collect()
    ours = [record for record in caplog.records if record.name.startswith(("otel_llm_sessions", "opentelemetry"))]
    assert not ours, [record.getMessage() for record in ours]
