"""Reading what Jaeger's API answers."""

from __future__ import annotations

from typing import Any

Span = dict[str, Any]
Trace = dict[str, Any]


def calls(traces: list[Trace]) -> list[Span]:
    """The model calls among the spans of traces."""
    return [span for trace in traces for span in trace["spans"] if "gen_ai.operation.name" in tags(span)]


def tags(span: Span) -> dict[str, Any]:
    """A span's attributes, as Jaeger has them."""
    return {tag["key"]: tag["value"] for tag in span["tags"]}


def parents(span: Span) -> list[str]:
    """The ids of the spans that a span is below: one, or none."""
    return [
        reference["spanID"]
        for reference in span["references"]
        if reference["refType"] == "CHILD_OF" and reference["traceID"] == span["traceID"]
    ]
