"""How full each part of a session's trace is: a long session continues in a new one."""

from __future__ import annotations

from otel_llm_sessions import forks
from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.traces.roots import MAX_KNOWN


class TurnCounts:
    """Counts the turns in each part of a session that this process knows of.

    A turn's number alone does not tell: turns in parallel, and forks of a chain, have the same one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: Bounded[tuple[str, int], list[int]] = Bounded(MAX_KNOWN)
        """One number each, in a list: to set a key anew costs a call as much as an attribute of its span."""
        self._lock = forks.Lock()

    def add(self, session_id: str, part: int, before: int, is_turn: bool) -> bool:
        """Count one more turn, if there is room for it; return whether there is.

        Args:
            session_id: the session.
            part: the part of it.
            before: how many turns the part has by the turn's number, those of other processes included.
            is_turn: whether to count; else only look.
        """
        counts, key = self._counts, (session_id, part)
        if not is_turn:
            kept = counts.get(key)
            return before < self._most and (kept is None or kept[0] < self._most)
        with self._lock.held:
            kept = counts.get(key)
            known = kept[0] if kept is not None else 0
            # Below 0 where a chain's fork, whose turns have lower numbers, meets a part that the newest turn opened.
            count = before if before > known else known
            if count >= self._most:
                return False
            if kept is None:
                counts[key] = [count + 1]
            else:
                kept[0] = count + 1
            return True
