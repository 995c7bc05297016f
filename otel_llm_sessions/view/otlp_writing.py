"""Values written as OTLP's protobuf messages: the way back of :mod:`otel_llm_sessions.view.otlp`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from otel_llm_sessions.view.spans import ReceivedLog, ReceivedSpan

INT64: Final = range(-(1 << 63), 1 << 63)
DEEPEST: Final = 32
"""How far values may lie inside each other; protobuf's own readers refuse messages of more than 100 levels."""
KINDS: Final = dict(Span.SpanKind.items())
STATUSES: Final = dict(Status.StatusCode.items())
"""Numbers by name; 0, which says nothing, stands for names that OTLP does not have."""


def spans_request(spans: Iterable[ReceivedSpan]) -> ExportTraceServiceRequest:
    """The spans as one export request, those of one resource and scope together, in their order."""
    request = ExportTraceServiceRequest()
    resources: dict[str, ResourceSpans] = {}
    scopes: dict[tuple[str, str, str], ScopeSpans] = {}
    for span in spans:
        resource = repr(span.resource)
        origin = resource, span.scope, span.scope_version
        if origin not in scopes:
            if resource not in resources:
                group = resources[resource] = request.resource_spans.add()
                group.resource.attributes.extend(_pairs(span.resource))
            scopes[origin] = resources[resource].scope_spans.add()
            _say(scopes[origin], span)
        _write(scopes[origin].spans.add(), span)
    return request


def logs_request(logs: Iterable[ReceivedLog]) -> ExportLogsServiceRequest:
    """The log records as one export request, those of one resource and scope together, in their order."""
    request = ExportLogsServiceRequest()
    scopes: dict[tuple[str, str, str], ScopeLogs] = {}
    for log in logs:
        origin = repr(log.resource), log.scope, log.scope_version
        if origin not in scopes:
            group = request.resource_logs.add()
            group.resource.attributes.extend(_pairs(log.resource))
            scopes[origin] = group.scope_logs.add()
            _say(scopes[origin], log)
        record = scopes[origin].log_records.add(
            time_unix_nano=_uint64(log.time),
            event_name=_text(log.event_name),
            severity_text=_text(log.severity),
            body=any_value(log.body),
            trace_id=_bytes(log.trace_id),
            span_id=_bytes(log.span_id),
        )
        record.attributes.extend(_pairs(log.attributes))
    return request


def any_value(value: Any, deep: int = 0) -> AnyValue:
    """An OTLP value of a Python value; what OTLP has no kind for is written as text."""
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int) and value in INT64:
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if value is None:
        return AnyValue()
    return _nested(value, deep) if isinstance(value, (list, tuple, dict)) else AnyValue(string_value=_text(str(value)))


def _nested(value: list[Any] | tuple[Any, ...] | dict[Any, Any], deep: int) -> AnyValue:
    if deep >= DEEPEST:
        return AnyValue(string_value=_text(repr(value)))
    written = AnyValue()
    if isinstance(value, dict):
        written.kvlist_value.values.extend(_pairs(value, deep + 1))
        written.kvlist_value.SetInParent()
    else:
        written.array_value.values.extend(any_value(each, deep + 1) for each in value)
        written.array_value.SetInParent()
    return written


def _pairs(attributes: Mapping[Any, Any], deep: int = 0) -> list[KeyValue]:
    return [KeyValue(key=_text(str(key)), value=any_value(value, deep)) for key, value in attributes.items()]


def _say(written: ScopeSpans | ScopeLogs, said: ReceivedSpan | ReceivedLog) -> None:
    """Write the scope."""
    written.scope.name, written.scope.version = _text(said.scope), _text(said.scope_version)


def _write(written: Span, span: ReceivedSpan) -> None:
    written.name = _text(span.name)
    written.trace_id, written.span_id = _bytes(span.trace_id), _bytes(span.span_id)
    written.parent_span_id = _bytes(span.parent_id)
    written.kind = KINDS.get(f"SPAN_KIND_{span.kind}", 0)
    written.start_time_unix_nano, written.end_time_unix_nano = _uint64(span.start), _uint64(span.end)
    written.attributes.extend(_pairs(span.attributes))
    for link in span.links:
        there = written.links.add(
            trace_id=_bytes(link.trace_id), span_id=_bytes(link.span_id), trace_state=_text(link.trace_state)
        )
        there.attributes.extend(_pairs(link.attributes))
    for event in span.events:
        added = written.events.add(name=_text(event.name), time_unix_nano=_uint64(event.time))
        added.attributes.extend(_pairs(event.attributes))
    written.status.code = STATUSES.get(f"STATUS_CODE_{span.status}", 0)
    written.status.message = _text(span.status_message)
    written.flags = span.flags & 0xFFFFFFFF
    written.trace_state = _text(span.trace_state)
    left_out = (number & 0xFFFFFFFF for number in span.dropped)
    written.dropped_attributes_count, written.dropped_events_count, written.dropped_links_count = left_out


def _text(value: str) -> str:
    """The text as protobuf takes it: half a character, as broken UTF-16 leaves it, becomes a question mark."""
    return value.encode("utf-8", "replace").decode("utf-8")


def _bytes(value: str) -> bytes:
    try:
        return bytes.fromhex(value)
    except ValueError:
        return b""


def _uint64(value: int) -> int:
    return min(max(0, value), (1 << 64) - 1)
