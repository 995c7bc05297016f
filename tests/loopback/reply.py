"""Replies that are cut, held, or sent exactly as a test wants them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from otel_llm_sessions.demo.provider.reply import Json, Reply, json_bytes


@dataclass(frozen=True)
class OddReply(Reply):
    """A reply that does not go as it should.

    `break_after` cuts the connection after that many chunks (or in the middle of a whole body), `hold_after` stops
    sending there until released. `hangs_up` closes the connection without a single byte.
    """

    break_after: int | None = None
    hold_after: int | None = None
    hangs_up: bool = False


def exact_bytes(body: str | bytes | Json | list[Any]) -> bytes:
    """Bytes and text as they are, anything else as JSON."""
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json_bytes(body)


def chunked(parts: bytes | str | Iterable[bytes | str]) -> tuple[bytes, ...]:
    """The chunks to send; empty ones are left out, because an empty chunk would end the body."""
    whole = [parts] if isinstance(parts, (bytes, str)) else parts
    return tuple(chunk for chunk in map(exact_bytes, whole) if chunk)
