"""Traces in OTLP's JSON as backends answer them, read leniently: Jaeger's ids are hexadecimal, Tempo's base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from typing import Any, Final

from otel_llm_sessions.view.spans import Attributes, ReceivedEvent, ReceivedLink, ReceivedSpan

KINDS: Final = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
STATUSES: Final = ("UNSET", "OK", "ERROR")
DEEPEST: Final = 50


def spans_in(trace: Any) -> list[ReceivedSpan]:
    """The spans of an object with ``resourceSpans`` (``batches``, as Tempo says); what is no span is left out."""
    return [
        _span(span, resource, _of(scoped, "scope"))
        for group in (*_objects(trace, "resourceSpans"), *_objects(trace, "batches"))
        for resource in [attributes_in(_of(group, "resource"))]
        for scoped in (*_objects(group, "scopeSpans"), *_objects(group, "instrumentationLibrarySpans"))
        for span in _objects(scoped, "spans")
    ]


def attributes_in(said: Any) -> Attributes:
    """The ``attributes`` of an object."""
    return {pair["key"]: value_of(pair.get("value")) for pair in _objects(said, "attributes") if _has_key(pair)}


def value_of(said: Any, deep: int = 0) -> Any:
    """The Python value of an OTLP value; None for what is none."""
    if not isinstance(said, dict) or deep > DEEPEST:
        return None
    name = next(iter(said), "")
    if name == "arrayValue":
        return tuple(value_of(each, deep + 1) for each in _objects(said[name], "values"))
    if name == "kvlistValue":
        return {
            pair["key"]: value_of(pair.get("value"), deep + 1)
            for pair in _objects(said[name], "values")
            if _has_key(pair)
        }
    return _PLAIN[name](said[name]) if name in _PLAIN else None


def whole(said: Any) -> int:
    """A number that JSON may have as a text; 0 for what is none."""
    if isinstance(said, str):
        return int(said) if len(said) < 30 and said.removeprefix("-").isdecimal() and said.isascii() else 0
    return said if isinstance(said, int) else int(said) if isinstance(said, float) and abs(said) < 2**63 else 0


def id_of(said: Any, digits: int) -> str:
    """An id in lower hexadecimal digits, from those or from base64; leading zeros that were left out are put back."""
    text = said if isinstance(said, str) else ""
    if text.endswith("="):
        try:
            return base64.b64decode(text, validate=True).hex()
        except (binascii.Error, ValueError):
            return text
    return text.lower().zfill(digits) if text else ""


def _double(said: Any) -> Any:
    """A number; "NaN" and "Infinity" come as texts."""
    try:
        return float(said) if isinstance(said, (int, float, str)) else None
    except ValueError:
        return None


_PLAIN: Final[dict[str, Callable[[Any], Any]]] = {
    "stringValue": lambda said: said if isinstance(said, str) else "",
    "boolValue": lambda said: said is True,
    "intValue": whole,
    "doubleValue": _double,
    "bytesValue": lambda said: said if isinstance(said, str) else "",
}


def _span(said: dict[str, Any], resource: Attributes, scope: Any) -> ReceivedSpan:
    status = _of(said, "status")
    return ReceivedSpan(
        name=_text(said, "name"),
        trace_id=id_of(said.get("traceId"), 32),
        span_id=id_of(said.get("spanId"), 16),
        parent_id=id_of(said.get("parentSpanId"), 16),
        kind=_enum(said.get("kind"), KINDS, "SPAN_KIND_"),
        start=whole(said.get("startTimeUnixNano")),
        end=whole(said.get("endTimeUnixNano")),
        attributes=attributes_in(said),
        links=tuple(_links(said)),
        events=tuple(_events(said)),
        status=_enum(_of(status, "code"), STATUSES, "STATUS_CODE_"),
        status_message=_text(status, "message"),
        resource=resource,
        scope=_text(scope, "name"),
        flags=whole(said.get("flags")),
        scope_version=_text(scope, "version"),
        trace_state=_text(said, "traceState"),
        dropped=(_left_out(said, "Attributes"), _left_out(said, "Events"), _left_out(said, "Links")),
    )


def _links(said: Any) -> Iterator[ReceivedLink]:
    for link in _objects(said, "links"):
        ids = id_of(link.get("traceId"), 32), id_of(link.get("spanId"), 16)
        yield ReceivedLink(*ids, attributes_in(link), _text(link, "traceState"))


def _left_out(said: dict[str, Any], what: str) -> int:
    return whole(said.get(f"dropped{what}Count"))


def _events(said: Any) -> Iterator[ReceivedEvent]:
    for event in _objects(said, "events"):
        yield ReceivedEvent(_text(event, "name"), whole(event.get("timeUnixNano")), attributes_in(event))


def _enum(said: Any, names: tuple[str, ...], prefix: str) -> str:
    """A name of those, by the name or the number that stands for it."""
    if isinstance(said, str):
        name = said.removeprefix(prefix)
        return name if name in names else names[0]
    return names[said] if isinstance(said, int) and 0 <= said < len(names) else names[0]


def _objects(said: Any, name: str) -> list[dict[str, Any]]:
    value = _of(said, name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _of(said: Any, name: str) -> Any:
    return said.get(name) if isinstance(said, dict) else None


def _text(said: Any, name: str) -> str:
    value = _of(said, name)
    return value if isinstance(value, str) else ""


def _has_key(pair: dict[str, Any]) -> bool:
    return isinstance(pair.get("key"), str)
