"""Serialized OTLP requests, read into values; metrics too, which the viewer does not keep."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from otel_llm_sessions.view.otlp import attributes_of, logs_of, spans_of
from otel_llm_sessions.view.spans import Attributes, ReceivedLog, ReceivedSpan


@dataclass(frozen=True, slots=True)
class ReceivedMetric:
    """One metric.

    A point has the keys ``attributes``, ``count``, ``sum``, ``bounds``, ``bucket_counts`` and ``value``; None
    where the metric's type has no such thing.
    """

    name: str
    unit: str
    type: str
    points: list[dict[str, Any]]
    resource: Attributes = field(default_factory=dict)
    scope: str = ""


def read_spans(message: bytes) -> list[ReceivedSpan]:
    """The spans of a serialized ``ExportTraceServiceRequest``, in its order."""
    return spans_of(ExportTraceServiceRequest.FromString(message))


def read_metrics(message: bytes) -> list[ReceivedMetric]:
    """The metrics of a serialized ``ExportMetricsServiceRequest``, in its order."""
    request = ExportMetricsServiceRequest.FromString(message)
    return [
        _metric(metric, attributes_of(group.resource.attributes), scoped.scope.name)
        for group in request.resource_metrics
        for scoped in group.scope_metrics
        for metric in scoped.metrics
    ]


def read_logs(message: bytes) -> list[ReceivedLog]:
    """The log records of a serialized ``ExportLogsServiceRequest``, in its order."""
    return logs_of(ExportLogsServiceRequest.FromString(message))


def _metric(metric: Metric, resource: Attributes, scope: str) -> ReceivedMetric:
    kind = metric.WhichOneof("data") or ""
    points = [_point(point) for point in getattr(metric, kind).data_points] if kind else []
    return ReceivedMetric(metric.name, metric.unit, kind, points, resource, scope)


def _point(point: Any) -> dict[str, Any]:
    """One data point of any metric type; what its type does not have is None."""
    return {
        "attributes": attributes_of(point.attributes),
        "count": getattr(point, "count", None),
        "sum": getattr(point, "sum", None),
        "bounds": _numbers(point, "explicit_bounds"),
        "bucket_counts": _numbers(point, "bucket_counts"),
        "value": _number(point),
    }


def _numbers(point: Any, name: str) -> list[float] | None:
    numbers = getattr(point, name, None)
    return None if numbers is None else list(numbers)


def _number(point: Any) -> float | None:
    if not hasattr(point, "as_int"):
        return None
    which = point.WhichOneof("value")
    return getattr(point, which) if which else None
