"""Session traces with whatever tracer provider there is; and none with ``TRACES=turn``."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from failures import warnings_of
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from providers_kit import WrappedProvider, WrappedTracer, provider_to
from traces_kit import ask, linked, only, ref

from otel_llm_sessions import OpenAISessionsInstrumentor, session, session_trace_id
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

# --- providers ----------------------------------------------------------------------------------------------


def test_a_wrapper_without_an_id_generator_gets_session_traces_with_random_ids(client, exported, caplog):
    provider: Any = WrappedProvider(exported.provider)
    with capture_spans(tracer_provider=provider):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: ask(client, "X"), range(8)))
        ask(client, "X")
        with provider.get_tracer("x").start_as_current_span("request"):
            ask(client, "X")
        first = client.responses.create(model="m", input="x")
        client.responses.create(model="m", input="x", previous_response_id=first.id)
    root = only([span for span in exported.named("session") if span.attributes["session.id"] == "X"])
    assert root.trace_id != session_trace_id("X")
    turns = [span for span in exported.named("chat") if span.attributes["session.id"] == "X"]
    assert Counter((turn.trace_id, turn.parent_id) == ref(root) for turn in turns) == {True: 9, False: 1}
    assert (only(exported.named("turn")).trace_id, len(exported.named("session"))) == (root.trace_id, 2)
    assert warnings_of(caplog, None) == []


def test_a_wrapper_marks_the_first_nested_turn_of_a_chain_too(client, exported):
    provider: Any = WrappedProvider(exported.provider)
    with capture_spans(tracer_provider=provider):
        with provider.get_tracer("x").start_as_current_span("request"):
            first = client.responses.create(model="m", input="x")
        client.responses.create(model="m", input="x", previous_response_id=first.id)
    assert only(exported.named("turn")).trace_id == only(exported.named("session")).trace_id


def test_with_the_api_only_chains_are_kept_and_nothing_is_raised(api, caplog):
    store = MemoryStore()
    instrumentor = OpenAISessionsInstrumentor()
    instrumentor.instrument(tracer_provider=trace.NoOpTracerProvider(), store=store)
    with session("X"):
        api.chat()
    first = api.respond()
    second = api.respond(previous_response_id=first.id)
    link = store.get_all([f"r:{second.id}"])[0]
    instrumentor.uninstrument()
    assert link is not None
    assert (link.session_id, link.turn) == (first.id, 2)
    assert warnings_of(caplog, None) == []


@pytest.fixture
def no_global_provider(monkeypatch):
    """No tracer provider is set; returns what sets one, as often as one likes."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    return lambda provider: setattr(trace, "_TRACER_PROVIDER", provider)


def test_a_provider_set_after_instrument_gets_whole_sessions(client, exported, no_global_provider):
    OpenAISessionsInstrumentor().instrument()
    ask(client, "X")
    first = client.responses.create(model="m", input="x")
    no_global_provider(exported.provider)
    for _ in range(2):
        ask(client, "X")
    client.responses.create(model="m", input="x", previous_response_id=first.id)
    roots = {root.attributes["session.id"]: ref(root) for root in exported.named("session")}
    assert (len(exported.named("session")), set(roots)) == (2, {"X", first.id})
    assert [(c.trace_id, c.parent_id) for c in exported.named("chat")] == [roots["X"]] * 2 + [roots[first.id]]
    assert [c.attributes["llm_session.turn"] for c in exported.named("chat")] == [2, 3, 2]


def test_a_provider_replaced_between_tests_gets_whole_sessions_and_the_old_one_is_freed(client, no_global_provider):
    OpenAISessionsInstrumentor().instrument()
    chain = None
    freed = []
    for number in range(3):
        memory = InMemorySpanExporter()
        provider = provider_to(memory)
        freed.append(weakref.ref(provider))
        no_global_provider(provider)
        for _ in range(2):
            ask(client, "X")
            chain = client.responses.create(model="m", input="x", **{"previous_response_id": chain.id} if chain else {})
        with session("X"):
            ask(client, "X")
        spans = memory.get_finished_spans()
        roots = Counter(span.context.span_id for span in spans if span.name == "session")
        assert list(roots.values()) == [1, 1], f"provider {number}"
        assert {span.parent.span_id for span in spans if span.name != "session"} == set(roots)
    del provider, memory, spans
    no_global_provider(None)
    ask(client, "X")
    gc.collect()
    assert [ref() for ref in freed] == [None, None, None]


def test_a_foreign_tracer_with_ids_but_no_sampler_is_taken_to_sample(client, exported, caplog):
    class HalfTracer(WrappedTracer):
        @property
        def id_generator(self) -> Any:
            return self.inner.id_generator

        @id_generator.setter
        def id_generator(self, value: Any) -> None:
            self.inner.id_generator = value

    class HalfProvider(WrappedProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
            return HalfTracer(self.inner.get_tracer(*args, **kwargs))

    class Lost(MemoryStore):
        def claim(self, key: str) -> bool:
            return False

    with capture_spans(tracer_provider=HalfProvider(exported.provider), store=Lost()):
        ask(client, "X")
    assert only(exported.spans).trace_id == session_trace_id("X")
    assert warnings_of(caplog, None) == []


# --- TRACES=turn --------------------------------------------------------------------------------------------


def test_with_traces_turn_ids_and_parents_are_natural(api, exported, tracer):
    with capture_spans(tracer_provider=exported.provider, traces="turn"):
        first = api.respond()
        with tracer.start_as_current_span("request"):
            api.respond(previous_response_id=first.id)
        with session("X"):
            api.chat()
    assert not exported.named("session")
    assert not exported.named("turn")
    one, two, three = exported.named("chat")
    assert (one.parent_id, three.parent_id) == ("", "")
    assert len({one.trace_id, two.trace_id, three.trace_id}) == 3
    assert (two.trace_id, two.parent_id) == ref(only(exported.named("request")))
    assert linked(two, "previous_turn") == [ref(one)]
    assert "llm_session.part" not in one.attributes
