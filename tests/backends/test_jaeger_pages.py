"""Ten thousand sessions in the real Jaeger: pages follow one another, and what a limit cuts off is said."""

from __future__ import annotations

import dataclasses
import hashlib
import time
import urllib.request
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from servers import Jaeger

from otel_llm_sessions.view.query import SECOND, Query
from otel_llm_sessions.view.sources.jaeger import LIMIT, JaegerSource
from otel_llm_sessions.view.sources.site import Site

pytestmark = pytest.mark.slow

SESSIONS = 10_000
TURNS = 3
APART = 100_000_000
"""Nanoseconds from the begin of one session to the next one's."""


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Iterator[tuple[Jaeger, int]]:
    """A Jaeger with ten thousand sessions of three turns each, and when the first of them began."""
    begun = time.time_ns() - SESSIONS * APART
    with Jaeger(tmp_path_factory.mktemp("many")) as jaeger:
        for first in range(0, SESSIONS, 500):
            sent = exported(range(first, first + 500), begun)
            headers = {"Content-Type": "application/x-protobuf"}
            urllib.request.urlopen(urllib.request.Request(f"{jaeger.otlp}/v1/traces", sent, headers)).close()
        yield jaeger, begun


def exported(numbers: range, begun: int) -> bytes:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.append(pair("service.name", "many"))
    spans = group.scope_spans.add().spans
    for number in numbers:
        start = begun + number * APART
        root = span(number, 0, start, **{"llm_session.root": True, "llm_session.part": 1})
        spans.append(root)
        for turn in range(1, TURNS + 1):
            said = {"gen_ai.operation.name": "chat", "llm_session.turn": turn, "llm_session.source": "header"}
            call = span(number, turn, start + turn * 1_000_000, **said, **{"gen_ai.usage.input_tokens": number})
            call.parent_span_id = root.span_id
            spans.append(call)
    return request.SerializeToString()


def span(number: int, place: int, start: int, **said: object) -> Span:
    ids = hashlib.sha256(f"{number}".encode()).digest()
    attributes = [pair("session.id", f"s-{number}"), *(pair(name, value) for name, value in said.items())]
    return Span(
        name="chat" if place else "session",
        trace_id=ids[:16],
        span_id=ids[16:23] + bytes([place + 1]),
        start_time_unix_nano=start,
        end_time_unix_nano=start + 1_000_000,
        attributes=attributes,
    )


def pair(name: str, value: object) -> KeyValue:
    made = KeyValue(key=name)
    kind = {bool: "bool_value", int: "int_value"}.get(type(value), "string_value")
    setattr(made.value, kind, value)
    return made


def test_all_of_ten_thousand_sessions_are_listed_page_by_page(many, monkeypatch):
    jaeger, begun = many
    source, told, asked = JaegerSource(Site(jaeger.address)), [], []
    get = Site.get
    monkeypatch.setattr(Site, "get", lambda self, *said: asked.append(answer := get(self, *said)) or answer)
    query, found = Query(since=begun - SECOND, limit=1_000), []
    while True:
        page = source.sessions(query, told.append)
        found += page.sessions
        assert page.notices == ()
        if page.next_cursor is None:
            break
        query = dataclasses.replace(query, cursor=page.next_cursor)
    assert [one.id for one in found] == [f"s-{number}" for number in reversed(range(SESSIONS))]
    assert {one.turns for one in found} == {TURNS}
    assert len(told) > 10 and "10,000 traces" in told[-1]
    # Twice: by the roots, and by the calls that others may have made. Each trace is some 2,400 bytes of JSON.
    assert len(asked) < 2 * 3 * SESSIONS / LIMIT
    assert sum(map(len, asked)) < 2 * 1.5 * SESSIONS * 2_400


def test_the_sessions_with_most_tokens_come_first_wherever_they_stand_in_time(many):
    jaeger, begun = many
    late = begun + (SESSIONS - 3 * LIMIT) * APART
    page = JaegerSource(Site(jaeger.address)).sessions(Query(since=late, sort="tokens", limit=3))
    assert [one.input_tokens for one in page.sessions] == [TURNS * (SESSIONS - place) for place in (1, 2, 3)]


def test_what_more_than_one_search_answers_in_a_moment_is_said_to_be_cut_off(many):
    jaeger, begun = many
    middle = begun + SESSIONS // 2 * APART
    page = JaegerSource(Site(jaeger.address), limit=1).sessions(
        Query(since=middle, until=middle + 10 * APART, limit=1_000)
    )
    assert 10 <= len(page.sessions) <= 12
    assert any("not all of it is shown" in one for one in page.notices)


def test_a_limit_that_jaeger_refuses_is_lowered(many):
    jaeger, begun = many
    source = JaegerSource(Site(jaeger.address), limit=150_000)  # it keeps 100,000
    late = begun + (SESSIONS - 2 * LIMIT) * APART
    assert len(source.sessions(Query(since=late, limit=10_000)).sessions) == 2 * LIMIT
