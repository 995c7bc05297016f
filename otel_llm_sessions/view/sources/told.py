"""What a reader is told while a backend is read, and what has to be said of what was found."""

from __future__ import annotations

from otel_llm_sessions.view.source import Progress


class Told:
    """Progress, and notices: each once, in the order in which they came up.

    Args:
        progress: is told what has been read so far.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress
        self._notices: dict[str, None] = {}

    def read(self, what: str) -> None:
        """Say what has been read so far."""
        if self._progress:
            self._progress(what)

    def notice(self, what: str) -> None:
        """Say something that the reader of the result has to know."""
        self._notices.setdefault(what)

    @property
    def notices(self) -> tuple[str, ...]:
        """What was said."""
        return tuple(self._notices)
