"""Trace and span ids derived from a session id, and the generator that hands them to the SDK."""

from __future__ import annotations

import hashlib
import threading

from opentelemetry.sdk.trace.id_generator import IdGenerator


def derived_trace_id(session_id: str, namespace: str = "", part: int = 1) -> int:
    """Return the trace id of one part of a session, as a number of 128 bits.

    The first 16 bytes of SHA-256 over namespace, session id and part, in UTF-8 and set apart by NUL characters,
    which can stand in none of them.
    """
    return int.from_bytes(_digest(namespace, session_id, str(part))[:16], "big") or 1


def derived_root_span_id(session_id: str, namespace: str, part: int, scope: str) -> int:
    """Return the span id of a part's root for all who share a store (``scope``), as a number of 64 bits."""
    return int.from_bytes(_digest(namespace, session_id, str(part), scope)[:8], "big") or 1


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()


class DerivedIdGenerator(IdGenerator):
    """Gives a span the ids laid out for it, any other span those of the application's own generator.

    The SDK asks for the trace id, for ``is_trace_id_random`` and for the span id within one ``start_span``, on one
    thread (opentelemetry-sdk 1.45), so what is laid out is kept per thread.
    """

    def __init__(self, inner: IdGenerator) -> None:
        self._inner = inner
        self._laid_out = threading.local()

    def lay_out(self, trace_id: int, span_id: int) -> None:
        """Lay out the ids of the root span that this thread starts next."""
        self._laid_out.ids = (trace_id, span_id)

    def clear(self) -> None:
        """Take back what was laid out, used or not."""
        self._laid_out.ids = None

    def generate_trace_id(self) -> int:
        """Return the trace id laid out, else a new one of the application's generator."""
        ids = getattr(self._laid_out, "ids", None)
        return ids[0] if ids else self._inner.generate_trace_id()

    def generate_span_id(self) -> int:
        """Return the span id laid out, else a new one of the application's generator."""
        ids = getattr(self._laid_out, "ids", None)
        return ids[1] if ids else self._inner.generate_span_id()

    def is_trace_id_random(self) -> bool:
        """Return False for derived ids: samplers must not take them for random."""
        if getattr(self._laid_out, "ids", None):
            return False
        return self._inner.is_trace_id_random()
