"""Raw and streaming responses end their spans too, read as the application reads them."""

from __future__ import annotations

from typing import Any

import pytest
from endings_kit import MESSAGES, kinds, only
from loopback_client import MODEL

pytestmark = pytest.mark.usefixtures("quick_collections")


@pytest.fixture
def spans(spans_in_silence):
    """One model span per test is expected."""
    return spans_in_silence


READERS = {
    "parse": lambda raw: list(raw.parse()),
    "iter_lines": lambda raw: list(raw.iter_lines()),
    "iter_bytes": lambda raw: list(raw.iter_bytes()),
    "iter_text": lambda raw: list(raw.iter_text()),
    "read": lambda raw: raw.read(),
    "text": lambda raw: raw.text(),
}


@kinds
@pytest.mark.parametrize("reader", READERS)
def test_streaming_responses_are_observed_as_they_are_read(client, spans, kind, reader):
    api = client.chat.completions if kind == "chat" else client.responses
    arguments: dict[str, Any] = {"messages": MESSAGES} if kind == "chat" else {"input": "x"}
    with api.with_streaming_response.create(model=MODEL, stream=True, **arguments) as raw:
        assert not raw.is_closed
        assert not raw.http_response.is_stream_consumed
        READERS[reader](raw)
    span = only(spans)
    assert span.attributes["gen_ai.response.id"]
    assert span.attributes["gen_ai.response.finish_reasons"] == ("stop",)


@pytest.mark.parametrize("reader", ["parse", "json", "read", "text", "iter_bytes", "nothing"])
def test_streaming_responses_of_plain_replies(client, spans, reader):
    with client.responses.with_streaming_response.create(model=MODEL, input="x") as raw:
        assert not raw.is_closed
        if reader == "iter_bytes":
            list(raw.iter_bytes())
        elif reader != "nothing":
            getattr(raw, reader)()
    span = only(spans)
    assert ("gen_ai.response.id" in span.attributes) == (reader != "nothing")


async def test_async_streaming_responses(async_client, spans):
    async with async_client.responses.with_streaming_response.create(model=MODEL, input="x", stream=True) as raw:
        lines = [line async for line in raw.iter_lines()]
        assert any(line.startswith("data:") for line in lines)
    async with async_client.responses.with_streaming_response.create(model=MODEL, input="x") as raw:
        assert (await raw.json())["id"]
    async with async_client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=MESSAGES, stream=True
    ) as raw:
        async for _ in await raw.parse():
            break
    assert len(spans) == 3
    assert all(span.attributes["gen_ai.response.id"] for span in spans)


def test_raw_responses_are_read_without_parsing_for_the_application(client, spans):
    raw = client.responses.with_raw_response.create(model=MODEL, input="x")
    assert raw._parsed_by_type == {}
    assert only(spans).attributes["gen_ai.response.id"] == raw.parse().id
    assert raw.headers["content-type"].startswith("application/json")
    raw = client.responses.with_raw_response.create(model=MODEL, input="x", stream=True)
    assert len(spans) == 1
    assert len(list(raw.parse())) > 3
    assert spans[1].attributes["gen_ai.response.finish_reasons"] == ("stop",)
