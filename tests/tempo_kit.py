"""Two servers that answer as Tempo: one what a real one answered, one what it would answer of any spans.

A real Tempo cannot be run where the tests run. ``tests/data/tempo/`` has what one answered, with the requests;
:func:`recorded` answers exactly those, and a 400 to all others. :func:`emulated` searches spans that a test gives it:
``test_tempo_kit.py`` shows that it answers the recorded requests as the real one did.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from traceql_kit import BadQuery, Measure, TraceQL, parsed
from web_kit import Asked, Web, web

FOLDER = Path(__file__).parent / "data" / "tempo"
INDEX: list[dict[str, Any]] = json.loads((FOLDER / "index.json").read_text())
NO_QUERY = b"invalid TraceQL query: parse error at line 1, col 1: syntax error: unexpected $end"
SPAN_TIMES = ("startTimeUnixNano", "endTimeUnixNano")


def answer_to(number: int) -> Any:
    """The JSON of the recorded answer with that number."""
    return json.loads((FOLDER / INDEX[number - 1]["file"]).read_bytes())


def request_of(number: int) -> tuple[str, dict[str, str]]:
    """Path and parameters of the request with that number."""
    return target_of(INDEX[number - 1]["request"].removeprefix("GET "))


def target_of(target: str) -> tuple[str, dict[str, str]]:
    # Their "&&" was percent-encoded when it was sent, as everything must be; the list shows it plain.
    parts = urlsplit(target.replace("&&", "%26%26").replace("| ", "%7C "))
    return parts.path, dict(parse_qsl(parts.query))


def recorded() -> AbstractContextManager[Web]:
    """A server that answers the recorded requests, and nothing else."""
    known = {
        (path, tuple(sorted(said.items()))): one for one in INDEX for path, said in [target_of(one["request"][4:])]
    }

    def answer(asked: Asked) -> tuple[int, bytes]:
        one = known.get((asked.path, tuple(sorted(asked.said.items()))))
        return (one["status"], (FOLDER / one["file"]).read_bytes()) if one else (400, NO_QUERY)

    return web(answer)


def recorded_traces() -> list[dict[str, Any]]:
    """``ResourceSpans`` of the traces that were recorded, in protobuf's JSON."""
    whole = [answer_to(number) for number in range(11, 22)]
    return [group for trace in whole for group in trace["batches"]]


def groups_of(messages: Iterable[bytes]) -> list[dict[str, Any]]:
    """``ResourceSpans`` of export requests, in protobuf's JSON."""
    requests = (MessageToDict(ExportTraceServiceRequest.FromString(message)) for message in messages)
    return [group for request in requests for group in request.get("resourceSpans", ())]


@dataclass
class Limits:
    """What a Tempo refuses, and what it lacks."""

    most_traces: int = 100_000
    most_spans: int = 100
    most_hours: int = 168
    has_v2: bool = True
    jobs: tuple[int, int] = (3, 3)
    status: str = ""
    most_of_trace: int = 1 << 30
    """Bytes of a trace; Tempo's own message of a larger one."""


def emulated(groups: list[dict[str, Any]], limits: Limits | None = None) -> AbstractContextManager[Web]:
    """A server that answers as a Tempo which has these spans."""
    return web(_Tempo(groups, limits or Limits()).answer)


def measured(groups: list[dict[str, Any]], text: str) -> dict[tuple[Any, ...], float]:
    """What a metrics query says of spans over all the time that they took, by what stands behind its ``by``."""
    query = parsed(text)
    measure = query.measure
    assert measure, text
    found: dict[tuple[Any, ...], list[float]] = {}
    for span in (span for trace in _Tempo(groups, Limits()).traces.values() for span in trace):
        value = span.field(measure.of) if measure.of else 1.0
        if value is not None and query.matches(span.field):
            found.setdefault(tuple(span.field(name) for name in measure.by), []).append(float(value))
    series = sorted(((_value(measure, values), labels) for labels, values in found.items()), key=lambda one: -one[0])
    return {labels: value for value, labels in series[: measure.most]}


@dataclass
class _Span:
    raw: dict[str, Any]
    resource: dict[str, Any]
    root: dict[str, Any]

    def field(self, name: str) -> Any:
        scope, _, rest = name.partition(".")
        if scope in ("span", "resource"):
            return _plain(self.raw_field(name))
        status = self.raw.get("status", {}).get("code", "STATUS_CODE_UNSET")
        return {
            "name": self.raw.get("name", ""),
            "status": status.removeprefix("STATUS_CODE_").lower(),
            "kind": self.raw.get("kind", "SPAN_KIND_INTERNAL").removeprefix("SPAN_KIND_").lower(),
            "duration": (int(self.raw.get(SPAN_TIMES[1], 0)) - int(self.raw.get(SPAN_TIMES[0], 0))) / 1e9,
            "trace:rootName": self.root.get("name", "<root span not yet received>"),
        }[name]

    def raw_field(self, name: str) -> dict[str, Any] | None:
        scope, _, rest = name.partition(".")
        pairs = (self.raw if scope == "span" else self.resource).get("attributes", [])
        return next((pair["value"] for pair in pairs if pair["key"] == rest), None)

    def told(self, query: TraceQL) -> dict[str, Any]:
        """The span as a search tells it."""
        start, end = (int(self.raw.get(name, 0)) for name in SPAN_TIMES)
        told = {
            "spanID": base64.b64decode(self.raw["spanId"]).hex(),
            "startTimeUnixNano": str(start),
            "durationNanos": str(end - start),
        }
        attributes = []
        for name in dict.fromkeys(query.selected):
            if name == "name":
                told["name"] = self.raw.get("name", "")
            elif name in ("status", "kind"):
                attributes.append({"key": name, "value": {"stringValue": self.field(name)}})
            elif ":" not in name and (value := self.raw_field(name)) is not None:
                attributes.append({"key": name.partition(".")[2], "value": value})
        return {**told, **({"attributes": attributes} if attributes else {})}


