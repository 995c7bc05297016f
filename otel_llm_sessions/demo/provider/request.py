"""A request as it arrived, and how it is read off the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, unquote, urlsplit


class BadRequest(Exception):
    """What arrived is not HTTP that this server reads."""


@dataclass(frozen=True)
class Request:
    """One request; `body` is its parsed JSON, or None when it has none, and `raw` the bytes that arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    raw: bytes = b""

    @property
    def json_object(self) -> dict[str, Any]:
        """The body if it is a JSON object, else an empty one."""
        return self.body if isinstance(self.body, dict) else {}


@dataclass(frozen=True)
class Head:
    """The request line and the headers."""

    method: str
    target: str
    version: str
    headers: dict[str, str]

    @property
    def stays_open(self) -> bool:
        """Whether the client wants the connection kept."""
        return self.version == "HTTP/1.1" and self.headers.get("connection", "").lower() != "close"

    @property
    def waits_to_be_asked(self) -> bool:
        """Whether the client sends the body only after `100 Continue`."""
        return self.headers.get("expect", "").lower() == "100-continue"


def read_head(stream: BinaryIO) -> Head | None:
    """The next request's head, or None when the client closed the connection."""
    line = stream.readline().decode("latin-1")
    if not line:
        return None
    words = line.split()
    if len(words) != 3:
        raise BadRequest(line)
    return Head(words[0], words[1], words[2], read_headers(stream))


def read_headers(stream: BinaryIO) -> dict[str, str]:
    """Header lines up to the blank one, names lower-cased; of a repeated name the values, joined by commas."""
    headers: dict[str, str] = {}
    while line := stream.readline().decode("latin-1").rstrip("\r\n"):
        name, _, value = line.partition(":")
        key, text = name.strip().lower(), value.strip()
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def read_body(stream: BinaryIO, headers: dict[str, str]) -> bytes:
    """The body, by content length or chunk by chunk."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return b"".join(iter(lambda: read_chunk(stream), b""))
    return stream.read(int(headers.get("content-length") or 0))


def read_chunk(stream: BinaryIO) -> bytes:
    """The next chunk of a chunked body; empty after the last one."""
    size = int(stream.readline().split(b";")[0] or b"0", 16)
    data = stream.read(size)
    stream.readline()
    return data


def request_of(head: Head, raw: bytes) -> Request:
    """The request made of its head and its body."""
    target = urlsplit(head.target)
    query = dict(parse_qsl(target.query, keep_blank_values=True))
    return Request(head.method, unquote(target.path), query, head.headers, parsed(raw), raw)


def parsed(raw: bytes) -> Any:
    """The JSON value in the bytes, or None."""
    try:
        return json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        return None
