"""What travels with a conversation through the provider: the session and the turn, as a few strings.

The keys and forms are those of the W3C's trace context (https://www.w3.org/TR/trace-context/): ``traceparent`` is the
turn's span; what else the next process needs (the turn's number, the session's trace) is this package's entry of
``tracestate``, and the entries beside it are those of the session's root.

Metadata may be a visitor's, whose application passes it on. With a key (the setting ``KEY``) the entry is sealed, and
of what has none, or a wrong one, only the session's id is believed: else a visitor could put turns into any trace.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, get_args

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import TraceState

from otel_llm_sessions.semconv import LLM_SESSION_ID, SESSION_ID
from otel_llm_sessions.sessions.link import SessionId, SessionTrace, Source, SpanRef
from otel_llm_sessions.sessions.sources import first_id
from otel_llm_sessions.sessions.tracestate import MAX_ENTRIES, state_of, state_text

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

MAX_VALUE: Final = 512
"""Characters of a value that the API takes (https://platform.openai.com/docs/api-reference/responses/create)."""

ENTRY: Final = "llm_session"
"""This package's key in ``tracestate``."""

_FORM = re.compile(
    r"1;(?P<source>[a-z_]+);(?P<turn>[1-9]\d{0,8});(?P<start>\d{1,19})"
    r"(?:;(?P<trace>[0-9a-f]{32})-(?P<root>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r";(?P<part>[1-9]\d{0,8});(?P<first>[1-9]\d{0,8});(?P<started>\d{1,19}))?"
    r"(?:;k:(?P<seal>[0-9a-f]{32}))?"
)
"""Version; the session's source, turn, start; then, if the session has a trace: its root; part, first turn, start;
then, with a key: the seal."""

_SEAL: Final = len(";k:") + 32

_SOURCES = frozenset(get_args(Source))
_PROPAGATOR = TraceContextTextMapPropagator()


class Carried(NamedTuple):
    """What one turn tells of itself and of its session."""

    session_id: SessionId | None
    """None for the first turn of a chain: its session is named by the response."""
    span: SpanRef | None
    source: Source | None = None
    """How the session got its name."""
    turn: int | None = None
    start: int = 0
    """When the turn started, in nanoseconds since the epoch; 0 if it does not say."""
    trace: SessionTrace | None = None
    state: str = ""
    """The span's own ``tracestate``, for who is sent its ``traceparent`` in a header; ``write`` leaves it out."""


def write(carried: Carried, key: str | None = None) -> dict[str, str]:
    """Return what is to travel, the most important first; what the API would not take is left out.

    Args:
        carried: what the turn tells.
        key: what it is sealed with; None for no seal.
    """
    values = {} if carried.session_id is None else {SESSION_ID: str(carried.session_id)}
    span = carried.span
    if span is not None and span.trace_id and span.span_id:
        around = NonRecordingSpan(
            SpanContext(span.trace_id, span.span_id, False, TraceFlags(span.flags), _state(carried, span, key))
        )
        _PROPAGATOR.inject(values, set_span_in_context(around, Context()))
    return {name: value for name, value in values.items() if len(value) <= MAX_VALUE}


def read(values: Mapping[str, Any], key: str | None = None) -> Carried:
    """Return what ``values`` carry; anything that does not have the form it should have counts as not there.

    Args:
        values: what came.
        key: what it has to be sealed with; None if it need not be.
    """
    # The propagator (opentelemetry-api 1.45) warns of longer ones, at each call; the API takes none.
    found_texts = ((name, values.get(name)) for name in (TRACEPARENT, TRACESTATE))
    strings = {name: text for name, text in found_texts if isinstance(text, str) and len(text) <= MAX_VALUE}
    if TRACESTATE in strings and state_of(strings[TRACESTATE]) is None:
        del strings[TRACESTATE]
    context = get_current_span(_PROPAGATOR.extract(strings, Context())).get_span_context()
    span = SpanRef(context.trace_id, context.span_id, int(context.trace_flags)) if context.is_valid else None
    found = _FORM.fullmatch(context.trace_state.get(ENTRY) or "") if span is not None else None
    # As the process that sent it took it: what is no id for the one is none for the other.
    named = first_id(values, (LLM_SESSION_ID, SESSION_ID))
    if span is None or found is None or found["source"] not in _SOURCES:
        return Carried(named, span if key is None else None)
    source: Source = found["source"]  # type: ignore[assignment]
    # Its session had no name yet: an id beside it is the application's own, and something else.
    own = None if source == "new" and found["turn"] == "1" else named
    state = state_text(context.trace_state, without=ENTRY)
    if key is not None and not _is_sealed(found, own, span, state, key):
        return Carried(named, None)
    return Carried(own, span, source, int(found["turn"]), int(found["start"]), _trace(found, state))


def _is_sealed(found: re.Match[str], session_id: SessionId | None, span: SpanRef, state: str, key: str) -> bool:
    entry, _, seal = found[0].partition(";k:")
    return hmac.compare_digest(seal, _seal(entry, session_id, span, state, key))


def _seal(entry: str, session_id: SessionId | None, span: SpanRef, state: str, key: str) -> str:
    told = "\0".join(("carried", entry, session_id or "", f"{span.trace_id:x}-{span.span_id:x}-{span.flags:x}", state))
    return hmac.digest(key.encode("utf-8", "surrogatepass"), told.encode(), "sha256")[:16].hex()


def _state(carried: Carried, span: SpanRef, key: str | None) -> TraceState | None:
    """Return this package's entry, and after it as many of the root's own as the API takes."""
    if carried.source is None or not carried.turn:
        return None
    entry = _entry(carried)
    roots = state_of(carried.trace.state) if carried.trace is not None else None
    room = MAX_VALUE - len(f"{ENTRY}={entry},") - (_SEAL if key is not None else 0)
    kept: Mapping[str, str] = state_of(state_text(roots, room, without=ENTRY)) or {}
    others = list(kept.items())[: MAX_ENTRIES - 1]
    if key is not None:
        entry += f";k:{_seal(entry, carried.session_id, span, state_text(dict(others)), key)}"
    return TraceState([(ENTRY, entry), *others])


def _entry(carried: Carried) -> str:
    fields = ["1", str(carried.source), str(carried.turn), str(carried.start)]
    trace = carried.trace
    if trace is not None:
        fields.append(f"{trace.trace_id:032x}-{trace.root_span_id:016x}-{trace.flags:02x}")
        fields += map(str, (trace.part, trace.first_turn, trace.started))
    return ";".join(fields)


def _trace(found: re.Match[str], state: str) -> SessionTrace | None:
    if found["trace"] is None:
        return None
    trace_id, root_span_id, flags = (int(found[name], 16) for name in ("trace", "root", "flags"))
    if not trace_id or not root_span_id:
        return None
    return SessionTrace(
        trace_id,
        root_span_id,
        flags,
        int(found["part"]),
        int(found["started"]),
        int(found["first"]),
        state,
    )
