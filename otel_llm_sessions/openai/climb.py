"""The way up a chain in the store, past turns that only know the one before them; pure: who asks tells the answers."""

from __future__ import annotations

from typing import Final

from otel_llm_sessions.sessions.link import Record, SessionLink

MAX_STEPS: Final = 50
"""How many turns are passed at most."""


class Climb:
    """A way up one chain, step by step."""

    def __init__(self, key: str) -> None:
        """Begin at the turn before a call, by its key."""
        self.asking: str | None = key
        """The key to look up next; None when the way is at its end."""
        self._passed: list[tuple[str, SessionLink]] = []
        self._known: SessionLink | None = None

    def take(self, link: SessionLink | None) -> None:
        """Take in what the store has under the key that was to be looked up."""
        key, self.asking = self.asking, None
        if link is None or key is None:
            return
        if link.source != "chain_partial":
            self._known = link
            return
        self._passed.append((key, link))
        before = link.before
        if before and len(self._passed) < MAX_STEPS and all(before != passed for passed, _ in self._passed):
            self.asking = before

    @property
    def previous(self) -> SessionLink | None:
        """The turn before the call, put right if the chain's session is known; None if the store does not know it."""
        if not self._passed:
            return self._known
        return self._righted()[0][1] if self._known is not None else self._passed[0][1]

    def repairs(self) -> list[Record]:
        """Return what is to be remembered of the turns on the way, now that their session is known."""
        return [([key], link) for key, link in self._righted()] if self._known is not None else []

    def _righted(self) -> list[tuple[str, SessionLink]]:
        known, count = self._known, len(self._passed)
        assert known is not None
        return [
            (
                key,
                link._replace(
                    session_id=known.session_id,
                    source=known.source,
                    turn=known.turn + count - place,
                    trace=known.trace,
                    name=known.name,
                    before="",
                ),
            )
            for place, (key, link) in enumerate(self._passed)
        ]
