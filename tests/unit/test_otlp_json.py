"""Spans written as OTLP and read again, as protobuf and as JSON, whatever their attributes hold."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from otlp_reading import read_spans

from otel_llm_sessions.view.otlp_json import read_spans_json, spans_json
from otel_llm_sessions.view.otlp_writing import spans_request
from otel_llm_sessions.view.sources.jaeger_json import trace_of
from otel_llm_sessions.view.sources.otlp_traces import spans_in
from otel_llm_sessions.view.spans import ReceivedEvent, ReceivedLink, ReceivedSpan

HEX = "0123456789abcdef"
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ATTRIBUTES = st.dictionaries(TEXT | st.sampled_from(("traceId", "spanId", "attributes")), VALUES, max_size=4)
TRACE, SPAN = st.text(HEX, min_size=32, max_size=32), st.text(HEX, min_size=16, max_size=16)
TIMES = st.integers(0, (1 << 64) - 1)
SPANS = st.builds(
    ReceivedSpan,
    name=TEXT,
    trace_id=TRACE,
    span_id=SPAN,
    parent_id=SPAN | st.just(""),
    kind=st.sampled_from(("INTERNAL", "CLIENT", "SERVER")),
    start=TIMES,
    end=TIMES,
    attributes=ATTRIBUTES,
    links=st.lists(st.builds(ReceivedLink, TRACE, SPAN, ATTRIBUTES, TEXT), max_size=2).map(tuple),
    events=st.lists(st.builds(ReceivedEvent, TEXT, TIMES, ATTRIBUTES), max_size=2).map(tuple),
    status=st.sampled_from(("UNSET", "OK", "ERROR")),
    status_message=TEXT,
    resource=ATTRIBUTES,
    scope=TEXT,
    flags=st.integers(0, 255),
    scope_version=TEXT,
    trace_state=TEXT,
    dropped=st.tuples(*[st.integers(0, (1 << 32) - 1)] * 3),
)
ODD = ReceivedSpan(
    "half \ud800",
    "no hex",
    "01",
    kind="NOBODY'S",
    start=-1,
    end=1 << 70,
    attributes={"big": 1 << 70, "object": object, 5: math.nan, "deep": [[[]]], "half": "\udc00"},
    status="?",
)


@given(st.lists(SPANS, max_size=3))
def test_what_is_written_is_read_again(spans):
    def in_order(some):
        return sorted(map(repr, some))

    assert in_order(read_spans(spans_request(spans).SerializeToString())) == in_order(spans)
    assert in_order(read_spans_json(spans_json(spans))) == in_order(spans)


def test_backends_tell_the_trace_state_and_the_scopes_version():
    link = ReceivedLink("cd" * 16, "ef" * 8, {"a": 1}, "ot=th:c")
    span = ReceivedSpan(
        "n", "ab" * 16, "12" * 8, links=(link,), scope="s", scope_version="2", trace_state="ot=th:8", dropped=(1, 2, 3)
    )
    assert spans_in(json.loads(spans_json([span]))) == [span]
    tags = {"otel.scope.name": "s", "otel.scope.version": "2", "w3c.tracestate": "ot=th:8"}
    said = {"traceID": "ab", "spanID": "12", "tags": [{"key": key, "value": value} for key, value in tags.items()]}
    (told,) = trace_of({"traceID": "ab", "spans": [said]})
    assert (told.scope, told.scope_version, told.trace_state, told.attributes) == ("s", "2", "ot=th:8", {})


def test_spans_of_one_resource_and_scope_stand_together_in_their_order():
    spans = [ReceivedSpan(str(number), "aa" * 16, "bb" * 8, resource={"a": 1}, scope="s") for number in range(3)]
    (group,) = spans_request(spans).resource_spans
    (scoped,) = group.scope_spans
    assert [span.name for span in scoped.spans] == ["0", "1", "2"]


def test_json_has_hexadecimal_ids_numbers_for_enums_and_texts_for_long_numbers():
    link = ReceivedLink("cd" * 16, "ef" * 8, {"traceId": "left alone"})
    span = ReceivedSpan("n", "ab" * 16, "12" * 8, "34" * 8, "CLIENT", 5, 7, {"spanId": 9}, (link,), status="ERROR")
    written = json.loads(spans_json([span]))["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert (written["traceId"], written["spanId"], written["parentSpanId"]) == ("ab" * 16, "12" * 8, "34" * 8)
    assert (written["kind"], written["status"]["code"], written["startTimeUnixNano"]) == (3, 2, "5")
    assert written["attributes"] == [{"key": "spanId", "value": {"intValue": "9"}}]
    assert written["links"][0]["traceId"] == "cd" * 16
    assert written["links"][0]["attributes"] == [{"key": "traceId", "value": {"stringValue": "left alone"}}]


def test_what_otlp_cannot_hold_is_written_as_far_as_it_goes():
    for read in (read_spans_json(spans_json([ODD])), read_spans(spans_request([ODD]).SerializeToString())):
        (span,) = read
        assert (span.name, span.trace_id, span.span_id, span.start, span.end) == ("half ?", "", "01", 0, (1 << 64) - 1)
        assert (span.kind, span.status) == ("UNSPECIFIED", "UNSET")
        assert span.attributes["big"] == str(1 << 70)
        assert span.attributes["object"] == "<class 'object'>"
        assert math.isnan(span.attributes["5"])
        assert (span.attributes["deep"], span.attributes["half"]) == ((((),),), "?")


def test_half_a_character_costs_nothing_else():
    """As JavaScript writes a text that it cut amid an emoji."""
    text = spans_json([ReceivedSpan("chat", "aa" * 16, "bb" * 8, attributes={"said": "so HALF", "more": "and on"})])
    (span,) = read_spans_json(text.replace("HALF", "\\ud83d"))
    assert (span.trace_id, span.attributes) == ("aa" * 16, {"said": "so ?", "more": "and on"})


def test_fields_that_are_not_known_are_left_out():
    text = '{"resourceSpans": [{"new": {"a": [1]}, "scopeSpans": [{"spans": [{"name": "n", "newer": 1}]}]}]}'
    assert [span.name for span in read_spans_json(text)] == ["n"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "1",
        "{",
        '{"resourceSpans": 1}',
        '{"resourceSpans": [1]}',
        '{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "xyz"}]}]}]}',
        '{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "-1"}]}]}]}',
        '{"a": ' * 500 + "1" + "}" * 500,
        '{"a": ' * 100_000,
        b"\xff\xfe\xff",
    ],
    ids=range(11),
)
def test_what_is_no_otlp_json_is_refused_with_a_reason(text):
    with pytest.raises(ValueError, match=r"."):
        read_spans_json(text)
