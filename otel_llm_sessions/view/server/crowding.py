"""Bodies that would take many times their size as messages: of nothing but the smallest parts."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from itertools import islice
from typing import Final, TypeVar

from otel_llm_sessions.view.server.otlp_answers import JSON

LARGE: Final = 4 * 1024 * 1024
"""Bytes of a body from which on its parts are counted, and no two are read at once."""
MOST_PARTS: Final = 1_000_000
"""Objects and arrays of JSON, or fields of protobuf of less than eight bytes, that a body has at most."""
SMALL_FIELD: Final = re.compile(rb"[\x0a\x12\x1a\x22\x2a\x32\x3a\x42\x4a\x52\x5a\x62\x6a\x72\x7a][\x00-\x07]")
"""How a field that may be a message begins: its number and its length. Now and then a text looks so, too."""

R = TypeVar("R")

_one_at_a_time: Final = threading.Lock()


class Crowded(ValueError):
    """A body has more parts than are read."""


def read_large(body: bytes, media_type: str, read: Callable[[bytes, str], R]) -> R:
    """Read a body of any size; a large one when no other is read, if it does not have too many parts.

    Args:
        body: the body, decompressed.
        media_type: what it is.
        read: makes a message of it.

    Raises:
        Crowded: it has too many.
    """
    if len(body) < LARGE:
        return read(body, media_type)
    with _one_at_a_time:
        if _is_crowded(body, media_type):
            raise Crowded(f"a request has at most {MOST_PARTS:,} parts")
        return read(body, media_type)


def _is_crowded(body: bytes, media_type: str) -> bool:
    if media_type == JSON:
        return body.count(b"{") + body.count(b"[") > MOST_PARTS
    return next(islice(SMALL_FIELD.finditer(body), MOST_PARTS, None), None) is not None
