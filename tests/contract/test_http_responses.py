"""The HTTP response behind a reply, of httpx with clients before 3 and of httpx2 with later ones."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from client_surface import MODEL, Client
from loopback import LoopbackServer

from otel_llm_sessions.testing import CapturedSpans, capture_spans

pytestmark = pytest.mark.contract

ID = "resp_68a1f0c4b7d84c3f9a2e5b60"
RESPONSE = {"id": ID, "object": "response", "created_at": 1, "model": MODEL, "status": "completed", "output": []}
EVENTS = [{"type": "response.created", "response": {"id": ID}}, {"type": "response.completed", "response": RESPONSE}]
BODIES = {
    False: json.dumps(RESPONSE).encode(),
    True: b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in EVENTS),
}
WAYS = ("read", "bytes", "as it came", "parse", "left")


async def use(client: Client, stream: bool, way: str) -> Any:
    """What one sees of a streaming response before it is read, and what one reads of it."""
    calls = client.openai.responses.with_streaming_response
    manager = calls.create(model=MODEL, input="x", stream=stream)
    if not client.kind.startswith("Async"):
        with manager as reply:
            return _seen(reply), _read(reply, way)
    async with manager as reply:
        return _seen(reply), await _aread(reply, way)


def _seen(reply: Any) -> Any:
    http = reply.http_response
    return list(vars(http)), type(http), http.stream.__class__, vars(http.stream).keys(), http.is_closed


def _read(reply: Any, way: str) -> Any:
    http = reply.http_response
    ways: dict[str, Callable[[], Any]] = {
        "read": reply.read,
        "bytes": lambda: b"".join(reply.iter_bytes(7)),
        "as it came": lambda: b"".join(http.iter_raw()),
        "parse": lambda: list(map(repr, reply.parse())),
        "left": lambda: next(http.iter_raw()),
    }
    return ways[way]()


async def _aread(reply: Any, way: str) -> Any:
    http = reply.http_response
    if way == "read":
        return await reply.read()
    if way == "left":
        return await http.aiter_raw().__anext__()
    if way == "parse":
        parsed = await reply.parse()
        return [repr(event) async for event in parsed] if hasattr(parsed, "__aiter__") else list(map(repr, parsed))
    return b"".join([piece async for piece in (reply.iter_bytes(7) if way == "bytes" else http.aiter_raw())])


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_streaming_response_is_what_it_would_be_and_is_seen(
    loopback: LoopbackServer, client: Client, encoding: str, stream: bool, way: str
) -> None:
    body = gzip.compress(BODIES[stream], mtime=0) if encoding == "gzip" else BODIES[stream]
    content_type = "text/event-stream" if stream else "application/json"

    def scenario() -> Any:
        pieces = [body[:40], body[40:]]
        loopback.script_stream(pieces, headers={"content-encoding": encoding}, content_type=content_type)
        return client.run(use(client, stream, way))

    bare = scenario()
    with capture_spans(traces="turn") as spans:
        assert scenario() == bare
    _check(spans, way)


def _check(spans: CapturedSpans, way: str) -> None:
    assert len(spans) == 1
    assert spans[0].status.is_unset
    if way != "left":
        assert spans[0].attributes["gen_ai.response.id"] == ID
        assert spans[0].attributes["gen_ai.response.finish_reasons"] == ("stop",)
