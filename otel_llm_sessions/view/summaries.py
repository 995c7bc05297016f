"""A session in one row: what lists show, sort and filter by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """A session in one row; times in nanoseconds since the epoch, None where no span says it."""

    id: str
    name: str | None = None
    user: str | None = None
    tags: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    """The services that its turns came from, in the order in which they joined."""
    turns: int = 0
    models: tuple[str, ...] = ()
    """The models that answered (else: that were asked), in the order in which they joined."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    """The cost of those turns whose cost is known, in ``currency``."""
    currency: str | None = None
    """ISO 4217; None (as ``cost``) where no turn has a cost, or where turns have costs in several currencies."""
    errors: int = 0
    """Turns that failed."""
    first: int = 0
    """When its first turn began."""
    last: int = 0
    """When its last turn ended."""

    @property
    def duration(self) -> int:
        """Nanoseconds from the first turn's begin to the last one's end."""
        return max(0, self.last - self.first)
