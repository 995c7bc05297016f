"""OTLP/JSON: protobuf's JSON with hexadecimal ids and numbers for enums, as OTLP's specification says it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from google.protobuf.json_format import (  # type: ignore[import-untyped,unused-ignore]
    MessageToDict,
    ParseDict,
    ParseError,
)
from google.protobuf.message import Message  # type: ignore[import-untyped,unused-ignore]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_llm_sessions.view.otlp import logs_of, spans_of
from otel_llm_sessions.view.otlp_writing import logs_request, spans_request
from otel_llm_sessions.view.spans import ReceivedLog, ReceivedSpan

IDS: Final = frozenset({"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"})
DEEPEST: Final = 100
"""Levels of a message; what lies deeper is refused."""
BODIES: Final = frozenset({"attributes", "body", "value"})
"""What holds an application's own keys, which may be called as ids are."""

M = TypeVar("M", bound=Message)


def spans_json(spans: Iterable[ReceivedSpan], notices: Sequence[str] = ()) -> str:
    """The spans as one ``ExportTraceServiceRequest`` in OTLP/JSON, on one line.

    Args:
        spans: the spans.
        notices: what their reader has to know. Where there is any it stands beside them, in ``notices``: a receiver of
            OTLP leaves out fields that it does not know.
    """
    beside = {"notices": list(notices)} if notices else {}
    return json.dumps({**as_json(spans_request(spans)), **beside}, ensure_ascii=False, separators=(",", ":"))


def read_spans_json(text: str | bytes) -> list[ReceivedSpan]:
    """The spans of an ``ExportTraceServiceRequest`` in OTLP/JSON, in its order.

    Raises:
        ValueError: it is none; the message says why.
    """
    return spans_of(read_json(text, ExportTraceServiceRequest()))


def read_notices_json(text: bytes) -> tuple[str, ...]:
    """What the reader of spans has to know, of what :func:`spans_json` wrote; of anything else nothing."""
    if b'"notices"' not in text:  # mostly; then it need not be read again
        return ()
    try:
        said = json.loads(text).get("notices")
    except (ValueError, AttributeError, RecursionError):
        return ()
    return tuple(each for each in said if isinstance(each, str)) if isinstance(said, list) else ()


def logs_json(logs: Iterable[ReceivedLog]) -> str:
    """The events as one ``ExportLogsServiceRequest`` in OTLP/JSON, on one line."""
    return json.dumps(as_json(logs_request(logs)), ensure_ascii=False, separators=(",", ":"))


def read_logs_json(text: str | bytes) -> list[ReceivedLog]:
    """The events of an ``ExportLogsServiceRequest`` in OTLP/JSON, in its order.

    Raises:
        ValueError: it is none; the message says why.
    """
    return logs_of(read_json(text, ExportLogsServiceRequest()))


def as_json(message: Message) -> dict[str, Any]:
    """A message as OTLP/JSON's objects."""
    written: dict[str, Any] = MessageToDict(message, use_integers_for_enums=True)
    return _with_ids(written, _hex)  # type: ignore[no-any-return]


def read_json(text: str | bytes, message: M) -> M:
    """Fill a message from OTLP/JSON; fields that it does not know are left out, as the specification asks.

    Raises:
        ValueError: it is no such JSON; the message says why.
    """
    try:
        read = json.loads(text)
        if not isinstance(read, dict):
            raise ValueError("expected an object")
        _fill(message, read)
    except ParseError as error:
        raise ValueError(str(error)) from None
    except (RecursionError, TypeError, AttributeError) as error:
        raise ValueError(f"not OTLP/JSON: {type(error).__name__}") from None
    return message


def _fill(message: Message, read: dict[str, Any]) -> None:
    try:
        ParseDict(_with_ids(read, _base64), message, ignore_unknown_fields=True, max_recursion_depth=DEEPEST)
    except ParseError:
        # Half a character ("\\ud83d", what JavaScript leaves of a text that it cuts) may be all that is wrong with it.
        whole = json.loads(json.dumps(read, ensure_ascii=False).encode("utf-8", "replace"))
        if whole == read:
            raise
        message.Clear()
        ParseDict(_with_ids(whole, _base64), message, ignore_unknown_fields=True, max_recursion_depth=DEEPEST)


def _with_ids(value: Any, written: Callable[[str], str], deep: int = 0) -> Any:
    """The same with its ids written in another way; what applications say themselves is left as it is."""
    if deep > DEEPEST:
        raise ValueError(f"more than {DEEPEST} levels")
    if isinstance(value, list):
        return [_with_ids(each, written, deep + 1) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: written(each)
        if key in IDS and isinstance(each, str)
        else (each if key in BODIES else _with_ids(each, written, deep + 1))
        for key, each in value.items()
    }


def _hex(said: str) -> str:
    return base64.b64decode(said).hex()


def _base64(said: str) -> str:
    try:
        return base64.b64encode(bytes.fromhex(said)).decode()
    except ValueError:
        raise ValueError(f"{said[:40]!r} is no hexadecimal id") from None
