"""Trace and span ids derived from a session id, and the generator that hands them to the SDK."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Link, Span, SpanKind

INTERNAL = SpanKind.INTERNAL
"""Looked up once: an enum's member takes a function of Python's each time (CPython 3.11)."""


def derived_trace_id(session_id: str, namespace: str = "", part: int = 1, key: str | None = None) -> int:
    """Return the trace id of one part of a session, as a number of 128 bits.

    The first 16 bytes of SHA-256 over namespace, session id and part, in UTF-8 and set apart by NUL characters,
    which can stand in none of them; with a key (the setting ``KEY``) of HMAC-SHA-256.
    """
    return int.from_bytes(_digest(key, namespace, session_id, str(part))[:16], "big") or 1


def derived_root_span_id(session_id: str, namespace: str, part: int, scope: str, key: str | None = None) -> int:
    """Return the span id of a part's root for all who share a store (``scope``), as a number of 64 bits."""
    return int.from_bytes(_digest(key, namespace, session_id, str(part), scope)[:8], "big") or 1


def _digest(key: str | None, *parts: str) -> bytes:
    data = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hmac.digest(key.encode("utf-8", "surrogatepass"), data, "sha256") if key else hashlib.sha256(data).digest()


_laid_out: ContextVar[list[int] | None] = ContextVar("otel_llm_sessions.laid_out", default=None)
"""What is laid out for the span that is being started: its trace id and its span id, each 0 once it is handed out.

A context variable, since greenlets have one each also where threads were not patched.
"""


def start_with_ids(
    tracer: Any,
    ids: tuple[int, int] | None,
    name: str,
    context: Context | None = None,
    attributes: Mapping[str, Any] | None = None,
    links: Sequence[Link] = (),
    start_time: int | None = None,
) -> Span:
    """Start a span of this package's own scope; it alone gets the ids laid out for it.

    A sampler or a processor may start spans of this scope meanwhile (by a call of the client). They get here too, so
    that each has what is laid out for itself, or nothing.

    Args:
        tracer: this package's tracer.
        ids: trace id and span id of a root; None for ids of the application's own generator.
        name: the span's name.
        context: as ``start_span`` takes it, like all that follow.
        attributes: see there.
        links: see there.
        start_time: see there.
    """
    outer = None
    if ids is not None or _laid_out.get() is not None:
        outer = _laid_out.set(list(ids) if ids is not None else None)
    span: Span | None = None
    try:
        try:
            span = tracer.start_span(name, context, INTERNAL, attributes, links, start_time)
        finally:
            if outer is not None:
                _laid_out.reset(outer)
        return span
    except BaseException:  # interrupted where nobody else has the span yet
        end_early(span)
        raise


def end_early(span: Span | None) -> None:
    """End a span, if there is one that has not ended: for who is interrupted (Ctrl-C, a time limit) amid making it."""
    if span is not None and span.is_recording():
        span.end()


class DerivedIdGenerator(IdGenerator):
    """Gives a span the ids laid out for it, once; any other span those of the application's own generator.

    Within one ``start_span`` the SDK asks for the trace id, then the sampler, for ``is_trace_id_random`` and for the
    span id, and then tells the processors of the span (opentelemetry-sdk 1.45).
    """

    def __init__(self, inner: IdGenerator) -> None:
        self._inner = inner

    def generate_trace_id(self) -> int:
        """Return the trace id laid out, else a new one of the application's generator."""
        ids = _laid_out.get()
        return self._inner.generate_trace_id() if ids is None else _take(ids, 0) or self._inner.generate_trace_id()

    def generate_span_id(self) -> int:
        """Return the span id laid out, else a new one of the application's generator."""
        ids = _laid_out.get()
        return self._inner.generate_span_id() if ids is None else _take(ids, 1) or self._inner.generate_span_id()

    def is_trace_id_random(self) -> bool:
        """Return False for derived ids: samplers must not take them for random."""
        ids = _laid_out.get()
        is_derived = ids is not None and ids[0] == 0 and ids[1] != 0
        return not is_derived and self._inner.is_trace_id_random()


def _take(ids: list[int], which: int) -> int:
    id_, ids[which] = ids[which], 0
    return id_
