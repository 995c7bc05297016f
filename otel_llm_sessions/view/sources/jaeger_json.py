"""The JSON that Jaeger's older API answers, which its pages read, as spans. Times are microseconds there."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any, Final

from otel_llm_sessions.view.spans import Attributes, ReceivedEvent, ReceivedLink, ReceivedSpan

MICROSECOND: Final = 1_000
CHILD_OF: Final = "CHILD_OF"
KIND: Final = "span.kind"
STATUS: Final = "otel.status_code"
STATUS_MESSAGE: Final = "otel.status_description"
SCOPE: Final = "otel.scope.name"
SCOPE_VERSION: Final = "otel.scope.version"
TRACE_STATE: Final = "w3c.tracestate"
ITS_OWN: Final = frozenset({KIND, STATUS, STATUS_MESSAGE, SCOPE, SCOPE_VERSION, TRACE_STATE, "otel.status_description"})
"""Tags that stand for what is no attribute of a span."""


def trace_of(said: Any) -> list[ReceivedSpan]:
    """The spans of one trace; what is no span is left out."""
    spans, processes = _list(said, "spans"), _dict(said, "processes")
    return [_span(span, _process(processes.get(str(span.get("processID"))))) for span in spans if _is_span(span)]


def last_of(said: Any) -> int:
    """When the last span of a trace begins, in nanoseconds since the epoch; 0 for what is none."""
    starts = [_whole(span.get("startTime")) for span in _list(said, "spans") if isinstance(span, dict)]
    return max(starts, default=0) * MICROSECOND


def _is_span(said: Any) -> bool:
    return isinstance(said, dict) and all(isinstance(said.get(name), str) for name in ("traceID", "spanID"))


def _span(said: dict[str, Any], resource: Attributes) -> ReceivedSpan:
    tags = dict(_tags(said.get("tags")))
    trace_id, start = _trace_id(said["traceID"]), _whole(said.get("startTime")) * MICROSECOND
    parent, links = _references(said, trace_id)
    return ReceivedSpan(
        name=str(said.get("operationName", "")),
        trace_id=trace_id,
        span_id=_span_id(said["spanID"]),
        parent_id=parent,
        kind=str(tags.get(KIND, "internal")).upper(),
        start=start,
        end=start + _whole(said.get("duration")) * MICROSECOND,
        attributes={name: value for name, value in tags.items() if name not in ITS_OWN and not _told(name, tags)},
        links=tuple(links),
        events=tuple(_events(said.get("logs"))),
        status=_status(tags),
        status_message=str(tags.get(STATUS_MESSAGE, "")),
        resource=resource,
        scope=str(tags.get(SCOPE, "")),
        flags=_whole(said.get("flags")),
        scope_version=str(tags.get(SCOPE_VERSION, "")),
        trace_state=str(tags.get(TRACE_STATE, "")),
    )


def _told(name: str, tags: Attributes) -> bool:
    """Whether a tag is Jaeger's way to say an error that the status says."""
    return name == "error" and tags[name] is True and STATUS in tags


def _status(tags: Attributes) -> str:
    said = str(tags.get(STATUS, "")).upper()
    return said if said in ("OK", "ERROR") else "ERROR" if tags.get("error") is True else "UNSET"


def _references(said: dict[str, Any], trace_id: str) -> tuple[str, list[ReceivedLink]]:
    """The parent's id, and the links; the parent is the first in its own trace that the span is a child of."""
    parent, links = "", []
    for one in _list(said, "references"):
        if not _is_span(one):
            continue
        there, span_id = _trace_id(one["traceID"]), _span_id(one["spanID"])
        if one.get("refType") == CHILD_OF and there == trace_id and not parent:
            parent = span_id
        else:
            links.append(ReceivedLink(there, span_id))
    return parent, links


def _events(logs: Any) -> Iterator[ReceivedEvent]:
    for log in logs if isinstance(logs, list) else ():
        fields = dict(_tags(log.get("fields"))) if isinstance(log, dict) else {}
        if fields:
            yield ReceivedEvent(str(fields.pop("event", "")), _whole(log.get("timestamp")) * MICROSECOND, fields)


def _process(said: Any) -> Attributes:
    service = {"service.name": said["serviceName"]} if isinstance(said, dict) and "serviceName" in said else {}
    return {**dict(_tags(_list(said, "tags"))), **service}


def _tags(said: Any) -> Iterator[tuple[str, Any]]:
    for tag in said if isinstance(said, list) else ():
        if isinstance(tag, dict) and isinstance(tag.get("key"), str):
            yield tag["key"], _value(tag.get("type"), tag.get("value"))


def _value(kind: Any, value: Any) -> Any:
    """A tag's value; arrays come as JSON, and whole numbers too great for JavaScript as texts."""
    if kind == "int64" and isinstance(value, str):
        return int(value) if value.lstrip("-").isdecimal() and len(value) < 30 else value
    if kind == "binary" and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            return value
    return _array(value) if isinstance(value, str) and value[:1] == "[" and value[-1:] == "]" else value


def _array(value: str) -> Any:
    """An array's values; messages in JSON are a text, as they were when they were recorded."""
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        return value
    plain = isinstance(read, list) and all(isinstance(each, (str, int, float, bool)) for each in read)
    return tuple(read) if plain else value


def _whole(said: Any) -> int:
    return int(said) if isinstance(said, (int, float)) and 0 <= said < 2**63 else 0


def _trace_id(said: str) -> str:
    return said.lower().zfill(32)


def _span_id(said: str) -> str:
    return said.lower().zfill(16)


def _list(said: Any, name: str) -> list[Any]:
    value = said.get(name) if isinstance(said, dict) else None
    return value if isinstance(value, list) else []


def _dict(said: Any, name: str) -> dict[str, Any]:
    value = said.get(name) if isinstance(said, dict) else None
    return value if isinstance(value, dict) else {}
