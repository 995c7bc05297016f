"""OTLP's protobuf messages, read into values.

Nothing here knows HTTP or this package's own attributes; a message goes in, plain Python values come out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_llm_sessions.view.spans import (
    Attributes,
    ReceivedEvent,
    ReceivedLink,
    ReceivedLog,
    ReceivedSpan,
)


def spans_of(request: ExportTraceServiceRequest) -> list[ReceivedSpan]:
    """The spans of a request, in its order."""
    return [
        span_of(span, attributes_of(group.resource.attributes), scoped.scope.name, scoped.scope.version)
        for group in request.resource_spans
        for scoped in group.scope_spans
        for span in scoped.spans
    ]


def logs_of(request: ExportLogsServiceRequest) -> list[ReceivedLog]:
    """The log records of a request, in its order."""
    return [
        log_of(record, attributes_of(group.resource.attributes), scoped.scope.name, scoped.scope.version)
        for group in request.resource_logs
        for scoped in group.scope_logs
        for record in scoped.log_records
    ]


def attributes_of(pairs: Iterable[KeyValue]) -> Attributes:
    """The pairs as a dict; a later pair of the same key wins."""
    return {pair.key: value_of(pair.value) for pair in pairs}


def value_of(value: AnyValue) -> Any:
    """The Python value of an OTLP value; None for one that is empty."""
    read = _VALUES.get(value.WhichOneof("value"))
    return read(value) if read else None


_VALUES: Final[dict[str | None, Callable[[AnyValue], Any]]] = {
    **{name: attrgetter(name) for name in ("string_value", "bool_value", "int_value", "double_value", "bytes_value")},
    "array_value": lambda value: tuple(value_of(item) for item in value.array_value.values),
    "kvlist_value": lambda value: attributes_of(value.kvlist_value.values),
}


_KINDS: Final = {number: name.removeprefix("SPAN_KIND_") for name, number in Span.SpanKind.items()}
_STATUSES: Final = {number: name.removeprefix("STATUS_CODE_") for name, number in Status.StatusCode.items()}
"""Names by number; a newer OTLP's numbers have none here, and say as little as 0."""


def span_of(span: Span, resource: Attributes, scope: str, scope_version: str = "") -> ReceivedSpan:
    """One span, of a resource and a scope."""
    return ReceivedSpan(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=_KINDS.get(span.kind, "UNSPECIFIED"),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=attributes_of(span.attributes),
        links=tuple(_links(span)),
        events=tuple(_events(span)),
        status=_STATUSES.get(span.status.code, "UNSET"),
        status_message=span.status.message,
        resource=resource,
        scope=scope,
        flags=span.flags,
        scope_version=scope_version,
        trace_state=span.trace_state,
        dropped=(span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count),
    )


def _links(span: Span) -> Iterator[ReceivedLink]:
    for link in span.links:
        yield ReceivedLink(link.trace_id.hex(), link.span_id.hex(), attributes_of(link.attributes), link.trace_state)


def _events(span: Span) -> Iterator[ReceivedEvent]:
    for event in span.events:
        yield ReceivedEvent(event.name, event.time_unix_nano, attributes_of(event.attributes))


def log_of(record: LogRecord, resource: Attributes, scope: str, scope_version: str = "") -> ReceivedLog:
    """One log record, of a resource and a scope."""
    return ReceivedLog(
        event_name=record.event_name,
        time=record.time_unix_nano or record.observed_time_unix_nano,
        body=value_of(record.body),
        attributes=attributes_of(record.attributes),
        trace_id=record.trace_id.hex(),
        span_id=record.span_id.hex(),
        severity=record.severity_text,
        resource=resource,
        scope=scope,
        scope_version=scope_version,
    )
