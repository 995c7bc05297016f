"""How a link is written down: hashed keys, and a compact binary record with a version byte.

A record is a head, numbered fields and a checksum. Later versions add fields and keep this form, so
that processes of two releases share a store: a reader skips the fields that it does not know, and what an older writer
does not know has its default. What a store holds is not trusted: a record that is garbage, cut off, too long, or says
what no turn can say (an id with a NUL, a time after 2262, a count beyond 2^53) is unknown (None); reading never raises.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, get_args

from otel_llm_sessions.cheap import new
from otel_llm_sessions.guard import pass_on, report
from otel_llm_sessions.sessions import keys, names
from otel_llm_sessions.sessions.about import MAX_TAG_BYTES, tags_read, tags_written
from otel_llm_sessions.sessions.link import SessionLink, SessionTrace, Source, SpanRef, Told
from otel_llm_sessions.sessions.texts import MAX_LENGTH
from otel_llm_sessions.sessions.tracestate import MAX_STATE
from otel_llm_sessions.stores import binary, codec_v2
from otel_llm_sessions.stores.binary import Place, Reader, folded, read_fields, unfolded, write_field
from otel_llm_sessions.stores.newest import is_mutable

VERSION = 3

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
_SOURCE_OF_A_LATER_VERSION: Source = "chain"
"""What stands for a source that this version does not know: the session is known, and not given."""

MAX_RECORD = 16 * 1024
MAX_COUNT = 2**53
MAX_TIME = 2**63 - 1
"""Nanoseconds since the epoch: the year 2262."""
MAX_ID = MAX_LENGTH

# version, source; span's flags (1 byte), then the rank: turn (7 bytes), start, whether it has ended; trace id (two
# halves), span id
_HEAD = struct.Struct(">BBQQ?QQQ")
_HEAD_SIZE = _HEAD.size
_TURN_BITS = 56

RANK = slice(3, 19)
"""Where each version from 3 on has what orders a session's turns: of two records the greater bytes are the later."""
VERSIONS_WITH_RANK = range(3, 32)
# root span id, flags, started
_ROOT = struct.Struct(">QBQ")
# messages, digest of the context; and those of instructions and tools, where there are any
_TOLD = struct.Struct(">IQQQ")
_SHORTEST_TOLD = 12
_LONGEST_TOLD = 128
"""What a later version may write there; what it adds is not looked at."""
_CHECKSUM_SIZE = 2
_LOW_64 = (1 << 64) - 1
_LOW_56 = (1 << _TURN_BITS) - 1


class _Field(NamedTuple):
    """An optional field of a link, or of its trace, that is written as it is."""

    number: int
    """Its number in a record: never used again for something else."""
    of: Literal["link", "trace"]
    name: str
    longest: int | None
    """Characters of a text; None for a count."""
    also: str = ""
    """What else than printable characters may stand in a text."""

    def takes(self, value: object) -> bool:
        """Whether ``value`` can stand in this field."""
        if self.longest is None:
            return isinstance(value, int) and 0 <= value <= MAX_COUNT
        if not isinstance(value, str) or len(value) > self.longest:
            return False
        # A key that was too long has a line's end and a digest instead; see `sessions.keys`.
        return value.isprintable() or (bool(self.also) and value.replace(self.also, "").isprintable())


_FIELDS = (
    _Field(1, "link", "session_id", MAX_ID),
    _Field(2, "link", "model", MAX_ID),
    _Field(3, "link", "response_id", names.MAX_ID),
    _Field(4, "link", "input_tokens", None),
    _Field(5, "link", "output_tokens", None),
    _Field(6, "trace", "part", None),
    _Field(7, "trace", "first_turn", None),
    _Field(12, "trace", "state", MAX_STATE),
    _Field(13, "link", "name", MAX_ID),
    _Field(14, "link", "before", 2 * keys.MAX_KEY, also="\n"),
    _Field(15, "link", "parent", MAX_ID),
    _Field(16, "link", "user", MAX_ID),
)
"""A new field of a link or of a session trace is a row here, with the next number after those below, too."""

# Fields that are not written as they are.
_DURATION = 8
_ROOT_FOLLOWS = 9
_OTHER_TRACE_ID = 10
_RESPONSE_NAMES_SESSION = 11
_TOLD_FOLLOWS = 18
_TAGS = 17

_LINK_FIELDS = tuple(field for field in _FIELDS if field.of == "link")
_TRACE_FIELDS = tuple(field for field in _FIELDS if field.of == "trace")

