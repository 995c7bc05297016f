"""What OTLP is answered: the signals' messages, and what went wrong as ``google.rpc.Status``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage  # type: ignore[import-untyped,unused-ignore]
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped,unused-ignore]
from google.protobuf.message import Message  # type: ignore[import-untyped,unused-ignore]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otel_llm_sessions.view.otlp_json import as_json, read_json
from otel_llm_sessions.view.server.intake import RETRY_AFTER

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
MOST: Final = 64 * 1024 * 1024
"""Bytes of one request, before and after it is decompressed."""
REFUSED: Final = "what was sent could not be kept"

INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE, UNAUTHENTICATED, DEADLINE_EXCEEDED = 3, 8, 14, 16, 4
"""Codes of ``google.rpc.Status``."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One of OTLP's signals."""

    path: str
    """Of OTLP over HTTP."""
    service: str
    """Of OTLP over gRPC."""
    request: Callable[[], Message]
    response: Callable[[], Message]
    rejected: str
    """The field of a partial success that counts what was not taken."""

    def read(self, body: bytes, media_type: str = PROTOBUF) -> Any:
        """The request that a body holds.

        Raises:
            ValueError: it holds none.
            google.protobuf.message.DecodeError: it holds none.
        """
        message = self.request()
        if media_type == JSON:
            return read_json(body, message)
        message.ParseFromString(body)
        return message

    def answer(self, request: Message, *, was_taken: bool) -> Message:
        """What a request is answered when it was dealt with."""
        response = self.response()
        if not was_taken:
            setattr(response.partial_success, self.rejected, count_of(request))
            response.partial_success.error_message = REFUSED
        return response


_COLLECTOR: Final = "opentelemetry.proto.collector"
SIGNALS: Final = (
    Signal(
        "/v1/traces",
        f"{_COLLECTOR}.trace.v1.TraceService",
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
        "rejected_spans",
    ),
    Signal(
        "/v1/metrics",
        f"{_COLLECTOR}.metrics.v1.MetricsService",
        ExportMetricsServiceRequest,
        ExportMetricsServiceResponse,
        "rejected_data_points",
    ),
    Signal(
        "/v1/logs",
        f"{_COLLECTOR}.logs.v1.LogsService",
        ExportLogsServiceRequest,
        ExportLogsServiceResponse,
        "rejected_log_records",
    ),
)


def count_of(request: Message) -> int:
    """How many spans or log records a request has; 0 for metrics, all of which are taken."""
    if isinstance(request, ExportTraceServiceRequest):
        return sum(len(scoped.spans) for group in request.resource_spans for scoped in group.scope_spans)
    if isinstance(request, ExportLogsServiceRequest):
        return sum(len(scoped.log_records) for group in request.resource_logs for scoped in group.scope_logs)
    return 0


def encoded(message: Message, media_type: str) -> bytes:
    """A message as the bytes of a media type."""
    if media_type == JSON:
        return json.dumps(as_json(message)).encode()
    return bytes(message.SerializeToString())


def status(code: int, message: str, media_type: str = PROTOBUF, retry_after: int = 0) -> bytes:
    """``google.rpc.Status``, which no package that we need brings: a code, a message, and when to try again.

    Args:
        code: one of ``google.rpc.Code``.
        message: what is wrong, for people.
        media_type: in what it is written.
        retry_after: seconds after which it may be sent again; 0 if it is not said.
    """
    if media_type == JSON:
        return json.dumps({"code": code, "message": message}).encode()
    written = b"\x08" + _number(code) + _field(2, message.encode("utf-8", "replace"))
    if retry_after:
        delay = _field(1, Duration(seconds=retry_after).SerializeToString())
        details = AnyMessage(type_url="type.googleapis.com/google.rpc.RetryInfo", value=delay)
        written += _field(3, details.SerializeToString())
    return written


def retry_status(message: str) -> bytes:
    """``google.rpc.Status`` for what may be sent again."""
    return status(RESOURCE_EXHAUSTED, message, retry_after=RETRY_AFTER)


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _number(len(value)) + value


def _number(number: int) -> bytes:
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])
