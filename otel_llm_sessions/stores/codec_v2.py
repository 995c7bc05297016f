"""Reads the records of version 2, which had a fixed order of fields; none is written any more."""

from __future__ import annotations

import struct

from otel_llm_sessions.sessions.link import SessionId, SessionLink, SessionTrace, Source, SpanRef
from otel_llm_sessions.stores.binary import Reader, unfolded

VERSION = 2

# version, source, what follows, span's flags, trace id (two halves), span id, start
_HEAD = struct.Struct(">BBBBQQQQ")
# root span id, flags, started
_TRACE = struct.Struct(">QBQ")
_TRACE_ID = struct.Struct(">QQ")

# What follows the head.
_ENDED = 1
_INPUT_TOKENS = 2
_OUTPUT_TOKENS = 4
_TRACE_FOLLOWS = 8
_OTHER_TRACE_ID = 16
_RESPONSE_NAMES_SESSION = 32


def read(reader: Reader, sources: tuple[Source, ...]) -> SessionLink:
    """Return the link that a record's body holds.

    Raises:
        IndexError, ValueError, struct.error: it holds none.
    """
    _, source, follows, flags, high, low, span_id, start = reader.fixed(_HEAD)
    span = SpanRef(high << 64 | low, span_id, flags)
    turn = reader.number()
    end = start + unfolded(reader.number()) if follows & _ENDED else 0
    input_tokens = reader.number() if follows & _INPUT_TOKENS else None
    output_tokens = reader.number() if follows & _OUTPUT_TOKENS else None
    trace = _trace(reader, span.trace_id, follows) if follows & _TRACE_FOLLOWS else None
    session_id = SessionId(_text(reader))
    model = _text(reader)
    response_id = session_id if follows & _RESPONSE_NAMES_SESSION else _text(reader)
    if not reader.at_end():
        raise ValueError("the record goes on")
    return SessionLink(
        session_id,
        sources[source],
        turn,
        span,
        start,
        end,
        model,
        input_tokens,
        output_tokens,
        response_id,
        trace,
    )


def _trace(reader: Reader, span_trace_id: int, follows: int) -> SessionTrace:
    trace_id = span_trace_id
    if follows & _OTHER_TRACE_ID:
        high, low = reader.fixed(_TRACE_ID)
        trace_id = high << 64 | low
    root_span_id, flags, started = reader.fixed(_TRACE)
    return SessionTrace(trace_id, root_span_id, flags, reader.number(), started, reader.number())


def _text(reader: Reader) -> str:
    length = reader.number()
    text = reader.taken(length >> 1).decode("utf-8", "surrogatepass")
    return text + reader.taken(reader.number()).hex() if length & 1 else text
