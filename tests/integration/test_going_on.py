"""A turn that goes on the shortest way begins as it does the long one."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

from otel_llm_sessions import semconv
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.decide import planned, resolved
from otel_llm_sessions.openai.evidence import evidence_of
from otel_llm_sessions.openai.flow import begin, deliver
from otel_llm_sessions.openai.going_on import goes_on
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.routes import CANCEL, CHAT, RESPONSES, Match
from otel_llm_sessions.openai.runtime import Runtime, make_runtime
from otel_llm_sessions.openai.server import Server
from otel_llm_sessions.sessions.resolver import Evidence, lookup_keys
from otel_llm_sessions.sessions.sources import Given
from otel_llm_sessions.settings import Settings
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.telemetry.metrics import MetricsSource
from otel_llm_sessions.traces.home import Homes

SERVER = Server("socket.test", 443, "openai", "socket.test:443", "socket.test", None, True)
FIRST = "resp_9f8e7d6c5b4a39281706f5e4"
SECOND = "resp_1f2e3d4c5b6a79880716253e"
S: Any = "chat-42"


@pytest.fixture
def runtime() -> Runtime:
    settings, store = Settings(), MemoryStore()
    return make_runtime(
        settings, store, Homes(TracerProvider(shutdown_on_exit=False), settings, store), MetricsSource(None)
    )


def asked(evidence: Evidence, route: Any = RESPONSES, response_id: str | None = None) -> Request:
    attributes: dict[str, Any] = {semconv.REQUEST_MODEL: "m"}
    return Request(Match(route, response_id), SERVER, "chat m", "m", attributes, evidence, False, True)


def chained(previous: str | None) -> Evidence:
    return evidence_of("responses", None, previous, {}, SERVER)


def named(session_id: Any = S, source: Any = "metadata") -> Evidence:
    return Evidence(Given(session_id, source))


def made(runtime: Runtime, evidence: Evidence, response_id: str) -> None:
    """Make a turn that ends."""
    call = Call(runtime, asked(evidence))
    begin(call)
    call.read({"id": response_id, "model": "m", "status": "completed"})
    call.finish()
    deliver(call)


def begun_the_long_way(runtime: Runtime, request: Request) -> Call:
    call = Call(runtime, request)
    resolution = resolved(call, runtime.store.get_all(lookup_keys(request.evidence)))
    call.start(resolution, planned(call, resolution), False)
    return call


def told(call: Call) -> tuple[Any, ...]:
    """Return what can be seen of a call that has begun."""
    span: Any = call.span.own
    links = [(tuple(link.context), dict(link.attributes)) for link in span.links]
    return call.turn, span.parent, links, dict(span.attributes), span.name


CHAINS = {
    "named": [(named(), FIRST), (named(), SECOND)],
    "in a chain": [(chained(None), FIRST), (chained(FIRST), SECOND)],
    "named once, then chained": [(named(), FIRST), (chained(FIRST), SECOND)],
}


@pytest.mark.parametrize("way", CHAINS)
def test_a_third_turn_begins_the_same_by_the_shortest_way(runtime: Runtime, way: str):
    for evidence, response_id in CHAINS[way]:
        made(runtime, evidence, response_id)
    evidence = named() if way == "named" else chained(SECOND)
    long = begun_the_long_way(runtime, asked(evidence))  # from here on the part is known to be open
    (previous,) = runtime.store.get_all(lookup_keys(evidence))
    assert previous is not None
    short = Call(runtime, asked(evidence))
    assert goes_on(short, previous)
    assert told(short) == told(long)
    assert told(short)[1] is not None


def test_more_than_that_goes_the_long_way(runtime: Runtime):
    for evidence, response_id in CHAINS["named"]:
        made(runtime, evidence, response_id)
    begun_the_long_way(runtime, asked(named()))
    (previous,) = runtime.store.get_all(lookup_keys(named()))
    assert previous is not None
    inside = set_span_in_context(INVALID_SPAN, Context())
    assert not goes_on(Call(runtime, asked(named("another"))), previous)
    assert not goes_on(Call(runtime, asked(named()), around=inside), previous)
    assert not goes_on(Call(runtime, asked(named(), CANCEL, FIRST)), previous)
    for said in ({"name": "refund"}, {"user": "u-1"}, {"tags": ("beta",)}):
        assert not goes_on(Call(runtime, asked(named())), previous._replace(**said))
    assert not goes_on(Call(runtime, asked(named())), previous._replace(trace=None))
    assert goes_on(Call(runtime, asked(named(), CHAT)), previous)
