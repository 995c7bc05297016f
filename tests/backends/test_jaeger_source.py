"""Sessions read from the real Jaeger: the same as are read from what our own receiver takes in."""

from __future__ import annotations

import dataclasses
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from exports_kit import Export, load_all, misread
from servers import Jaeger
from web_kit import Asked, web

from otel_llm_sessions.view.query import SECOND, Query
from otel_llm_sessions.view.sessions import sessions_of
from otel_llm_sessions.view.sources.jaeger import JaegerSource
from otel_llm_sessions.view.sources.site import Site
from otel_llm_sessions.view.summaries import Summary

WEEK = 7 * 86_400 * SECOND
LACKING = {
    "event_only": "words",  # those are in log records, and Jaeger keeps none
    "parent_session": "children",  # only the child's root tells of its parent, and no search finds links
}
"""What Jaeger cannot tell, by the export and the beginning of what differs."""
HTML = b"<!doctype html><title>Jaeger UI</title>"
APIS = {"v1 and v3": "", "v3 alone": "/api/traces /api/services", "v1 alone": "/api/v3/"}
"""The APIs that answer, and the paths that the others have."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Iterator[tuple[Jaeger, list[Export]]]:
    """A Jaeger of its own that has all recorded exports, moved to now."""
    with Jaeger(tmp_path_factory.mktemp("exports")) as jaeger:
        exports = load_all(time.time_ns(), "jaeger")
        for export in exports:
            for message in export.traces:
                send(jaeger, message)
        yield jaeger, exports


@pytest.fixture(params=APIS, ids=str)
def source(request, filled) -> Iterator[JaegerSource]:
    """That Jaeger, or what is left of it where one of its APIs is not there."""
    jaeger, hidden = filled[0], APIS[request.param].split()

    def answer(asked: Asked) -> tuple[int, bytes]:
        if any(asked.path.startswith(path) for path in hidden):
            return 404 if request.param == "v1 alone" else 200, HTML  # Jaeger answers its page to what it does not know
        return forwarded(jaeger, asked)

    with web(answer) as served:
        yield JaegerSource(Site(served.url))


def send(jaeger: Jaeger, message: bytes) -> None:
    headers = {"Content-Type": "application/x-protobuf"}
    with urllib.request.urlopen(urllib.request.Request(f"{jaeger.otlp}/v1/traces", message, headers)) as answer:
        assert answer.status == 200


def forwarded(jaeger: Jaeger, asked: Asked) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"{jaeger.address}{asked.target}", timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


def test_all_recorded_sessions_are_listed_as_the_receiver_has_them(source, filled):
    expected = {one.id: one for export in filled[1] for one in summaries(export)}
    page = source.sessions(Query(since=time.time_ns() - WEEK, limit=10_000))
    found = {one.id: one for one in page.sessions}
    assert found.keys() == expected.keys()
    for id_, one in found.items():
        assert abs(one.first - expected[id_].first) < 1_000
        assert abs(one.last - expected[id_].last) < 2_000  # a time and a duration, each cut
        assert dataclasses.replace(one, first=0, last=0) == dataclasses.replace(expected[id_], first=0, last=0)


def test_each_recorded_session_is_read_whole(source, filled):
    assert misread(filled[1], source, LACKING) == []


def test_a_session_that_nobody_knows_is_none(source):
    assert source.session("nobody") is None


def summaries(export: Export) -> list[Summary]:
    return [one.summary() for one in sessions_of(export.spans)]
