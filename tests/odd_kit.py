"""A client without a network that is answered whatever a test likes, and what an OTLP exporter makes of its calls."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
from answered import async_client_of, client_of
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_llm_sessions.testing import CapturedSpans, capture_spans

EVENTS = "text/event-stream"
JSON = "application/json"
MODEL = "gpt-4o-mini"


CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
"""A chunk that says nothing."""


def chat(**fields: Any) -> dict[str, Any]:
    """A whole chat completion."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
    base = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}
    return {**base, **fields}


def chunk(**fields: Any) -> dict[str, Any]:
    """The only chunk of a streamed chat completion."""
    choice = {"index": 0, "finish_reason": "stop", "delta": {"role": "assistant", "content": "Hi"}}
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
    return {**base, **fields}


def response(**fields: Any) -> dict[str, Any]:
    """A whole response."""
    output = [{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": []}]
    base = {"id": "resp_1", "object": "response", "created_at": 1, "model": MODEL, "status": "completed"}
    return {**base, "output": output, **fields}


def empty(id_: str, **fields: Any) -> dict[str, Any]:
    """A response in which nothing is said."""
    return {"id": id_, "object": "response", "status": "completed", "output": [], **fields}


def completed(**fields: Any) -> dict[str, Any]:
    """The last event of a streamed response."""
    return {"type": "response.completed", "sequence_number": 1, "response": response(**fields)}


def sse(*events: Any) -> bytes:
    """Server-sent events."""
    return b"".join(b"data: " + (e if isinstance(e, bytes) else json.dumps(e).encode()) + b"\n\n" for e in events)


def body(api: str, stream: bool, **fields: Any) -> bytes:
    """What a server sends for a call, with some fields of its own."""
    if stream:
        return sse(chunk(**fields) if api == "chat" else completed(**fields))
    return json.dumps(chat(**fields) if api == "chat" else response(**fields)).encode()


class Pieces(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    def __init__(self, content: bytes, size: int) -> None:
        self._pieces = [content[start : start + size] for start in range(0, len(content), size)]

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces

    async def __aiter__(self) -> Any:
        for piece in self._pieces:
            yield piece


class Wire:
    """Two clients, and what they are answered next."""

    def __init__(self, base_url: str = "http://server/v1", **arguments: Any) -> None:
        self.content, self.content_type, self.size = b"", JSON, 4096
        self.loop = asyncio.new_event_loop()
        self.client = client_of(self._answer, base_url=base_url, **arguments)
        self.async_client = async_client_of(self._answer, base_url=base_url, **arguments)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        stream = Pieces(self.content, self.size)
        return httpx2.Response(200, headers={"content-type": self.content_type}, stream=stream, request=request)

    def answer(self, content: bytes, content_type: str = JSON) -> None:
        """Say what the next requests are answered."""
        self.content, self.content_type = content, content_type

    def call(self, api: str, how: str = "parsed", stream: bool = False, kind: str = "sync", **asked: Any) -> Any:
        """Make a call in one of the ways that the client has, and read all of the reply.

        Args:
            api: ``chat`` or ``responses``.
            how: ``parsed``, ``raw`` (parsed by the application), ``bytes`` (raw, read by it), ``streaming``.
            stream: whether a stream is asked for.
            kind: ``sync`` or ``async``.
            asked: further arguments.
        """
        given: dict[str, Any] = {"messages": []} if api == "chat" else {"input": "x"}
        asked = {"model": MODEL, **given, **({"stream": True} if stream else {}), **asked}
        if kind == "async":
            return self.loop.run_until_complete(acall_by(resource_of(self.async_client, api), how, asked))
        return call_by(resource_of(self.client, api), how, asked)

    def ask(self, api: str, stream: bool = False, reply: dict[str, Any] | None = None, **asked: Any) -> None:
        """Make a call that is answered with some fields of the test's own."""
        self.answer(body(api, stream, **(reply or {})), EVENTS if stream else JSON)
        self.call(api, stream=stream, **asked)

    def outcome(self, *arguments: Any, **named: Any) -> Any:
        """As ``call``; an exception is an outcome like any other."""
        try:
            return self.call(*arguments, **named)
        except Exception as error:
            return type(error), str(error)

    def close(self) -> None:
        """Release what the clients hold."""
        self.client.close()
        self.loop.run_until_complete(self.async_client.close())
        self.loop.close()


def resource_of(client: Any, api: str) -> Any:
    return client.chat.completions if api == "chat" else client.responses


def call_by(resource: Any, how: str, asked: dict[str, Any]) -> Any:
    if how == "streaming":
        with resource.with_streaming_response.create(**asked) as raw:
            return list(raw.iter_lines())
    if how == "bytes":
        return list(resource.with_raw_response.create(**asked).http_response.iter_bytes())
    reply = resource.with_raw_response.create(**asked).parse() if how == "raw" else resource.create(**asked)
    return [repr(event) for event in reply] if isinstance(reply, openai.Stream) else repr(reply)


async def acall_by(resource: Any, how: str, asked: dict[str, Any]) -> Any:
    if how == "streaming":
        async with resource.with_streaming_response.create(**asked) as raw:
            return [line async for line in raw.iter_lines()]
    if how == "bytes":
        raw = await resource.with_raw_response.create(**asked)
        return [piece async for piece in raw.http_response.aiter_bytes()]
    if how == "raw":
        reply = (await resource.with_raw_response.create(**asked)).parse()
    else:
        reply = await resource.create(**asked)
    return [repr(event) async for event in reply] if isinstance(reply, openai.AsyncStream) else repr(reply)


class Telemetry:
    """Spans and metrics of the calls of a block, as an OTLP exporter would send them."""

    def __init__(self, spans: CapturedSpans, reader: InMemoryMetricReader, logs: _Logs) -> None:
        self.spans = spans
        self.logged = logs.records
        self._reader = reader

    @property
    def calls(self) -> list[Any]:
        """The spans of the calls themselves."""
        return [span for span in self.spans if span.name.startswith("chat")]

    def metrics(self) -> dict[str, list[Any]]:
        """Data points by the name of their metric, as they are encoded."""
        data = self._reader.get_metrics_data()
        found: dict[str, list[Any]] = {}
        for resource in encode_metrics(data).resource_metrics if data else ():
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                points = getattr(metric, metric.WhichOneof("data")).data_points
                found.setdefault(metric.name, []).extend(points)
        return found

    def schema_urls(self) -> set[str]:
        """The schema URLs of the metrics' scopes."""
        data = self._reader.get_metrics_data()
        assert data is not None
        return {scope.schema_url for resource in data.resource_metrics for scope in resource.scope_metrics}

    def check(self) -> None:
        """All of it can be encoded as it is, and nobody complained."""
        encoded = encode_spans(self.spans)
        encoded.SerializeToString()
        sent = [span for resource in encoded.resource_spans for scope in resource.scope_spans for span in scope.spans]
        kept = sorted(len(span.attributes or {}) for span in self.spans)
        assert sorted(len(span.attributes) for span in sent) == kept
        data = self._reader.get_metrics_data()
        if data is not None:
            encode_metrics(data).SerializeToString()
        assert not self.logged, [record.getMessage() for record in self.logged]


class _Logs(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        # A machine may be too busy for a store to answer in time, which is no complaint about what it was given.
        if record.exc_info is None or type(record.exc_info[1]).__name__ != "StoreDown":
            self.records.append(record)


@contextmanager
def telemetry(**settings: Any) -> Iterator[Telemetry]:
    """Instrument the client; yield what its calls leave behind, warnings of ours and of OpenTelemetry's included."""
    reader, logs = InMemoryMetricReader(), _Logs()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    loggers = [logging.getLogger(name) for name in ("otel_llm_sessions", "opentelemetry")]
    for logger in loggers:
        logger.addHandler(logs)
    try:
        with capture_spans(meter_provider=provider, **settings) as spans:
            yield Telemetry(spans, reader, logs)
    finally:
        for logger in loggers:
            logger.removeHandler(logs)
        provider.shutdown()


def attributes(point: Any) -> dict[str, Any]:
    """The attributes of an encoded data point."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in point.attributes}