# A record is read into one list: first what the link says, then its trace, then what is not written as it is.
_LINK_AT = {name: at for at, name in enumerate(SessionLink._fields)}
_TRACE_AT = {name: at for at, name in enumerate(SessionTrace._fields, len(_LINK_AT))}
_LINK_SIZE = len(_LINK_AT)
_OTHERS_FROM = _LINK_SIZE + len(_TRACE_AT)
_OTHERS = (
    (_DURATION, binary.NUMBER, (1 << 70) - 1),
    (_ROOT_FOLLOWS, binary.BYTES, _ROOT.size),
    (_OTHER_TRACE_ID, binary.BYTES, 16),
    (_RESPONSE_NAMES_SESSION, binary.NUMBER, 1),
    (_TOLD_FOLLOWS, binary.BYTES, _LONGEST_TOLD),
    (_TAGS, binary.BYTES, MAX_TAG_BYTES),
)
_UNSAID: list[Any] = [
    *(SessionLink._field_defaults.get(name) for name in _LINK_AT),
    *(SessionTrace._field_defaults.get(name) for name in _TRACE_AT),
    *(None for _ in _OTHERS),
]


def _place(field: _Field) -> tuple[int, tuple[int, ...], Place]:
    at = (_LINK_AT if field.of == "link" else _TRACE_AT)[field.name]
    if field.longest is None:
        return field.number, (binary.NUMBER,), (at, MAX_COUNT, "")
    return field.number, (binary.TEXT, binary.PACKED), (at, field.longest, field.also)


_PLACES = binary.places(
    [
        *map(_place, _FIELDS),
        *((number, (kind,), (at, most, "")) for at, (number, kind, most) in enumerate(_OTHERS, _OTHERS_FROM)),
    ]
)
_AT_SOURCE, _AT_TURN, _AT_SPAN, _AT_START, _AT_END, _AT_RESPONSE, _AT_TRACE, _AT_TOLD, _AT_TAGS = map(
    _LINK_AT.__getitem__, ("source", "turn", "span", "start", "end", "response_id", "trace", "told", "tags")
)


def hashed(key: str, kind: bytes = b"link") -> bytes:
    """Return the key under which a store files ``key``: a prefix and a digest, 20 bytes.

    Args:
        key: an evidence key, or the key of a claim.
        kind: ``b"link"`` or ``b"claim"``; the same key names different entries for different kinds.
    """
    data = key.encode("utf-8", "surrogatepass")
    return KEY_PREFIX + blake2b(data, digest_size=_DIGEST_SIZE, person=kind).digest()


class Row(NamedTuple):
    """An entry as a store keeps it."""

    key: bytes
    record: bytes
    is_mutable: bool
    """Whether a record of a higher rank stays."""


def rows_of(entries: Iterable[tuple[str, SessionLink]]) -> list[Row]:
    """Return each entry as it is kept; one that cannot be written is reported and left out."""
    written = []
    encoded: tuple[SessionLink | None, bytes] = (None, b"")
    for key, link in entries:
        try:
            # A turn's keys have one link, which need not be written down for each of them.
            if encoded[0] is not link:
                encoded = link, encode(link)
            written.append(Row(hashed(key), encoded[1], is_mutable(key)))
        except (ValueError, OverflowError, struct.error, KeyError) as error:
            report("write a session link down", error)
    return written


def encode(link: SessionLink) -> bytes:
    """Return ``link`` as a record, without what a reader would not take: an odd model, a count that is none.

    Raises:
        ValueError, OverflowError, struct.error: no reader would take it at all (a turn -1, a trace id of more than 128
            bits).
        KeyError: the source is unknown.
    """
    if not _is_sound(link):
        raise ValueError("no turn has such a session, number, time or trace")
    span = link.span
    out = bytearray(
        _HEAD.pack(
            VERSION,
            _SOURCE_NUMBERS[link.source],
            span.flags << _TURN_BITS | link.turn,
            link.start,
            bool(link.end),
            span.trace_id >> 64,
            span.trace_id & _LOW_64,
            span.span_id,
        )
    )
    _write_link(out, link)
    if link.trace is not None:
        _write_trace(out, link.trace, span.trace_id)
    return bytes(out + _checksum(out))


def decode(record: bytes | None) -> SessionLink | None:
    """Return the link that ``record`` holds, or None for what is no record."""
    if not record or len(record) > MAX_RECORD or record[0] < codec_v2.VERSION:
        return None
    body = record[:-_CHECKSUM_SIZE]
    try:
        if zlib.crc32(body) & 0xFFFF != record[-2] << 8 | record[-1]:
            return None
        link = _read_v2(Reader(body)) if record[0] == codec_v2.VERSION else _read(body)
        return link if _is_possible(link) else None
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:  # TypeError: a field is missing
        pass_on(error)
        return None


