"""Replies that come gzipped, deflated, or by whatever else the HTTP library decodes: read as those that do not."""

from __future__ import annotations

import asyncio
import gzip
import importlib
import json
import zlib
from typing import Any

import httpx2
import openai
import pytest
from httpx2._decoders import SUPPORTED_DECODERS
from loopback_client import MODEL, options_for
from odd_kit import completed, response, sse

from otel_llm_sessions.openai import raw as raw_replies
from otel_llm_sessions.testing import capture_spans

ID = "resp_68a1f0c4b7d84c3f9a2e5b60"
USAGE = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
JSON_BODY = json.dumps(response(id=ID, usage=USAGE)).encode()
CREATED = sse({"type": "response.created", "response": {"id": ID}})
EVENTS = CREATED + sse(completed(id=ID, usage=USAGE))


def _gzipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


def _raw_deflated(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


ENCODED = {
    "identity": lambda body: body,
    "gzip": _gzipped,
    "deflate": zlib.compress,
    "deflate, raw": _raw_deflated,
    "deflate, gzip": lambda body: _gzipped(zlib.compress(body)),
    "br": lambda body: importlib.import_module("brotli").compress(body),
    "zstd": lambda body: importlib.import_module("backports.zstd").compress(body),
    "unheard-of": lambda body: body,
}
# Brotli and Zstandard are decoded where their packages are installed.
ENCODINGS = [name for name in ENCODED if name in SUPPORTED_DECODERS or name not in ("br", "zstd")]


def _pieces(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


def _script(server: Any, encoding: str, body: bytes, size: int, is_stream: bool) -> None:
    headers = {"content-encoding": encoding.removesuffix(", raw")}
    content_type = "text/event-stream" if is_stream else "application/json"
    server.script_stream(_pieces(ENCODED[encoding](body), size), headers=headers, content_type=content_type)


READERS: dict[str, Any] = {
    "bytes": lambda reply: b"".join(reply.iter_bytes()),
    "in pieces": lambda reply: b"".join(reply.iter_bytes(5)),
    "lines": lambda reply: list(reply.iter_lines()),
    "text": lambda reply: reply.text(),
    "parse": lambda reply: _shown(reply.parse()),
    "as it came": lambda reply: b"".join(reply.http_response.iter_raw()),
    "its stream": lambda reply: b"".join(reply.http_response.stream),
}
DECODING = set(READERS) - {"as it came", "its stream"}


def _shown(parsed: Any) -> Any:
    return list(map(repr, parsed)) if isinstance(parsed, openai.Stream) else repr(parsed)


async def _aread(how: str, reply: Any) -> Any:
    if how == "text":
        return await reply.text()
    if how == "parse":
        parsed = await reply.parse()
        return [repr(event) async for event in parsed] if isinstance(parsed, openai.AsyncStream) else repr(parsed)
    if how == "lines":
        return [line async for line in reply.iter_lines()]
    http = reply.http_response
    pieces = {"bytes": reply.iter_bytes(), "in pieces": reply.iter_bytes(5), "as it came": http.aiter_raw()}
    return b"".join([piece async for piece in pieces.get(how, http.stream)])


@pytest.mark.parametrize("size", [11, 1_000_000])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_reply_is_read_whatever_it_comes_in(server, client, warned, encoding, size, is_stream):
    """However the application reads it, also without decoding it; it gets what it would get without us."""
    body = EVENTS if is_stream else JSON_BODY
    asked: dict[str, Any] = {"model": MODEL, "input": "x", "stream": is_stream}

    def read(how: str) -> Any:
        _script(server, encoding, body, size, is_stream)
        with client.responses.with_streaming_response.create(**asked) as reply:
            return READERS[how](reply)

    async def aread(async_client: openai.AsyncOpenAI, how: str) -> Any:
        _script(server, encoding, body, size, is_stream)
        async with async_client.responses.with_streaming_response.create(**asked) as reply:
            return await _aread(how, reply)

    async def aread_all() -> list[Any]:
        http_client = openai.DefaultAsyncHttpxClient(verify=False)
        async with openai.AsyncOpenAI(**options_for(server), http_client=http_client) as async_client:
            return [await aread(async_client, how) for how in READERS]

    def read_all() -> list[Any]:
        return [*map(read, READERS), *asyncio.run(aread_all())]

    bare = read_all()
    with capture_spans(traces="turn") as spans:
        assert read_all() == bare
    assert len(spans) == 2 * len(READERS)
    for span in spans:
        assert span.attributes["gen_ai.response.id"] == ID
        assert span.attributes["gen_ai.usage.input_tokens"] == 5
        assert span.attributes["gen_ai.response.finish_reasons"] == ("stop",)
        assert span.status.is_unset


def test_what_begins_is_known_before_the_rest_has_come(server, client, spans):
    """A stream's first event says whose turn it is, gzipped or not."""
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    first = packer.compress(CREATED) + packer.flush(zlib.Z_SYNC_FLUSH)
    rest = packer.compress(EVENTS.removeprefix(CREATED)) + packer.flush()
    server.script_stream([first, rest], hold_after=1, headers={"content-encoding": "gzip"})
    asked = {"model": MODEL, "input": "x", "stream": True}
    with client.responses.with_streaming_response.create(**asked) as reply:
        lines = reply.iter_lines()
        next(lines)
        server.script(JSON_BODY)
        client.responses.create(model=MODEL, input="y", previous_response_id=ID)
        server.release()
        list(lines)
    second = next(span for span in spans if span.attributes.get("gen_ai.request.previous_response.id"))
    assert second.attributes["session.id"] == ID
    assert second.attributes["llm_session.source"] == "chain"


BROKEN = {
    "at once": b"this is not gzip at all",
    "in the middle": _gzipped(JSON_BODY)[:40] + b"\xff" * 60,
}


@pytest.mark.parametrize("how", READERS)
@pytest.mark.parametrize("where", BROKEN)
@pytest.mark.parametrize("size", [7, 1_000_000])
def test_a_body_that_cannot_be_decoded(server, client, warned, where, how, size):
    """It is an error to whom it is one: who takes it as it comes has what he wanted."""

    def read() -> Any:
        server.script_stream(
            _pieces(BROKEN[where], size), headers={"content-encoding": "gzip"}, content_type="application/json"
        )
        try:
            with client.responses.with_streaming_response.create(model=MODEL, input="x") as reply:
                return READERS[how](reply)
        except Exception as error:
            return type(error), str(error)

    bare = read()
    with capture_spans(traces="turn") as spans:
        assert read() == bare
        assert len(spans) == 1
    if how in DECODING:
        assert spans[0].attributes["error.type"].endswith(".DecodingError")
        assert bare[0] is httpx2.DecodingError
    else:
        assert spans[0].status.is_unset


def test_a_bomb_goes_off_in_no_hands_of_ours(server, client, warned, monkeypatch):
    """Beyond what is kept of a body nothing is decoded; the application still gets all of it."""
    monkeypatch.setattr(raw_replies, "MAX_BODY", 100_000)
    bomb = _gzipped(b'{"id": "' + b"x" * 3_000_000 + b'"}')
    server.script_stream(
        [bomb[:1000], bomb[1000:]], headers={"content-encoding": "gzip"}, content_type="application/json"
    )
    with capture_spans(traces="turn") as spans:
        with client.responses.with_streaming_response.create(model=MODEL, input="x") as reply:
            assert sum(map(len, reply.iter_bytes())) == 3_000_010
    assert "gen_ai.response.id" not in spans[0].attributes
    assert spans[0].status.is_unset
