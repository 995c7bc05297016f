"""How a link is written down: hashed keys, and a compact binary record with a version byte.

A record is read back as it was written, or as unknown (None): garbage, a cut-off record, and records of a newer version
never raise.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable
from hashlib import blake2b
from typing import get_args

from otel_llm_sessions.guard import report
from otel_llm_sessions.sessions.link import SessionId, SessionLink, SessionTrace, Source, SpanRef

VERSION = 2

KEY_PREFIX = b"ols:"
_DIGEST_SIZE = 16

SOURCES: tuple[Source, ...] = (
    "header",
    "body",
    "metadata",
    "context",
    "baggage",
    "conversation",
    "chain",
    "item",
    "tool_call",
    "history",
    "provider",
    "chain_partial",
    "new",
)
"""The place of a source in this table is its number in a record: append to it, never reorder it."""

if set(SOURCES) != set(get_args(Source)):
    raise ImportError(f"the codec does not know all sources: {set(get_args(Source)) ^ set(SOURCES)}")

_SOURCE_NUMBERS = {source: number for number, source in enumerate(SOURCES)}

# version, source, what follows, span's flags, trace id (two halves), span id, start
_HEAD = struct.Struct(">BBBBQQQQ")
# root span id, flags, started
_TRACE = struct.Struct(">QBQ")
_TRACE_ID = struct.Struct(">QQ")
_CHECKSUM_SIZE = 2
_HEX_AT_END = re.compile(r"(?:[0-9a-f]{2}){4,}\Z")
"""Digits that take half the room as bytes; fewer of them are not worth the count."""
_LOW_64 = (1 << 64) - 1

# What follows the head.
_ENDED = 1
_INPUT_TOKENS = 2
_OUTPUT_TOKENS = 4
_TRACE_FOLLOWS = 8
_OTHER_TRACE_ID = 16
_RESPONSE_NAMES_SESSION = 32


def hashed(key: str, kind: bytes = b"link") -> bytes:
    """Return the key under which a store files ``key``: a prefix and a digest, 20 bytes.

    Args:
        key: an evidence key, or the key of a claim.
        kind: ``b"link"`` or ``b"claim"``; the same key names different entries for different kinds.
    """
    data = key.encode("utf-8", "surrogatepass")
    return KEY_PREFIX + blake2b(data, digest_size=_DIGEST_SIZE, person=kind).digest()


def records(entries: Iterable[tuple[str, SessionLink]]) -> list[tuple[bytes, bytes]]:
    """Return each entry's hashed key and record; an entry that cannot be written is reported and left out."""
    written = []
    encoded: tuple[SessionLink | None, bytes] = (None, b"")
    for key, link in entries:
        try:
            # A turn's keys have one link, which need not be written down for each of them.
            if encoded[0] is not link:
                encoded = link, encode(link)
            written.append((hashed(key), encoded[1]))
        except (ValueError, struct.error, KeyError) as error:
            report("write a session link down", error)
    return written


def encode(link: SessionLink) -> bytes:
    """Return ``link`` as a record.

    Raises:
        ValueError, struct.error: a number is out of its range (a trace id of more than 128 bits).
        KeyError: the source is unknown.
    """
    span, trace = link.span, link.trace
    follows = _what_follows(link)
    out = bytearray(
        _HEAD.pack(
            VERSION,
            _SOURCE_NUMBERS[link.source],
            follows,
            span.flags,
            span.trace_id >> 64,
            span.trace_id & _LOW_64,
            span.span_id,
            link.start,
        )
    )
    _write_number(out, link.turn)
    if follows & _ENDED:
        _write_signed(out, link.end - link.start)
    if link.input_tokens is not None:
        _write_number(out, link.input_tokens)
    if link.output_tokens is not None:
        _write_number(out, link.output_tokens)
    if trace is not None:
        _write_trace(out, trace, follows)
    _write_text(out, link.session_id)
    _write_text(out, link.model)
    if not follows & _RESPONSE_NAMES_SESSION:
        _write_text(out, link.response_id)
    return bytes(out + _checksum(out))


def decode(record: bytes | None) -> SessionLink | None:
    """Return the link that ``record`` holds, or None for what is no record of this version."""
    if not record or record[0] != VERSION:
        return None
    try:
        body = record[:-_CHECKSUM_SIZE]
        return _decoded(_Reader(body)) if _checksum(body) == record[-_CHECKSUM_SIZE:] else None
    except (IndexError, ValueError, struct.error):
        return None


