"""Trace and span ids derived from a session id."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator

from otel_llm_sessions import session_trace_id
from otel_llm_sessions.traces.ids import DerivedIdGenerator, derived_root_span_id, derived_trace_id

TEXT = st.text(st.characters(exclude_characters="\0"), max_size=300)
PART = st.integers(1, 10_000)


def test_the_trace_id_is_what_the_documentation_says():
    expected = hashlib.sha256(b"shop\0chat-42\x003").hexdigest()[:32]
    assert session_trace_id("chat-42", namespace="shop", part=3) == expected


@pytest.mark.parametrize("part", [0, -1])
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


def test_a_generator_gives_what_is_laid_out_until_it_is_cleared():
    ids = DerivedIdGenerator(Counting())
    assert (ids.generate_trace_id(), ids.generate_span_id(), ids.is_trace_id_random()) == (8, 7, True)
    ids.lay_out(1, 2)
    assert (ids.generate_trace_id(), ids.generate_span_id(), ids.is_trace_id_random()) == (1, 2, False)
    ids.clear()
    assert (ids.generate_trace_id(), ids.generate_span_id(), ids.is_trace_id_random()) == (8, 7, True)


def test_what_one_thread_lays_out_no_other_gets():
    from concurrent.futures import ThreadPoolExecutor

    ids = DerivedIdGenerator(Counting())
    ids.lay_out(1, 2)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(ids.generate_trace_id).result() == 8


def test_a_derived_trace_id_is_not_flagged_as_random():
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("x")
    tracer.id_generator = ids = DerivedIdGenerator(tracer.id_generator)
    ids.lay_out(1, 2)
    derived = tracer.start_span("x").get_span_context()
    ids.clear()
    assert (derived.trace_id, derived.span_id, int(derived.trace_flags)) == (1, 2, 1)
