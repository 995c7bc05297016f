"""Opening session traces, where races decide: steps in an order that threads and processes may take."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from announced_lock import AnnouncedLock
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_llm_sessions.sessions.resolver import Resolution
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.traces.placement import SessionTraces, TurnCounts
from otel_llm_sessions.traces.roots import MAX_KNOWN, Roots

X: Any = "X"


class Plain(trace.TracerProvider):
    """A provider whose tracers take no ids."""

    def __init__(self, inner: TracerProvider) -> None:
        self._inner = inner

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        tracer = self._inner.get_tracer(*args, **kwargs)
        return type("PlainTracer", (), {"start_span": staticmethod(tracer.start_span)})()


@pytest.fixture
def memory():
    return InMemorySpanExporter()


@pytest.fixture
def provider(memory):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    return provider


def planned(roots: Roots, provider: Any) -> Any:
    opening = roots.plan(X, "metadata", provider).opening
    assert opening is not None
    return opening


def test_two_that_planned_before_either_opened_have_one_root(provider, memory):
    store = MemoryStore()
    roots = Roots(store, None)
    one, two = planned(roots, provider), planned(roots, provider)
    assert one.claim_key == two.claim_key
    traces = [roots.open(opening, store.claim(opening.claim_key), provider) for opening in (two, one)]
    assert traces[0][:3] == traces[1][:3]
    assert len(memory.get_finished_spans()) == 1


def test_two_that_planned_have_one_root_with_a_provider_that_takes_no_ids_too(provider, memory):
    store = MemoryStore()
    plain: Any = Plain(provider)
    roots = Roots(store, None)
    one, two = planned(roots, plain), planned(roots, plain)
    assert roots.open(one, False, plain) == roots.open(two, True, plain)
    assert len(memory.get_finished_spans()) == 1


def test_what_is_known_is_bounded(provider):
    roots = Roots(MemoryStore(), None)
    for number in range(MAX_KNOWN + 10):
        id_: Any = str(number)
        opening = roots.plan(id_, None, provider).opening
        assert opening is not None
        roots.open(opening, False, provider)
    assert len(roots._known) == MAX_KNOWN


def test_counts_of_turns_are_exact_in_parallel():
    counts = TurnCounts(100)
    with ThreadPoolExecutor(8) as pool:
        let_in = sum(pool.map(lambda _: counts.add("X", 1, 0, True), range(400)))
    assert let_in == 100
    assert counts.add("X", 2, 0, True)


def test_looking_counts_nothing():
    counts = TurnCounts(1)
    assert all(counts.add("X", 1, 0, False) for _ in range(5))
    assert counts.add("X", 1, 0, True)
    assert not counts.add("X", 1, 0, False)


def test_turns_of_other_processes_count_by_their_number():
    counts = TurnCounts(10)
    assert counts.add("X", 1, 9, True)
    assert not counts.add("X", 1, 0, True)
    assert not counts.add("Y", 1, 10, True)


def test_turns_of_a_fork_with_lower_numbers_than_the_part_began_with_count_too():
    counts = TurnCounts(2)
    assert counts.add("X", 3, -5, True)
    assert counts.add("X", 3, 0, True)
    assert not counts.add("X", 3, 1, True)


def test_turns_that_plan_a_part_at_the_same_time_do_not_overfill_it(provider, memory):
    """Each plans before any has opened the part."""
    roots = Roots(MemoryStore(), None)
    placer = SessionTraces(roots, 2, 3600)
    resolutions = [Resolution(X, "metadata", "metadata", turn, None, None) for turn in (1, 1, 1, 1, 1)]
    openings = [placer.plan(resolution, provider).opening for resolution in resolutions]
    assert [opening.part for opening in openings if opening] == [1, 1, 2, 2, 3]
    traces = [roots.open(opening, True, provider) for opening in openings if opening]
    (link,) = memory.get_finished_spans()[2].links
    assert (link.context.trace_id, link.context.span_id) == traces[0][:2]


def test_the_first_two_calls_at_the_same_time_replace_no_provider(provider, memory):
    """Otherwise each session that an earlier process opened would get its root once more from this one."""
    roots = Roots(MemoryStore(), None)
    earlier = Roots(MemoryStore(), None).fresh(provider, 1)[1]
    lock = roots._lock = AnnouncedLock()

    class Slow(TracerProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
            other.start()
            lock.wait_for(2)
            return provider.get_tracer(*args, **kwargs)

    slow = Slow(shutdown_on_exit=False)
    other = threading.Thread(target=roots.plan, args=(X, "metadata", slow))
    opening = planned(roots, slow)
    other.join(10)
    assert not other.is_alive()
    assert roots.resume(X, "metadata", earlier, slow).opening is None
    assert planned(roots, slow).claim_key == opening.claim_key


def test_a_call_that_outlives_its_provider_does_not_bring_it_back(provider, memory):
    """A stream that goes on while the provider is replaced ends with spans of the provider that it began with."""
    roots = Roots(MemoryStore(), None)
    new = TracerProvider(shutdown_on_exit=False)
    roots.fresh(provider, 1)
    trace = roots.open(planned(roots, new), True, new)
    roots.tracer(provider).start_span("turn").end()
    assert [span.name for span in memory.get_finished_spans()] == ["turn"]
    assert roots.resume(X, "metadata", trace, new).opening is None
    assert roots.plan(X, "metadata", new).trace == trace


def test_a_call_that_began_before_the_provider_was_set_replaces_none(provider, memory, monkeypatch):
    """The API's stand-in hands out the tracers of the provider that was set meanwhile."""
    roots = Roots(MemoryStore(), None)
    opened = roots.open(planned(roots, provider), True, provider)
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    stand_in: Any = trace.ProxyTracerProvider()
    assert roots.plan(X, "metadata", stand_in).trace == opened
    other: Any = "Y"
    opening = roots.plan(other, "metadata", stand_in).opening
    assert opening is not None
    roots.open(opening, True, stand_in)
    assert [span.context.span_id for span in memory.get_finished_spans()] == [opened.root_span_id, opening.root_span_id]
    assert roots.resume(X, "metadata", opened, provider).opening is None
