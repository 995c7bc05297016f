"""What is kept of roots that are to be told again: bounded, given out once, by as many threads as ask."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import NonRecordingSpan

from otel_llm_sessions.sessions.link import SessionTrace
from otel_llm_sessions.traces import repeats as module
from otel_llm_sessions.traces.repeats import MOST, NEVER, Repeats

SECOND = 1_000_000_000


class Clock:
    """A time that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000 * SECOND
        monkeypatch.setattr(module.time, "time_ns", lambda: self.now)


class Recorded(Sampler):
    """Has spans recorded that nobody exports."""

    def should_sample(self, *arguments, **keywords):
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self):
        return "recorded"


@pytest.fixture
def clock(monkeypatch):
    with monkeypatch.context() as patch:
        yield Clock(patch)


def root_of(sampler: Sampler | None = None) -> tuple[Span, SessionTrace]:
    tracer = TracerProvider(sampler=sampler, shutdown_on_exit=False).get_tracer("x")
    root = tracer.start_span("session", start_time=1)
    root.end(2)
    context = root.get_span_context()
    return root, SessionTrace(context.trace_id, context.span_id, int(context.trace_flags), 1, 1, 1)


def test_a_root_is_due_when_it_has_rested_whenever_it_began(clock):
    repeats, (root, trace) = Repeats(30.0), root_of()
    repeats.keep(root)
    assert repeats.due(trace) == clock.now + 30 * SECOND
    clock.now += 30 * SECOND - 1
    assert repeats.take(trace) is None
    clock.now += 1
    assert repeats.take(trace) is root
    assert repeats.take(trace) is None
    assert repeats.due(trace) == NEVER


def test_of_many_who_ask_at_once_one_gets_it(clock):
    repeats, (root, trace) = Repeats(1.0), root_of()
    repeats.keep(root)
    clock.now += SECOND
    with ThreadPoolExecutor(8) as pool:
        assert sum(taken is root for taken in pool.map(lambda _: repeats.take(trace), range(400))) == 1


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, Recorded()], ids=["dropped", "recorded"])
def test_a_root_that_nobody_sees_is_not_kept(sampler):
    repeats, (root, trace) = Repeats(1.0), root_of(sampler)
    repeats.keep(root)
    assert repeats.due(trace) == NEVER


def test_a_span_that_is_not_the_sdks_is_not_kept():
    repeats, (root, trace) = Repeats(1.0), root_of()
    repeats.keep(NonRecordingSpan(root.get_span_context()))
    assert repeats.due(trace) == NEVER


def test_the_newest_are_kept_and_no_more_than_that():
    repeats = Repeats(1.0)
    traces = []
    for _ in range(MOST + 2):
        root, trace = root_of()
        repeats.keep(root)
        traces.append(trace)
    assert [repeats.due(trace) == NEVER for trace in traces].count(True) == 2
    assert repeats.due(traces[-1]) != NEVER


def test_a_forked_child_has_none(clock):
    repeats, (root, trace) = Repeats(1.0), root_of()
    repeats.keep(root)
    repeats.after_fork_in_child()
    assert repeats.due(trace) == NEVER
