"""Whether an instrumentation is on: what ``uninstrument()`` turns, for calls that are still under way."""

from __future__ import annotations


class Switch:
    """On from the start, off for good."""

    __slots__ = ("is_on", "records")

    def __init__(self) -> None:
        self.is_on = True
        """Whether calls are looked at."""
        self.records = True
        """Whether there is a store to record in; one of ours is closed with the instrumentation."""