def _checksum(body: bytes | bytearray) -> bytes:
    return (zlib.crc32(body) & 0xFFFF).to_bytes(_CHECKSUM_SIZE, "big")


def _what_follows(link: SessionLink) -> int:
    trace = link.trace
    return (
        (_ENDED if link.end else 0)
        | (_INPUT_TOKENS if link.input_tokens is not None else 0)
        | (_OUTPUT_TOKENS if link.output_tokens is not None else 0)
        | (_TRACE_FOLLOWS if trace is not None else 0)
        | (_OTHER_TRACE_ID if trace is not None and trace.trace_id != link.span.trace_id else 0)
        | (_RESPONSE_NAMES_SESSION if link.response_id == link.session_id else 0)
    )


def _write_trace(out: bytearray, trace: SessionTrace, follows: int) -> None:
    if follows & _OTHER_TRACE_ID:
        out += _TRACE_ID.pack(trace.trace_id >> 64, trace.trace_id & _LOW_64)
    out += _TRACE.pack(trace.root_span_id, trace.flags, trace.started)
    _write_number(out, trace.part)
    _write_number(out, trace.first_turn)


def _write_number(out: bytearray, number: int) -> None:
    """Write a number of any size, 7 bits to a byte, the lowest first."""
    if number < 0:
        raise ValueError(f"a count is never negative: {number}")
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _write_signed(out: bytearray, number: int) -> None:
    """Write a number that may be negative (a clock that was set back) so that small ones stay small."""
    _write_number(out, number << 1 if number >= 0 else (-number << 1) - 1)


def _write_text(out: bytearray, text: str) -> None:
    """Write a text, its hexadecimal digits at the end as bytes: ids of responses are most of a record."""
    digits = _HEX_AT_END.search(text)
    data = text[: digits.start() if digits else None].encode("utf-8", "surrogatepass")
    _write_number(out, len(data) << 1 | (digits is not None))
    out += data
    if digits:
        packed = bytes.fromhex(digits[0])
        _write_number(out, len(packed))
        out += packed


class _Reader:
    """Takes a record apart from front to back; raises IndexError, ValueError or struct.error where it ends early."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def fields(self, layout: struct.Struct) -> tuple[int, ...]:
        values = layout.unpack_from(self._data, self._at)
        self._at += layout.size
        return values

    def number(self) -> int:
        number = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def signed(self) -> int:
        number = self.number()
        return -(number + 1 >> 1) if number & 1 else number >> 1

    def text(self) -> str:
        length = self.number()
        text = self._bytes(length >> 1).decode("utf-8", "surrogatepass")
        return text + self._bytes(self.number()).hex() if length & 1 else text

    def _bytes(self, number: int) -> bytes:
        end = number + self._at
        if end > len(self._data):
            raise ValueError("the text ends early")
        data = self._data[self._at : end]
        self._at = end
        return data

    def at_end(self) -> bool:
        return self._at == len(self._data)


def _decoded(reader: _Reader) -> SessionLink | None:
    _, source, follows, flags, high, low, span_id, start = reader.fields(_HEAD)
    span = SpanRef(high << 64 | low, span_id, flags)
    turn = reader.number()
    end = start + reader.signed() if follows & _ENDED else 0
    input_tokens = reader.number() if follows & _INPUT_TOKENS else None
    output_tokens = reader.number() if follows & _OUTPUT_TOKENS else None
    trace = _read_trace(reader, span.trace_id, follows) if follows & _TRACE_FOLLOWS else None
    session_id = SessionId(reader.text())
    model = reader.text()
    response_id = session_id if follows & _RESPONSE_NAMES_SESSION else reader.text()
    if not reader.at_end():
        return None
    return SessionLink(
        session_id=session_id,
        source=SOURCES[source],
        turn=turn,
        span=span,
        start=start,
        end=end,
        model=model,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        response_id=response_id,
        trace=trace,
    )


def _read_trace(reader: _Reader, span_trace_id: int, follows: int) -> SessionTrace:
    trace_id = span_trace_id
    if follows & _OTHER_TRACE_ID:
        high, low = reader.fields(_TRACE_ID)
        trace_id = high << 64 | low
    root_span_id, flags, started = reader.fields(_TRACE)
    return SessionTrace(trace_id, root_span_id, flags, reader.number(), started, reader.number())
