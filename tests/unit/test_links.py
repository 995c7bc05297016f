"""Links, and contexts made of ids that are known: the same as the API makes them."""

from __future__ import annotations

import pytest
from opentelemetry.trace import Link, SpanContext, TraceFlags, TraceState

from otel_llm_sessions.sessions.link import SpanRef
from otel_llm_sessions.traces import links
from otel_llm_sessions.traces.links import TO_ROOT, ref_of, span_context


@pytest.mark.parametrize("flags", [0, 1, 2, 3, 255])
@pytest.mark.parametrize(
    ("trace_id", "span_id"),
    [(1, 1), (2**128 - 1, 2**64 - 1), (0, 1), (1, 0), (2**128, 1), (1, 2**64), (-1, 1), (1, -1)],
)
def test_a_context_is_what_the_api_makes_of_its_ids(trace_id, span_id, flags):
    made = span_context(SpanRef(trace_id, span_id, flags))
    expected = SpanContext(trace_id, span_id, False, TraceFlags(flags))
    assert type(made) is SpanContext
    assert made == expected
    assert (made.is_valid, made.is_remote, made.trace_state) == (expected.is_valid, False, expected.trace_state)
    assert type(made.trace_flags) is TraceFlags
    assert ref_of(made) == SpanRef(trace_id, span_id, flags)


@pytest.mark.parametrize(("is_remote", "state"), [(True, None), (False, TraceState([("ot", "th:8")]))])
def test_a_links_context_is_made_of_the_ids_alone(is_remote, state):
    made = span_context(ref_of(SpanContext(7, 8, is_remote, TraceFlags(1), state)))
    assert (made.is_remote, len(made.trace_state)) == (False, 0)


@pytest.mark.parametrize("attributes", [TO_ROOT, None])
@pytest.mark.parametrize("is_bare", [True, False], ids=["as the API has links", "as an API may have them"])
def test_a_link_is_what_the_api_makes_of_it(monkeypatch, attributes, is_bare):
    assert links.IS_BARE
    monkeypatch.setattr(links, "IS_BARE", is_bare)
    context = SpanContext(7, 8, False)
    made, expected = links.link(context, attributes), Link(context, attributes)
    assert type(made) is Link
    assert vars(made) == vars(expected)
    assert (made.context, made.attributes, made.dropped_attributes) == (context, attributes, 0)
