"""Opening session traces, where races decide: steps in an order that threads and processes may take."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from announced_lock import AnnouncedLock
from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN
from providers_kit import provider_to

from otel_llm_sessions.semconv import LLM_SESSION_SOURCE
from otel_llm_sessions.sessions.link import SessionLink, SessionTrace, SpanRef
from otel_llm_sessions.sessions.resolver import Resolution
from otel_llm_sessions.settings import Settings
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.traces.home import Homes
from otel_llm_sessions.traces.opening import told
from otel_llm_sessions.traces.parts import TurnCounts
from otel_llm_sessions.traces.placement import SessionPlacer
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
    provider = provider_to(memory)
    return provider


class TakesEmptyForNone(SpanProcessor):
    """What was current where spans were started, to one who takes an empty context for none, as many do."""

    def __init__(self) -> None:
        self.around: list[Any] = []

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        self.around.append(trace.get_current_span(parent_context or get_current()))


def planned(roots: Roots) -> Any:
    opening = roots.plan(X, "metadata").opening
    assert opening is not None
    return opening


def test_two_that_planned_before_either_opened_have_one_root(provider, memory):
    store = MemoryStore()
    roots = Roots(provider, store)
    one, two = planned(roots), planned(roots)
    assert one.claim_key == two.claim_key
    traces = [roots.open(opening, store.claim(opening.claim_key)) for opening in (two, one)]
    assert traces[0][:3] == traces[1][:3]
    assert len(memory.get_finished_spans()) == 1


def test_two_that_planned_have_one_root_with_a_provider_that_takes_no_ids_too(provider, memory):
    store = MemoryStore()
    plain: Any = Plain(provider)
    roots = Roots(plain, store)
    one, two = planned(roots), planned(roots)
    assert roots.open(one, False) == roots.open(two, True)
    assert len(memory.get_finished_spans()) == 1


def test_what_is_known_is_bounded(provider):
    roots = Roots(provider, MemoryStore())
    for number in range(MAX_KNOWN + 10):
        id_: Any = str(number)
        opening = roots.plan(id_, None).opening
        assert opening is not None
        roots.open(opening, False)
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


def going_on(turns: int, most: int, flags: int = 1) -> tuple[TurnCounts, SessionTrace]:
    """Return the counts of a part that is open, and its trace."""
    counts, open_ = TurnCounts(most), SessionTrace(7, 8, flags, 1, 1000, 1)
    for before in range(turns):
        assert counts.add("X", 1, before, bool(flags))
    counts.keep(X, open_, 1500)
    return counts, open_


def test_turns_go_on_in_an_open_part_as_long_as_it_has_room_and_counted_exactly_in_parallel():
    counts, open_ = going_on(1, 100)
    with ThreadPoolExecutor(8) as pool:
        plans = [*pool.map(lambda _: counts.go_on(X, open_, 2, 1001), range(400))]
    assert sum(plan is not None for plan in plans) == 99
    assert not counts.add("X", 1, 1, False)


def test_turns_do_not_go_on_unseen_in_a_part_that_is_old_another_or_fuller_by_their_number():
    counts, open_ = going_on(2, 4)
    assert counts.go_on(X, open_, 3, 1500) is None
    assert counts.go_on(X, SessionTrace(*open_), 3, 1001) is None
    assert counts.go_on(X, open_, 4, 1001) is None
    plan = counts.go_on(X, open_, 3, 1499)
    assert plan is not None
    assert plan.trace is open_


def test_turns_that_nobody_sees_go_on_by_their_number_alone():
    counts, open_ = going_on(0, 4, flags=0)
    assert all(counts.go_on(X, open_, 4, 1001) for _ in range(9))
    assert counts.go_on(X, open_, 5, 1001) is None


def test_a_root_is_told_what_its_sampler_left_out_and_nothing_twice(provider, memory):
    roots = Roots(provider, MemoryStore())
    opening = planned(roots)
    roots.open(opening, True)
    (root,) = memory.get_finished_spans()
    assert told(opening, root) == {LLM_SESSION_SOURCE: "metadata"}
    assert told(opening, INVALID_SPAN) == dict(root.attributes)


def test_turns_that_plan_a_part_at_the_same_time_do_not_overfill_it(provider, memory):
    """Each plans before any has opened the part."""
    roots = Roots(provider, MemoryStore())
    placer = SessionPlacer(roots, 2, 3600)
    resolutions = [Resolution(X, "metadata", "metadata", turn, None, None) for turn in (1, 1, 1, 1, 1)]
    openings = [placer.plan(resolution).opening for resolution in resolutions]
    assert [opening.part for opening in openings if opening] == [1, 1, 2, 2, 3]
    traces = [roots.open(opening, True) for opening in openings if opening]
    (link,) = memory.get_finished_spans()[2].links
    assert (link.context.trace_id, link.context.span_id) == traces[0][:2]


def test_the_first_two_calls_at_the_same_time_replace_no_provider(provider, memory):
    """Otherwise each session that an earlier process opened would get its root once more from this one."""

    class Slow(TracerProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
            if not other.ident:
                other.start()
                lock.wait_for(2)
            return provider.get_tracer(*args, **kwargs)

    slow = Slow(shutdown_on_exit=False)
    homes = Homes(slow, Settings(), MemoryStore())
    lock = homes._lock = AnnouncedLock()
    others: list[Any] = []
    other = threading.Thread(target=lambda: others.append(homes.get()))
    home = homes.get()
    other.join(10)
    assert not other.is_alive()
    assert others == [home]


def test_a_provider_that_takes_anothers_place_emits_the_roots_again(provider, memory, monkeypatch):
    """Those of before went elsewhere; what it has opened itself it knows."""
    homes = Homes(None, Settings(), store := MemoryStore())
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", TracerProvider(shutdown_on_exit=False))
    before = homes.get().placer
    turn = Resolution(X, "metadata", "metadata", 1, None, None)
    trace_id = before.place(turn, before.plan(turn), True, Context(), INVALID_SPAN, False)[0].trace.trace_id
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    after = homes.get().placer
    opening = after.plan(turn).opening
    assert opening is not None
    assert opening.trace_id == trace_id
    assert store.claim(opening.claim_key)
    opened, _, _ = after.place(turn, after.plan(turn), True, Context(), INVALID_SPAN, False)
    assert after.plan(turn).trace == opened.trace
    assert [span.context.trace_id for span in memory.get_finished_spans()] == [trace_id]


def test_a_call_that_outlives_its_provider_does_not_bring_it_back(provider, memory, monkeypatch):
    """A stream that goes on while the provider is replaced ends with spans of the provider that it began with."""
    homes = Homes(None, Settings(), MemoryStore())
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    old = homes.get()
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", TracerProvider(shutdown_on_exit=False))
    new = homes.get()
    trace_ = SessionTrace(1, 2, 1, 1, 1, 1)
    old.placer.mark(SessionLink(X, "metadata", 1, SpanRef(1, 3, 1), 1, 2, trace=trace_))
    assert [span.name for span in memory.get_finished_spans()] == ["turn"]
    assert homes.get() is new


def test_a_call_that_began_before_the_provider_was_set_opens_what_others_do(provider, memory, monkeypatch):
    """The API's stand-in hands out the tracers of the provider that was set meanwhile."""
    store = MemoryStore()
    early = Roots(trace.ProxyTracerProvider(), store, "")
    assert not early.takes_ids
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    late = Roots(provider, store, "")
    openings = [planned(early), planned(late)]
    assert openings[0].claim_key == openings[1].claim_key
    traces = [
        roots.open(opening, store.claim(opening.claim_key))
        for roots, opening in zip((early, late), openings, strict=True)
    ]
    assert traces[0][:3] == traces[1][:3]
    assert [span.context.span_id for span in memory.get_finished_spans()] == [traces[0].root_span_id]


def test_a_root_is_told_again_where_the_provider_was_given_before_it_was_set(provider, memory, monkeypatch):
    """A chain asks its roots for no ids, so that nobody has looked for the tracer behind the API's stand-in before."""
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", None)
    roots = Roots(trace.ProxyTracerProvider(), MemoryStore(), "", repeat=0.0)
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    fresh = roots.fresh(1)
    assert fresh is not None
    assert fresh.opened is not None
    roots.end_fresh(fresh, X)
    for _ in range(2):
        roots.tell_again(fresh.opened)
    once, again = memory.get_finished_spans()
    assert once.get_span_context() == again.get_span_context()


def test_what_is_current_is_not_around_a_root_for_processors_that_take_an_empty_context_for_none(provider):
    takes = TakesEmptyForNone()
    provider.add_span_processor(takes)
    roots = Roots(provider, MemoryStore(), "")
    with provider.get_tracer("app").start_as_current_span("request"):
        assert roots.fresh(1) is not None
        roots.open(planned(roots), True)
    assert takes.around == [INVALID_SPAN] * 3
