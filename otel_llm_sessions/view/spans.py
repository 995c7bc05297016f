"""What arrived, as values: spans, metrics and logs, from whatever brought them.

Nothing here knows a protocol or this package's own attributes. Arrays are tuples, as on the SDK's own spans.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Attributes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ReceivedLink:
    """A span's link to another span."""

    trace_id: str
    span_id: str
    attributes: Attributes = field(default_factory=dict)
    trace_state: str = ""


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """An event on a span; ``time`` in nanoseconds since the epoch."""

    name: str
    time: int
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """One span as it stood on the wire; ids in hex, times in nanoseconds since the epoch."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str = ""
    kind: str = "INTERNAL"
    start: int = 0
    end: int = 0
    attributes: Attributes = field(default_factory=dict)
    links: tuple[ReceivedLink, ...] = ()
    events: tuple[ReceivedEvent, ...] = ()
    status: str = "UNSET"
    status_message: str = ""
    resource: Attributes = field(default_factory=dict)
    scope: str = ""
    flags: int = 0
    scope_version: str = ""
    trace_state: str = ""
    dropped: tuple[int, int, int] = (0, 0, 0)
    """How many attributes, events and links the limits of its process left out."""


@dataclass(frozen=True, slots=True)
class ReceivedLog:
    """One log record or event."""

    event_name: str
    time: int
    body: Any
    attributes: Attributes
    trace_id: str = ""
    span_id: str = ""
    severity: str = ""
    resource: Attributes = field(default_factory=dict)
    scope: str = ""
    scope_version: str = ""
