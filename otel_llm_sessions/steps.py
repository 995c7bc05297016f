"""The context of a generator that is inside a session while it runs: entered at each step, left at each ``yield``."""

from __future__ import annotations

from typing import Protocol

from opentelemetry.context import Context, attach, get_current

from otel_llm_sessions.sessions.blocks import within
from otel_llm_sessions.sessions.inside import Inside, inside_of


class Door(Protocol):
    """What leads into a session."""

    def into(self, context: Context) -> Context:
        """Return ``context`` inside the session, and inside its trace if nothing surrounds it."""
        ...

    async def ainto(self, context: Context) -> Context:
        """As ``into``, for callers on an event loop."""
        ...


class Steps:
    """Attaches a session for each step of one generator.

    A step runs in the context of whoever makes it, inside the session. What the generator has attached itself when it
    yields (the span that it works in) is its own: it finds it again at its next step, and nobody else gets it.
    """

    __slots__ = ("_base", "_door", "_inside", "_kept", "_outside", "_within")

    def __init__(self, door: Door) -> None:
        self._door = door
        self._inside: Inside | None = None
        """The session, with its trace, once the first step has opened it."""
        self._outside: Context | None = None
        self._within: object | None = None
        self._base: Context | None = None
        """``_outside``, inside the session."""
        self._kept: Context | None = None
        """What the generator has made of it."""

    def enter(self) -> Context:
        """Begin a step; return the context to go back to."""
        outside = get_current()
        attach(self._context(outside) or self._begin(outside, self._door.into(outside)))
        return outside

    async def aenter(self) -> Context:
        """As ``enter``, for callers on an event loop."""
        outside = get_current()
        attach(self._context(outside) or self._begin(outside, await self._door.ainto(outside)))
        return outside

    def leave(self, outside: Context, *, is_thrown_away: bool = False) -> None:
        """End a step.

        Args:
            outside: what ``enter`` returned.
            is_thrown_away: whether a coroutine is closed amid the step by whoever throws it away, often in a context
                that is none of ours to change.
        """
        context = get_current()
        if is_thrown_away and context is not (self._kept or self._base):
            return
        self._kept = None if context is self._base else context
        attach(outside)

    def _begin(self, outside: Context, base: Context) -> Context:
        self._inside, self._outside, self._within, self._base = inside_of(base), outside, within(), base
        return base

    def _context(self, outside: Context) -> Context | None:
        if self._kept is not None or self._inside is None:
            return self._kept
        around = within()
        if outside is not self._outside or around is not self._within:
            self._outside, self._within, self._base = outside, around, self._inside.into(outside, around)
        return self._base
