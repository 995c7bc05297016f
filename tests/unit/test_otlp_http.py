"""OTLP over HTTP as the specification asks: media types, encodings, and every error with its answer."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import sqlite3
import zlib

import httpx
import pytest
from database_kit import has_room, session
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from starlette.applications import Starlette

from otel_llm_sessions.view.database import Database
from otel_llm_sessions.view.otlp_json import spans_json
from otel_llm_sessions.view.otlp_writing import spans_request
from otel_llm_sessions.view.server import crowding, otlp_http
from otel_llm_sessions.view.server.crowding import read_within
from otel_llm_sessions.view.server.intake import Full, Intake, Room
from otel_llm_sessions.view.server.otlp_answers import SIGNALS
from otel_llm_sessions.view.server.otlp_http import otlp_routes
from otel_llm_sessions.view.spans import ReceivedSpan

PROTOBUF, JSON = "application/x-protobuf", "application/json"
BODY = spans_request(session("a")).SerializeToString()


def field(number: int, value: bytes) -> bytes:
    size, length = bytearray(), len(value)
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + value


class Served:
    """A receiver in this process, and what it passed on."""

    def __init__(self, room: Room | None = None) -> None:
        self.database = Database()
        self.intake = Intake(self.database, room).start()
        self.forwarded: list[tuple[str, str, str, bytes]] = []
        app = Starlette(routes=otlp_routes(self.intake, lambda *item: self.forwarded.append(item)))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://viewer")

    async def post(self, body, path="/v1/traces", media_type=PROTOBUF, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, content=body, headers={"Content-Type": media_type, **named})

    async def close(self) -> None:
        await self.client.aclose()
        self.intake.close()
        self.database.close()


@pytest.fixture
async def served():
    served = Served()
    yield served
    await served.close()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (BODY, {}),
        (gzip.compress(BODY), {"content_encoding": "gzip"}),
        (gzip.compress(BODY[:0]) + gzip.compress(BODY), {"content_encoding": "GZIP"}),
        (zlib.compress(BODY), {"content_encoding": "deflate"}),
        (BODY, {"content_encoding": "identity"}),
        (spans_json(session("a")).encode(), {"media_type": "application/json; charset=utf-8"}),
        (gzip.compress(spans_json(session("a")).encode()), {"media_type": JSON, "content_encoding": "gzip"}),
    ],
    ids=["plain", "gzip", "two gzips", "deflate", "identity", "json", "json and gzip"],
)
async def test_what_is_acknowledged_is_there(served, body, headers):
    answer = await served.post(body, **headers)
    media_type = headers.get("media_type", PROTOBUF).partition(";")[0]
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.content == (b"{}" if media_type == JSON else b"")
    assert sorted(map(repr, served.database.session("a").spans)) == sorted(map(repr, session("a")))
    assert served.forwarded == [("/v1/traces", media_type, headers.get("content_encoding", "").lower(), body)]


@pytest.mark.parametrize("path", ["/v1/metrics", "/v1/logs"])
async def test_metrics_and_logs_are_taken(served, path):
    for body, media_type in ((b"", PROTOBUF), (b"{}", JSON)):
        answer = await served.post(body, path, media_type)
        assert (answer.status_code, answer.content) == (200, body)
    assert [item[0] for item in served.forwarded] == [path] * 2


@pytest.mark.parametrize(
    ("code", "body", "headers"),
    [
        (400, b"\xff" * 20, {}),
        (400, b"{", {"media_type": JSON}),
        (400, b"[" * 10_000, {"media_type": JSON}),
        (400, b"no gzip", {"content_encoding": "gzip"}),
        (400, gzip.compress(BODY)[:-20], {"content_encoding": "gzip"}),
        (400, gzip.compress(b"") * 101, {"content_encoding": "gzip"}),
        (413, gzip.compress(bytes(1 << 20)), {"content_encoding": "gzip"}),
        (413, bytes(1 << 20), {}),
        (415, BODY, {"media_type": "text/plain"}),
        (415, BODY, {"content_encoding": "br"}),
        (415, BODY, {"content_encoding": "gzip, gzip"}),
    ],
    ids=[
        "bytes",
        "half json",
        "deep json",
        "no gzip",
        "half gzip",
        "many gzips",
        "bomb",
        "large",
        "text",
        "brotli",
        "twice",
    ],
)
async def test_what_cannot_be_taken_is_answered_why(served, monkeypatch, code, body, headers):
    monkeypatch.setattr(otlp_http, "MOST", 1 << 19)
    answer = await served.post(body, **headers)
    assert answer.status_code == code
    if headers.get("media_type") == PROTOBUF or "media_type" not in headers:
        assert answer.headers["content-type"] == PROTOBUF
        status = Status.FromString(answer.content)
        assert status.code == 3
        assert status.message
    else:
        assert set(json.loads(answer.content)) == {"code", "message"}
    assert served.forwarded == []
    assert (await served.post(BODY)).status_code == 200


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"\x0a\x00" * 3_000_000, PROTOBUF),
        (field(1, field(2, b"\x12\x00" * 3_000_000)), PROTOBUF),
        (b'{"resourceSpans": [' + b"{}," * 2_000_000 + b"{}]}", JSON),
    ],
    ids=["protobuf", "in one group", "json"],
)
async def test_a_body_of_nothing_but_small_parts_is_refused(served, body, media_type):
    for sent, headers in ((body, {}), (gzip.compress(body, 1), {"content_encoding": "gzip"})):
        answer = await served.post(sent, media_type=media_type, **headers)
        assert answer.status_code == 413
        assert b"1,000,000 parts" in answer.content


@pytest.mark.parametrize(
    ("body", "media_type"),
    [(b"\x0a\x00" * 20_000, PROTOBUF), (b'{"resourceSpans": [' + b"{}," * 20_000 + b"{}]}", JSON)],
    ids=["protobuf", "json"],
)
def test_room_is_taken_for_what_a_body_of_small_parts_becomes_before_it_is_read(body, media_type):
    """However small it is: many such bodies at once would take gigabytes."""

    def read(body: bytes, media_type: str) -> int:
        were_read.append(body)
        return len(SIGNALS[0].read(body, media_type).resource_spans)

    were_read: list[bytes] = []
    with pytest.raises(Full):
        read_within(Room(10 * len(body)), body, media_type, read)
    assert were_read == []
    parts, size = read_within(Room(), body, media_type, read)
    assert 64 * parts < size < 80 * parts


async def test_room_is_taken_while_a_body_is_unpacked():
    served = Served(Room(1 << 20))
    bomb = gzip.compress(bytes(3 << 20))
    answer = await served.post(bomb, content_encoding="gzip")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert has_room(served.intake.room, 1 << 20)
    assert (await served.post(gzip.compress(BODY), content_encoding="gzip")).status_code == 200
    await served.close()


@pytest.mark.slow
async def test_the_largest_body_has_room_where_nothing_else_is():
    served = Served()
    words = random.Random(7).randbytes(crowding.MOST // 2 - 1024).hex()
    body = spans_request(session("a", 1, gen_ai__input__messages=words)).SerializeToString()
    assert crowding.MOST - 4096 < len(body) <= crowding.MOST
    for sent, encoding in ((body, "identity"), (zlib.compress(body, 1), "deflate")):
        answer = await served.post(sent, content_encoding=encoding)
        assert answer.status_code == 200, answer.content
    await served.close()


async def test_a_large_body_of_long_texts_is_taken(served):
    """Each text holds what looks like a small field at times."""
    spans = session("a", 8, gen_ai__input__messages="So it says:\n\x05 [{ " * 40_000)
    body = spans_request(spans).SerializeToString()
    assert len(body) > crowding.LARGE
    assert (await served.post(body)).status_code == 200
    assert len(served.database.session("a").spans) == 9


async def test_a_body_that_says_no_length_is_bounded_too(served, monkeypatch):
    monkeypatch.setattr(otlp_http, "MOST", 1 << 19)

    async def endless():
        for _ in range(100):
            yield bytes(1 << 16)

    assert (await served.post(endless())).status_code == 413


async def test_a_body_that_does_not_come_is_not_waited_for(served, monkeypatch):
    monkeypatch.setattr(otlp_http, "SECONDS", 0.05)

    async def slow():
        yield BODY[:10]
        await asyncio.sleep(60)

    assert (await served.post(slow())).status_code == 408


async def test_a_deep_value_is_refused(served):
    def nested(levels: int) -> bytes:
        """A span with an attribute of so many lists in each other."""
        value = b"\x08\x01"
        for _ in range(levels):
            value = field(5, field(1, value))
        span = field(9, field(1, b"deep") + field(2, value))
        return field(1, field(2, field(2, span)))

    assert (await served.post(nested(5))).status_code == 200
    assert (await served.post(nested(5_000))).status_code == 400


async def test_when_there_is_no_room_it_says_when_to_come_again_and_loses_nothing():
    _, size = read_within(Room(), BODY, PROTOBUF, lambda body, _: body)
    most = 2 * len(BODY) + size
    served = Served(Room(most))
    held = asyncio.Event()
    loop = asyncio.get_running_loop()
    keep = served.database.keep

    def slow(requests):
        asyncio.run_coroutine_threadsafe(held.wait(), loop).result()
        keep(requests)

    served.database.keep = slow
    requests = [asyncio.create_task(served.post(BODY)) for _ in range(1)]
    while has_room(served.intake.room, len(BODY) + 1):
        await asyncio.sleep(0.001)
    refused = await served.post(BODY)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    status, retry = Status.FromString(refused.content), RetryInfo()
    assert status.code == 8
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.seconds == 1
    held.set()
    assert [answer.status_code for answer in await asyncio.gather(*requests)] == [200]
    assert (await served.post(BODY)).status_code == 200
    assert has_room(served.intake.room, most)
    assert len(served.forwarded) == 2
    await served.close()


async def test_a_database_that_cannot_be_written_to_asks_to_send_again(served, monkeypatch):
    keep = served.database.keep

    def full(requests):
        raise sqlite3.OperationalError("database or disk is full")

    served.database.keep = full
    answer = await served.post(BODY)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "disk is full" in Status.FromString(answer.content).message
    served.database.keep = keep
    assert (await served.post(BODY)).status_code == 200
    assert len(served.forwarded) == 1


async def test_what_cannot_be_kept_is_said_to_be_rejected_and_hurts_nobody_else(served):
    keep = served.database.keep

    def picky(requests):
        if any(b"strange" in request.SerializeToString() for request in requests):
            raise ZeroDivisionError
        keep(requests)

    served.database.keep = picky
    strange = spans_request([ReceivedSpan("strange", "aa" * 16, "bb" * 8)] * 2).SerializeToString()
    answers = await asyncio.gather(*(served.post(body) for body in (BODY, strange, BODY)))
    assert [answer.status_code for answer in answers] == [200] * 3
    rejected = [ExportTraceServiceResponse.FromString(answer.content).partial_success for answer in answers]
    assert [one.rejected_spans for one in rejected] == [0, 2, 0]
    assert rejected[1].error_message
    assert len(served.database.session("a").spans) == 4


async def test_any_bytes_are_answered(served):
    generator = random.Random(7)
    for _ in range(200):
        body = bytearray(BODY)
        for _ in range(generator.randint(1, 30)):
            body[generator.randrange(len(body))] = generator.randrange(256)
        answer = await served.post(bytes(body))
        assert answer.status_code in (200, 400)
    served.database.settle()
    ExportTraceServiceRequest.FromString(BODY)
