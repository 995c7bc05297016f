"""Bodies that come in pieces, as the raw and the streaming responses read them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_llm_sessions.openai import raw
from otel_llm_sessions.openai.raw import BodyReader
from otel_llm_sessions.openai.routes import CHAT, Match

EVENTS = "text/event-stream; charset=utf-8"
JSON = "application/json"


class Heard:
    """A call that only listens."""

    def __init__(self, stream: bool = True, is_body_for_events: bool = False) -> None:
        self.seen: list[Any] = []
        self.whole: list[Any] = []
        self.finished = 0
        self.request = SimpleNamespace(stream=stream, is_body_for_events=is_body_for_events, match=Match(CHAT, None))
        self.reply = SimpleNamespace(error_type=None)

    @property
    def first_chunk(self) -> float | None:
        return 1.0 if self.seen else None

    def read(self, value: Any) -> None:
        self.whole.append(value)


def see(call: Heard, event: Any) -> None:
    call.seen.append(event)


def finish(call: Heard) -> None:
    call.finished += 1


@pytest.fixture(autouse=True, scope="module")
def listening():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw, "see", see)
        patch.setattr(raw, "finish", finish)
        yield


def heard(pieces: list[bytes], content_type: str = EVENTS, stream: bool = True) -> Heard:
    call: Any = Heard(stream)
    reader = BodyReader(call, content_type)
    for piece in pieces:
        reader.feed(piece)
    reader.complete()
    return call


def cut(content: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(content) + 1) for place in places), len(content)]
    return [content[start:end] for start, end in zip(edges, edges[1:])]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@given(places=st.lists(st.integers(0, 200), max_size=8))
def test_events_are_the_same_however_they_are_cut(end, places):
    lines = [b": comment", b"event: x", b'data: {"a":', b"data: 1}", b"", b"id: 3", b'data:{"b": "\xc3\xa9"}', b"", b""]
    content = end.join(lines) + b"data: [DONE]" + end + end
    call = heard(cut(content, places))
    assert call.seen == [{"a": 1}, {"b": "é"}]
    assert call.finished == 1


def test_the_last_event_needs_no_line_end():
    assert heard([b'data: {"a": 1}\n\ndata: {"b": 2}']).seen == [{"a": 1}, {"b": 2}]


def test_events_that_are_no_objects_are_passed_over():
    call = heard([b"data: 1\n\ndata: null\n\ndata: [2]\n\n", b'data: "x"\n\ndata: \n\ndata: {"a": 1}\n\n'])
    assert call.seen == [{"a": 1}]
    assert call.reply.error_type is None


def test_an_event_that_is_no_json_is_an_error():
    assert heard([b"data: {\n\n"]).reply.error_type == "invalid_response"


def test_nothing_after_the_end_is_read():
    call = heard([b'data: {"a": 1}\n\ndata: [DONE]\n\ndata: {"b": 2}\n\n', b'data: {"c": 3}\n\n'])
    assert call.seen == [{"a": 1}]
    assert call.finished == 1


def test_the_end_is_noticed_at_once():
    call: Any = Heard()
    reader = BodyReader(call, EVENTS)
    reader.feed(b'data: {"a": 1}\n\n')
    assert not call.finished
    reader.feed(b"data: [DONE]\n\n")
    assert call.finished


@given(places=st.lists(st.integers(0, 60), max_size=5))
def test_json_is_the_same_however_it_is_cut(places):
    value = {"id": "é", "choices": [1, 2]}
    assert heard(cut(b"\n\n" + json.dumps(value).encode(), places), JSON, stream=False).whole == [value]


@pytest.mark.parametrize("content", [b"", b"{", b"<html>", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json(content):
    assert heard([content], JSON, stream=False).whole == [None]


@pytest.mark.parametrize("content_type", [EVENTS, "Text/Event-Stream", "", "text/plain", JSON, "application/x+json"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_client_takes_for_events_what_it_asked_for_and_so_do_we(content_type, stream):
    call = heard([b"data: {}\n\n"], content_type, stream)
    assert (call.seen, call.whole) == (([{}], []) if stream else ([], [None]))
    call = heard([b'{"a": 1}'], content_type, stream)
    assert (call.seen, call.whole) == (([], [None]) if stream else ([], [{"a": 1}]))


@pytest.mark.parametrize(("content_type", "is_events"), [(EVENTS, True), ("TEXT/event-stream", True), (JSON, False)])
def test_a_stream_that_only_the_body_asks_for_is_one_if_the_server_says_so(content_type, is_events):
    call: Any = Heard(stream=False, is_body_for_events=True)
    reader = BodyReader(call, content_type)
    reader.feed(b"data: {}\n\n")
    reader.complete()
    assert call.seen == ([{}] if is_events else [])


WITHOUT_DATA = [
    b"id: 1\n\n",
    b"retry: 5\n\n",
    b"event: ping\n\n",
    b"data:\n\n",
    b"data\n\n",
    b'id: 1\ndata: {"a": 1}\n\n\n',
]
NO_EVENTS = [b"\n\n\n", b": comment\n\n", b"retry: soon\n\n", b"id: \0\n\n", b"id:\n\n", b"event:\n\n", b"dream: 1\n\n"]


@pytest.mark.parametrize("piece", WITHOUT_DATA)
def test_where_the_client_raises_for_want_of_data_it_is_an_error_unless_the_body_is_read_on(piece):
    call: Any = Heard()
    reader = BodyReader(call, EVENTS)
    reader.feed(piece)
    assert call.reply.error_type == "invalid_response"
    reader.feed(b'data: {"b": 2}\n\n')
    assert call.reply.error_type is None
    reader.feed(piece)
    reader.complete()
    assert call.reply.error_type is None
    assert {"b": 2} in call.seen


@pytest.mark.parametrize("piece", NO_EVENTS)
def test_lines_that_say_nothing_are_no_event(piece):
    call: Any = Heard()
    BodyReader(call, EVENTS).feed(piece)
    assert call.reply.error_type is None


def test_read_on_an_earlier_error_stays():
    call = heard([b"data: {\n\n", b"id: 1\n\n", b"data: {}\n\n"])
    assert call.reply.error_type == "invalid_response"


def test_a_body_that_is_too_long_is_not_kept(monkeypatch):
    monkeypatch.setattr(raw, "MAX_BODY", 100)
    call: Any = Heard(stream=False)
    reader = BodyReader(call, JSON)
    for _ in range(50):
        reader.feed(b'"0123456789')
    assert sum(map(len, reader._pieces)) <= 100
    reader.complete()
    assert not call.whole


@pytest.mark.parametrize("line", [b"data: 0123456789\n", b"0123456789"])
def test_an_event_that_is_too_long_is_not_kept(monkeypatch, line):
    monkeypatch.setattr(raw, "MAX_BODY", 100)
    call: Any = Heard()
    reader = BodyReader(call, EVENTS)
    for _ in range(50):
        reader.feed(line)
    assert sum(map(len, reader._pieces)) + sum(map(len, reader._events.data)) <= 100
    reader.complete()
    assert not call.whole


def test_a_long_stream_of_short_events_is_read_to_the_end(monkeypatch):
    monkeypatch.setattr(raw, "MAX_BODY", 100)
    assert len(heard([b'data: {"a": 1}\n\n'] * 50).seen) == 50
