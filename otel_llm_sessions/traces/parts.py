"""How full each part of a session's trace is: a long session continues in a new one."""

from __future__ import annotations

import itertools
from collections.abc import Sized

from otel_llm_sessions import forks
from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.sessions.link import SessionTrace
from otel_llm_sessions.traces.plan import Plan, places_in
from otel_llm_sessions.traces.roots import MAX_KNOWN


class Part:
    """A part of a session's trace, as full as this process knows it to be."""

    __slots__ = ("first_turn", "is_seen", "places", "plan", "turns", "until")

    def __init__(self, turns: int) -> None:
        """Begin with the turns that it has."""
        self.turns = turns
        self.places = itertools.count(turns)
        """Hands out the turns' places: in a step of C, so that turns in parallel get one each without a lock."""
        self.plan: Plan | None = None
        """The plan of the turns that go on in it, once it is known to be open."""
        self.first_turn, self.until, self.is_seen = 0, 0, True
        """Of an open one: its first turn's number; until when nothing has to be looked at, in nanoseconds since the
        epoch; and whether anybody sees its trace, so that its turns are counted."""

    def take(self, most: int) -> bool:
        """Count one more turn, if there is room for it; return whether there is."""
        place = next(self.places)
        if place >= most:
            return False
        if place >= self.turns:
            self.turns = place + 1
        return True


class TurnCounts:
    """Counts the turns in each part of a session that this process knows of.

    A turn's number alone does not tell: turns in parallel, and forks of a chain, have the same one.
    """

    def __init__(self, most: int, unsure: Sized = ()) -> None:
        """Begin with no part.

        Args:
            most: how many turns a part may have.
            unsure: while there is anything in it, each turn has to be looked at closer.
        """
        self._most = most
        self._unsure = unsure
        self._parts: Bounded[tuple[str, int], Part] = Bounded(MAX_KNOWN)
        self._open: Bounded[str, Part] = Bounded(MAX_KNOWN)
        """Of each session the part that was found open last: where its next turn stands, as a rule."""
        self._opened = self._open.get
        self._lock = forks.Lock()

    def add(self, session_id: str, part: int, before: int, is_turn: bool) -> bool:
        """Count one more turn, if there is room for it; return whether there is.

        Args:
            session_id: the session.
            part: the part of it.
            before: how many turns the part has by the turn's number, those of other processes included.
            is_turn: whether to count; else only look.
        """
        kept = self._parts.get((session_id, part))
        if not is_turn:
            return before < self._most and (kept is None or kept.turns < self._most)
        if kept is None or before > kept.turns:
            kept = self._caught_up(session_id, part, before)
        return kept.take(self._most)

    def _caught_up(self, session_id: str, part: int, before: int) -> Part:
        """Return a part that is as full as a turn's number says."""
        key = session_id, part
        with self._lock.held:
            kept = self._parts.get(key)
            if kept is None:
                # Below 0 where a fork of a chain, of lower numbers, meets a part that the newest turn opened.
                self._parts[key] = kept = Part(max(before, 0))
            elif before > kept.turns:
                kept.turns, kept.places = before, itertools.count(before)
            return kept

    def keep(self, session_id: str, trace: SessionTrace, until: int) -> None:
        """Remember that a part is open, for ``go_on``.

        Args:
            session_id: the session.
            trace: the part's trace.
            until: when that has to be looked at closer, in nanoseconds since the epoch.
        """
        kept = self._caught_up(session_id, trace.part, 0)
        kept.first_turn, kept.until, kept.is_seen = trace.first_turn, until, trace.is_sampled
        kept.plan = Plan(trace, places=places_in(trace))
        self._open[session_id] = kept

    def go_on(self, session_id: str, trace: SessionTrace | None, turn: int, now: int) -> Plan | None:
        """Return the plan of one more turn in a part that is known to be open and to have room; it is counted.

        Args:
            session_id: the session.
            trace: the trace of the turn before; None if it has none.
            turn: the turn's number.
            now: when it began, in nanoseconds since the epoch.

        Returns:
            None where that has to be looked at closer.
        """
        kept = self._opened(session_id)
        if kept is None or (plan := kept.plan) is None or plan.trace is not trace or now >= kept.until or self._unsure:
            return None
        before = turn - kept.first_turn
        fits = before <= kept.turns and kept.take(self._most) if kept.is_seen else before < self._most
        return plan if fits else None