def _checksum(body: bytes | bytearray) -> bytes:
    return (zlib.crc32(body) & 0xFFFF).to_bytes(_CHECKSUM_SIZE, "big")


def _is_sound(link: SessionLink) -> bool:
    """Whether a turn can be what the link says, as far as it says it in each record."""
    return len(link.session_id) <= MAX_ID and link.session_id.isprintable() and _is_possible(link)


def _is_possible(link: SessionLink) -> bool:
    """As ``_is_sound``, for a link whose texts have been checked."""
    id_, _, turn, span, start, end, _, _, _, _, trace, _, _, _, _, _, _ = link
    trace_id, span_id, _ = span
    return (
        bool(id_)
        and not id_.isspace()
        and 0 <= turn <= MAX_COUNT  # 0: only the session is known
        and 0 <= start <= MAX_TIME
        and 0 <= end <= MAX_TIME
        and bool(trace_id) == bool(span_id)
        and (trace is None or _is_sound_trace(trace))
    )


def _is_sound_trace(trace: SessionTrace) -> bool:
    trace_id, root_span_id, _, part, started, first_turn, _ = trace
    return (
        trace_id > 0
        and root_span_id > 0
        and 1 <= part <= MAX_COUNT
        and 1 <= first_turn <= MAX_COUNT
        and 0 <= started <= MAX_TIME
    )


def _write_link(out: bytearray, link: SessionLink) -> None:
    if link.end:
        write_field(out, _DURATION, folded(link.end - link.start))
    names_session = link.response_id == link.session_id
    if names_session:
        write_field(out, _RESPONSE_NAMES_SESSION, 1)
    _write_fields(out, _LINK_FIELDS, link._replace(response_id="") if names_session else link)
    if link.told is not None:
        data = _TOLD.pack(*link.told)
        write_field(out, _TOLD_FOLLOWS, data if any(link.told[2:]) else data[:_SHORTEST_TOLD])
    if link.tags and (tags := tags_written(link.tags)):
        write_field(out, _TAGS, tags)


def _write_trace(out: bytearray, trace: SessionTrace, span_trace_id: int) -> None:
    write_field(out, _ROOT_FOLLOWS, _ROOT.pack(trace.root_span_id, trace.flags, trace.started))
    if trace.trace_id != span_trace_id:
        write_field(out, _OTHER_TRACE_ID, trace.trace_id.to_bytes(16, "big"))
    _write_fields(out, _TRACE_FIELDS, trace)


def _write_fields(out: bytearray, fields: tuple[_Field, ...], values: SessionLink | SessionTrace) -> None:
    for field in fields:
        value = getattr(values, field.name)
        if value not in (None, "") and field.takes(value):
            write_field(out, field.number, value)


def _read(body: bytes) -> SessionLink:
    _, source, flags_and_turn, start, _, high, low, span_id = _HEAD.unpack_from(body)
    trace_id = high << 64 | low
    values = _UNSAID.copy()
    read_fields(body, _HEAD_SIZE, _PLACES, values)
    duration, root, other_trace_id, names_session, told, tags = values[_OTHERS_FROM:]
    values[_AT_SOURCE] = SOURCES[source] if source < len(SOURCES) else _SOURCE_OF_A_LATER_VERSION
    values[_AT_TURN] = flags_and_turn & _LOW_56
    values[_AT_SPAN] = new(SpanRef, (trace_id, span_id, flags_and_turn >> _TURN_BITS))
    values[_AT_START] = start
    values[_AT_END] = 0 if duration is None else start + unfolded(duration)
    if names_session:
        values[_AT_RESPONSE] = values[0]
    if tags is not None:
        values[_AT_TAGS] = tags_read(tags)
    if root is not None:
        trace = values[_LINK_SIZE:_OTHERS_FROM]
        trace[0] = trace_id if other_trace_id is None else int.from_bytes(other_trace_id, "big")
        trace[1], trace[2], trace[4] = _ROOT.unpack(root)
        values[_AT_TRACE] = new(SessionTrace, trace)
    if told is not None:
        values[_AT_TOLD] = _told_in(told)
    del values[_LINK_SIZE:]
    return new(SessionLink, values)


def _told_in(data: bytes) -> Told:
    if len(data) < _SHORTEST_TOLD:
        raise ValueError("a count or a digest is missing")
    return new(Told, _TOLD.unpack(data[: _TOLD.size].ljust(_TOLD.size, b"\0")))


def _read_v2(reader: Reader) -> SessionLink:
    link = codec_v2.read(reader, SOURCES)
    values = [(field, getattr(link, field.name)) for field in _LINK_FIELDS]
    if not all(value is None or field.takes(value) for field, value in values):
        raise ValueError("a field says what none can say")
    return link
