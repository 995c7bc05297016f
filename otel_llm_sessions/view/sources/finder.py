"""What a backend that knows no sessions has to do so that sessions can be read from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from otel_llm_sessions.view.query import SECOND
from otel_llm_sessions.view.sources.site import Refused, TooLong
from otel_llm_sessions.view.sources.told import Told
from otel_llm_sessions.view.spans import ReceivedSpan

DAY: Final = 86_400 * SECOND
LOOK_BACK: Final = 7 * DAY
"""How far back sessions are looked for where nobody says since when."""
SEARCH_BACK: Final = 30 * DAY
"""How far back a session is looked for by its id."""


class Finder(Protocol):
    """A backend that can be searched for traces. Thread-safe; every method may wait, and raises Unreachable."""

    @property
    def name(self) -> str:
        """What it is and where, for people."""
        ...

    def everything(self, since: int, until: int, told: Told) -> Iterator[list[ReceivedSpan]]:
        """Yield what has sessions in it: traces, or of them what a session in one row is made from."""
        ...

    def having(self, attribute: str, value: str, since: int, until: int, told: Told) -> Iterator[list[ReceivedSpan]]:
        """Yield the whole traces that have a span with this attribute."""
        ...

    def trace(self, trace_id: str, told: Told) -> list[ReceivedSpan]:
        """Return the spans of a trace; none if it is not there."""
        ...

    def mended(self, spans: Iterable[ReceivedSpan]) -> list[ReceivedSpan]:
        """Return the spans with what the backend leaves out of them, as far as the others tell it."""
        ...

    def trace_url(self, trace_id: str, span_id: str) -> str | None:
        """Return the address of a trace, and of a span in it, on the backend's own page; None if it has none."""
        ...


def unless_missing(read: Callable[[], list[ReceivedSpan]], told: Told) -> list[ReceivedSpan]:
    """Read one trace by its id; none if it is not there, or (which is told) too large."""
    try:
        return read()
    except TooLong as error:
        told.notice(f"a trace is too large to be read: {error}")
    except Refused as refused:
        # An id that is none is a wrong parameter to some.
        if refused.status not in (400, 404):
            raise
    return []
