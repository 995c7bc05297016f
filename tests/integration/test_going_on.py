"""A turn that goes on the shortest way begins as it does the long one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span, SpanContext, TraceFlags, set_span_in_context

from otel_llm_sessions import semconv
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.decide import planned, resolved
from otel_llm_sessions.openai.ending import finish
from otel_llm_sessions.openai.evidence import evidence_of
from otel_llm_sessions.openai.flow import begin, deliver
from otel_llm_sessions.openai.going_on import goes_on
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.routes import CANCEL, CHAT, RESPONSES, Match
from otel_llm_sessions.openai.runtime import Runtime, make_runtime
from otel_llm_sessions.openai.server import Server
from otel_llm_sessions.openai.standing import start
from otel_llm_sessions.sessions.about import About
from otel_llm_sessions.sessions.inside import ROOT_CONTEXT_KEY, SessionRoot
from otel_llm_sessions.sessions.link import SessionTrace
from otel_llm_sessions.sessions.resolver import Evidence, lookup_keys
from otel_llm_sessions.sessions.sources import ABOUT_CONTEXT_KEY, Given
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
    return runtime_of(TracerProvider(shutdown_on_exit=False))


def runtime_of(provider: TracerProvider) -> Runtime:
    settings, store = Settings(), MemoryStore()
    return make_runtime(settings, store, Homes(provider, settings, store), MetricsSource(None))


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
    finish(call)
    deliver(call)


def begun_the_long_way(runtime: Runtime, request: Request, **where: Any) -> Call:
    call = Call(runtime, request, **where)
    resolution = resolved(call, runtime.store.get_all(lookup_keys(request.evidence)))
    start(call, resolution, planned(call, resolution), False)
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


def under(span: Span, **more: object) -> dict[str, Any]:
    """Return where a call stands below a span."""
    return {"around": set_span_in_context(span, Context(more)), "ambient": span}


def places(trace: SessionTrace) -> dict[str, dict[str, Any]]:
    """Return where calls stand that something surrounds."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("application")
    root = NonRecordingSpan(SpanContext(trace.trace_id, trace.root_span_id, False, TraceFlags(trace.flags)))
    return {
        "a request": under(tracer.start_span("request")),
        "one that nobody sees": under(NonRecordingSpan(SpanContext(1, 2, False, TraceFlags(0)))),
        "the session's own trace": under(tracer.start_span("agent", context=set_span_in_context(root))),
        "a block of the session": under(root, **{ROOT_CONTEXT_KEY: SessionRoot(S, root)}),
        "baggage alone": {"around": baggage.set_baggage("a", "b", Context()), "ambient": INVALID_SPAN},
        "another's span for the call": under(tracer.start_span("chat m", attributes={semconv.OPERATION_NAME: "chat"})),
    }


PLACES = list(places(SessionTrace(1, 1, 1, 1, 1, 1)))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF], ids=["sampled", "unsampled"])
def test_it_does_so_wherever_it_stands(place: str, sampler: Sampler):
    runtime = runtime_of(TracerProvider(sampler=sampler, shutdown_on_exit=False))
    for evidence, response_id in CHAINS["named"]:
        made(runtime, evidence, response_id)
    (previous,) = runtime.store.get_all(lookup_keys(named()))
    assert previous is not None
    assert previous.trace is not None
    where = places(previous.trace)[place]
    long = begun_the_long_way(runtime, asked(named()), **where)
    short = Call(runtime, asked(named()), **where)
    assert goes_on(short, previous)
    assert short.turn == long.turn
    assert contexts_of(short) == contexts_of(long)


def contexts_of(call: Call) -> tuple[Any, ...]:
    """Return what a call's span stands below and links to, as far as anybody sees it."""
    span: Any = call.span.own
    links = [(tuple(link.context), dict(link.attributes)) for link in getattr(span, "links", ())]
    return call.span.context.trace_id, getattr(span, "parent", None), links, getattr(span, "attributes", None)


def test_more_than_that_goes_the_long_way(runtime: Runtime):
    for evidence, response_id in CHAINS["named"]:
        made(runtime, evidence, response_id)
    begun_the_long_way(runtime, asked(named()))
    (previous,) = runtime.store.get_all(lookup_keys(named()))
    assert previous is not None
    said_of = Context({ABOUT_CONTEXT_KEY: (S, About("refund"))})
    assert not goes_on(Call(runtime, asked(named("another"))), previous)
    assert not goes_on(Call(runtime, asked(named()), around=said_of), previous)
    assert not goes_on(Call(runtime, asked(named(), CANCEL, FIRST)), previous)
    for said in ({"name": "refund"}, {"user": "u-1"}, {"tags": ("beta",)}):
        assert not goes_on(Call(runtime, asked(named())), previous._replace(**said))
    assert not goes_on(Call(runtime, asked(named())), previous._replace(trace=None))
    assert not goes_on(Call(replace(runtime, spans="annotate"), asked(named())), previous)
    assert goes_on(Call(runtime, asked(named(), CHAT)), previous)


def test_a_first_turn_begins_the_same_by_the_shortest_way(runtime: Runtime):
    evidence = chained(None)
    long, short = begun_the_long_way(runtime, asked(evidence)), Call(runtime, asked(evidence))
    begin(short)
    for call in (short, long):
        span: Any = call.span.own
        placement = call.turn.placement
        assert placement.trace is not None
        assert placement.opened is placement.trace
        assert (span.parent.trace_id, span.parent.span_id) == placement.trace[:2]
        assert placement.open_root is not None
        assert placement.open_root.is_recording()
    assert short.turn.resolution == long.turn.resolution
    assert short.request.attributes == long.request.attributes


def test_what_is_left_in_this_processs_memory_is_there_when_the_call_has_ended(runtime: Runtime):
    call = Call(runtime, asked(named()))
    begin(call)
    call.read({"id": FIRST, "model": "m", "status": "completed"})
    finish(call)
    assert call.outbox == []
    (left,) = runtime.store.get_all(lookup_keys(named()))
    assert left is not None
    assert (left.response_id, left.turn) == (FIRST, 1)
    assert runtime.store.get_all(lookup_keys(chained(FIRST))) == [left]


def test_nothing_is_left_there_when_the_instrumentation_is_gone(runtime: Runtime):
    call = Call(runtime, asked(named()))
    begin(call)
    call.read({"id": FIRST, "model": "m", "status": "completed"})
    runtime.switch.records = False
    finish(call)
    deliver(call)
    assert runtime.store.get_all([*lookup_keys(named()), *lookup_keys(chained(FIRST))]) == [None, None]


class Own(MemoryStore):
    """A store of the application's own, which may do whatever it likes."""


@pytest.mark.parametrize(("store", "settings"), [(Own(), Settings()), (MemoryStore(), Settings(history=True))])
def test_what_others_keep_or_is_claimed_first_waits_to_be_delivered(store: MemoryStore, settings: Settings):
    homes = Homes(TracerProvider(shutdown_on_exit=False), settings, store)
    runtime = make_runtime(settings, store, homes, MetricsSource(None))
    call = Call(runtime, asked(named()))
    begin(call)
    call.read({"id": FIRST, "model": "m", "status": "completed"})
    finish(call)
    assert store.get_all(lookup_keys(named())) == [None]
    deliver(call)
    assert store.get_all(lookup_keys(named())) != [None]
