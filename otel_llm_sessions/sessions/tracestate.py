"""The W3C's ``tracestate`` of a root, as it is remembered and travels: a text of bounded length.

Specified in https://www.w3.org/TR/trace-context/#tracestate-header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from opentelemetry.trace.span import TraceState

MAX_STATE: Final = 512
"""Characters that are kept: what every vendor passes on, by the specification, and a value of the API's metadata."""

MAX_ENTRIES: Final = 32
_LONG_ENTRY: Final = 128
"""Entries longer than this are the first to go where not all can stay, by the specification."""

_ENTRY = re.compile(
    r"(?:[a-z][_0-9a-z*/-]{0,255}|[a-z0-9][_0-9a-z*/-]{0,240}@[a-z][_0-9a-z*/-]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


def state_text(state: Mapping[str, str] | None, most: int = MAX_STATE, without: str = "") -> str:
    """Return a ``tracestate`` as text.

    Args:
        state: its entries.
        most: how many characters it may have.
        without: the key of an entry to leave out.
    """
    if not state:
        return ""
    entries = [f"{key}={value}" for key, value in state.items() if key != without]
    if len(",".join(entries)) > most:
        entries = [entry for entry in entries if len(entry) <= _LONG_ENTRY]
    while len(",".join(entries)) > most:
        entries.pop()
    return ",".join(entries)


def state_of(text: str) -> TraceState | None:
    """Return the ``tracestate`` that ``text`` is; None for an empty one, and for what is none or too long."""
    # Checked here, since the parser (opentelemetry-api 1.45) logs a warning for each that a stranger got wrong.
    if not text or len(text) > MAX_STATE:
        return None
    entries = [entry for part in text.split(",") if (entry := part.strip(" \t"))]
    if len(entries) > MAX_ENTRIES or not all(map(_ENTRY.fullmatch, entries)):
        return None
    return TraceState.from_header([text]) or None