class _Tempo:
    def __init__(self, groups: list[dict[str, Any]], limits: Limits) -> None:
        self.groups, self.limits = groups, limits
        self.traces: dict[str, list[_Span]] = {}
        self.searched: dict[str, tuple[TraceQL, list[tuple[str, int, int, list[_Span]]]]] = {}
        for group in groups:
            for span in (span for scoped in group.get("scopeSpans", ()) for span in scoped.get("spans", ())):
                trace = self.traces.setdefault(base64.b64decode(span["traceId"]).hex(), [])
                trace.append(_Span(span, group.get("resource", {}), {}))
        for trace in self.traces.values():
            root = next((span for span in trace if not span.raw.get("parentSpanId")), None)
            for span in trace:
                span.root = root.raw if root else {}

    def answer(self, asked: Asked) -> tuple[int, bytes]:
        if asked.path == "/api/echo":
            return 200, b"echo"
        if asked.path == "/api/search":
            return self.search(asked.said)
        for prefix, version in (("/api/v2/traces/", 2), ("/api/traces/", 1)):
            if asked.path.startswith(prefix) and (version == 1 or self.limits.has_v2):
                return self.trace(asked.path.removeprefix(prefix), version)
        return 404, b"404 page not found\n"

    def search(self, said: dict[str, str]) -> tuple[int, bytes]:
        start, end = int(said["start"]), int(said["end"])
        limit, per_trace = int(said.get("limit", "20")), int(said.get("spss", "3"))
        if end - start > self.limits.most_hours * 3600:
            return 400, f"range specified by start and end exceeds {self.limits.most_hours}h0m0s".encode()
        if limit > self.limits.most_traces:
            return 400, f"limit {limit} exceeds max limit {self.limits.most_traces}".encode()
        if per_trace > self.limits.most_spans:
            return 400, f"spans per span set exceeds {self.limits.most_spans}. received {per_trace}".encode()
        try:
            query, matched = self.matched(said["q"])
        except BadQuery as bad:
            return 400, str(bad).encode()
        found = list(islice(_found(query, matched, start, end, per_trace), limit))
        done, all_of_them = self.limits.jobs
        metrics = {"inspectedBytes": "1", "completedJobs": done, "totalJobs": all_of_them}
        return 200, json.dumps({"traces": found, "metrics": metrics}).encode()

    def matched(self, text: str) -> tuple[TraceQL, list[tuple[str, int, int, list[_Span]]]]:
        """The query, and of each trace in which something matches: id, begin, end, and what matches."""
        if text not in self.searched:
            query, found = parsed(text), []
            for trace_id, spans in self.traces.items():
                begun, ended = ([int(span.raw[name]) for span in spans] for name in SPAN_TIMES)
                if matched := [span for span in spans if query.matches(span.field)]:
                    found.append((trace_id, min(begun), max(ended), matched))
            self.searched[text] = query, found
        return self.searched[text]

    def trace(self, trace_id: str, version: int) -> tuple[int, bytes]:
        groups = [group for one in self.groups if (group := _of_trace(one, trace_id.zfill(32)))]
        if (size := len(json.dumps(groups))) > (most := self.limits.most_of_trace):
            return 500, f"response larger than the max ({size} vs {most})".encode()
        if version == 1:
            return (200, json.dumps({"batches": groups}).encode()) if groups else (404, b"")
        status = {"status": self.limits.status, "message": "too large"} if self.limits.status else {}
        trace = {"resourceSpans": groups} if groups else {}
        return 200, json.dumps({"trace": trace, "metrics": {}, **status}).encode()


def _found(
    query: TraceQL, traces: list[tuple[str, int, int, list[_Span]]], start: int, end: int, per_trace: int
) -> Iterator[dict[str, Any]]:
    for trace_id, begun, ended, matched in traces:
        if begun <= end * 10**9 and ended >= start * 10**9:
            told = {"spans": [span.told(query) for span in matched[:per_trace]], "matched": len(matched)}
            yield {"traceID": trace_id.lstrip("0"), "spanSet": told, "spanSets": [told]}


def _value(measure: Measure, values: list[float]) -> float:
    # Tempo guesses a quantile from powers of two; here it is one of the values.
    if measure.quantiles:
        return sorted(values)[min(int(measure.quantiles[0] * len(values)), len(values) - 1)]
    return {"avg_over_time": sum(values) / len(values), "max_over_time": max(values), "min_over_time": min(values)}.get(
        measure.function, sum(values)
    )


def _of_trace(group: dict[str, Any], trace_id: str) -> dict[str, Any] | None:
    """Of a group, what is of a trace."""
    scopes = [
        {**scoped, "spans": spans}
        for scoped in group.get("scopeSpans", ())
        if (spans := [one for one in scoped.get("spans", ()) if base64.b64decode(one["traceId"]).hex() == trace_id])
    ]
    return {**group, "scopeSpans": scopes} if scopes else None


def _plain(value: dict[str, Any] | None) -> Any:
    if not value:
        return None
    name, said = next(iter(value.items()))
    return float(said) if name in ("intValue", "doubleValue") else said
