"""What bodies take as messages: the smallest parts take many times the bytes by which they are sent."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from itertools import islice
from typing import Final, TypeVar

from otel_llm_sessions.view.server.intake import Room
from otel_llm_sessions.view.server.otlp_answers import JSON, MOST

LARGE: Final = 4 * 1024 * 1024
"""Bytes of a body from which on no two are read at once."""
MANY: Final = 50_000
"""Parts from which on a body is as good as large, whatever its bytes."""
MOST_PARTS: Final = 1_000_000
"""Objects and arrays of JSON, or fields of protobuf of less than eight bytes, that a body has at most."""
PART: Final = 64
"""Bytes that a part takes in a message besides its own two or three."""
FEW: Final = bytes(range(8))
"""The lengths of small fields."""
SMALL_FIELD: Final = re.compile(rb"[\x0a\x12\x1a\x22\x2a\x32\x3a\x42\x4a\x52\x5a\x62\x6a\x72\x7a][\x00-\x07]")
"""How a field that may be a message begins: its number and its length. Now and then a text looks so, too."""

R = TypeVar("R")

_one_at_a_time: Final = threading.Lock()


class Crowded(ValueError):
    """A body has more parts than are read."""


def read_within(room: Room, body: bytes, media_type: str, read: Callable[[bytes, str], R]) -> tuple[R, int]:
    """Read a body of any size in the room that it takes; a large one when no other is read.

    Args:
        room: where room for the message is taken before it is made.
        body: the body, decompressed.
        media_type: what it is.
        read: makes a message of it.

    Returns:
        The message, and the bytes that it takes, roughly.

    Raises:
        Crowded: it has too many parts.
        Full: there is no room for it now.
    """
    parts = _parts_in(body, media_type)
    if parts > MOST_PARTS:
        raise Crowded(f"a request has at most {MOST_PARTS:,} parts")
    # At most what a body may have: else there would be some that never get room.
    size = max(len(body), min(len(body) + PART * parts, MOST))
    with room.taken(size):
        if len(body) < LARGE and parts < MANY:
            return read(body, media_type), size
        with _one_at_a_time:
            return read(body, media_type), size


def _parts_in(body: bytes, media_type: str) -> int:
    """How many parts a body has; of some few of protobuf, no less than that."""
    if media_type == JSON:
        return body.count(b"{") + body.count(b"[")
    most = len(body) - len(body.translate(None, FEW))
    if most < MANY:
        return most
    return sum(1 for _ in islice(SMALL_FIELD.finditer(body), MOST_PARTS + 1))
