"""What the loopback server sends back: a reply as exact bytes, and how JSON and events become bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

EVENT_STREAM = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Reply:
    """One answer, down to the byte.

    A reply with `chunks` is sent chunk by chunk with chunked transfer encoding, any other with a content length.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: tuple[bytes, ...] | None = None
    delay: float = 0.0
    """Seconds before its first byte."""


def json_bytes(value: Any) -> bytes:
    """The value as JSON text; ASCII, so that any text a caller sent can be echoed."""
    return json.dumps(value).encode("ascii")


def document(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A JSON reply."""
    return Reply(status=status, body=json_bytes(value), headers=headers or {})


def chat_event(chunk: Json) -> bytes:
    """A chat stream names no event types."""
    return b"data: " + json_bytes(chunk) + b"\n\n"


def typed_event(event: Json) -> bytes:
    """An event of the Responses API: its type stands on a line of its own, too."""
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + json_bytes(event) + b"\n\n"
