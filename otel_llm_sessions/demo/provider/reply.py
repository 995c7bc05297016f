"""What the loopback server sends back: a reply as exact bytes, and how JSON and events become bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

EVENT_STREAM = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Reply:
    """One answer, down to the byte.

    A reply with `chunks` is sent chunk by chunk with chunked transfer encoding, any other with a content length.
    `break_after` cuts the connection after that many chunks, `hold_after` stops sending there until released.
    `hangs_up` closes the connection without a single byte.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: tuple[bytes, ...] | None = None
    break_after: int | None = None
    hold_after: int | None = None
    delay: float = 0.0
    hangs_up: bool = False


def json_bytes(value: Any) -> bytes:
    """The value as JSON text; ASCII, so that any text a caller sent can be echoed."""
    return json.dumps(value).encode("ascii")


def exact_bytes(body: str | bytes | Json | list[Any]) -> bytes:
    """Bytes and text as they are, anything else as JSON."""
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json_bytes(body)


def document(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A JSON reply."""
    return Reply(status=status, body=json_bytes(value), headers=headers or {})


def chat_event(chunk: Json) -> bytes:
    """A chat stream names no event types."""
    return b"data: " + json_bytes(chunk) + b"\n\n"


def typed_event(event: Json) -> bytes:
    """An event of the Responses API: its type stands on a line of its own, too."""
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + json_bytes(event) + b"\n\n"


def chunked(parts: bytes | str | Iterable[bytes | str]) -> tuple[bytes, ...]:
    """The chunks to send; empty ones are left out, because an empty chunk would end the body."""
    whole = [parts] if isinstance(parts, (bytes, str)) else parts
    return tuple(chunk for chunk in map(exact_bytes, whole) if chunk)
