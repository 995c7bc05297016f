"""Trace and span ids derived from a session id."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Span

from otel_llm_sessions import session_trace_id
from otel_llm_sessions.traces.ids import DerivedIdGenerator, derived_root_span_id, derived_trace_id, start_with_ids

TEXT = st.text(st.characters(exclude_characters="\0"), max_size=300)
PART = st.integers(1, 10_000)


def test_the_trace_id_is_what_the_documentation_says():
    expected = hashlib.sha256(b"shop\0chat-42\x003").hexdigest()[:32]
    assert session_trace_id("chat-42", namespace="shop", part=3) == expected


@pytest.mark.parametrize("part", [0, -1, 1.5, "2"])
def test_a_part_that_is_none_is_refused(part):
    with pytest.raises(ValueError, match="greater than 0"):
        session_trace_id("x", part=part)


@given(TEXT, TEXT, PART)
def test_a_trace_id_is_32_digits_and_never_zero(session_id, namespace, part):
    id_ = session_trace_id(session_id, namespace=namespace, part=part)
    assert len(id_) == 32
    assert 0 < int(id_, 16) < 1 << 128
    assert int(id_, 16) == derived_trace_id(session_id, namespace, part)


@given(st.lists(st.tuples(TEXT, TEXT, PART), min_size=2, max_size=2, unique=True))
def test_other_sessions_namespaces_and_parts_have_other_ids(two):
    assert derived_trace_id(*two[0]) != derived_trace_id(*two[1])
    assert derived_root_span_id(*two[0], "scope") != derived_root_span_id(*two[1], "scope")


@given(TEXT, TEXT, PART, st.lists(TEXT, min_size=2, max_size=2, unique=True))
def test_stores_of_other_scopes_have_other_roots_in_the_same_trace(session_id, namespace, part, scopes):
    one, two = (derived_root_span_id(session_id, namespace, part, scope) for scope in scopes)
    assert one != two
    assert 0 < one < 1 << 64


def test_surrogates_can_be_hashed():
    assert len(session_trace_id("\ud800")) == 32


class Counting(IdGenerator):
    def generate_span_id(self) -> int:
        return 7

    def generate_trace_id(self) -> int:
        return 8

    def is_trace_id_random(self) -> bool:
        return True


@pytest.fixture
def provider():
    return TracerProvider(id_generator=Counting(), shutdown_on_exit=False)


def derived(provider: TracerProvider) -> Any:
    tracer: Any = provider.get_tracer("x")
    if not isinstance(tracer.id_generator, DerivedIdGenerator):
        tracer.id_generator = DerivedIdGenerator(tracer.id_generator)
    return tracer


def ids_of(span: Span) -> tuple[int, int, int]:
    context = span.get_span_context()
    return context.trace_id, context.span_id, int(context.trace_flags)


DERIVED, OWN = (1, 2, 1), (8, 7, 3)
"""Of a derived trace id it is not said that it is random."""


def test_a_span_gets_the_ids_laid_out_for_it_and_the_next_one_its_own(provider):
    tracer = derived(provider)
    assert ids_of(start_with_ids(tracer, (1, 2), "root")) == DERIVED
    assert ids_of(tracer.start_span("x")) == OWN
    assert ids_of(start_with_ids(tracer, None, "x")) == OWN


def test_what_is_laid_out_for_a_span_that_cannot_be_started_no_other_gets(provider):
    class Broken(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise RuntimeError("processor")

    working, tracer = derived(TracerProvider(id_generator=Counting(), shutdown_on_exit=False)), derived(provider)
    provider.add_span_processor(Broken())
    with pytest.raises(RuntimeError, match="processor"):
        start_with_ids(tracer, (1, 2), "root")
    assert ids_of(working.start_span("x")) == OWN


def test_what_is_laid_out_is_no_other_threads():
    release, started = threading.Event(), threading.Event()

    class Slow(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            started.set()
            assert release.wait(10)

    slow = TracerProvider(id_generator=Counting(), shutdown_on_exit=False)
    slow.add_span_processor(Slow())
    other = derived(TracerProvider(id_generator=Counting(), shutdown_on_exit=False))
    with ThreadPoolExecutor(1) as pool:
        root = pool.submit(start_with_ids, derived(slow), (1, 2), "root")
        assert started.wait(10)
        assert ids_of(start_with_ids(other, None, "x")) == OWN
        release.set()
        assert ids_of(root.result()) == DERIVED
