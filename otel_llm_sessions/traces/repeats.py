"""Roots that are told once more: without its root a session has no name in a backend, and its turns no parent."""

from __future__ import annotations

import time
from typing import NamedTuple

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span

from otel_llm_sessions import forks
from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.sessions.link import SessionTrace

MOST = 4_096
"""Roots that are kept to be told again; of sessions begun before them no root is."""

NEVER = 1 << 63
"""A time that does not come, in nanoseconds since the epoch."""


class _Kept(NamedTuple):
    """A root that is to be told again."""

    root: ReadableSpan
    due: int
    """From when on, in nanoseconds since the epoch."""


class Repeats:
    """Keeps the roots that this process has told, until the first turn that comes long after: each is given out once.

    What is kept is the span that has ended, and no recipe for another one: backends know what came twice by its not
    differing in a byte.
    """

    __slots__ = ("__weakref__", "_after", "_kept")

    def __init__(self, after: float) -> None:
        """Keep nothing yet.

        Args:
            after: how long a root rests before it is told again, in seconds (the setting ``ROOT_REPEAT``).
        """
        self._after = int(after * 1_000_000_000)
        self._kept: Bounded[tuple[int, int], _Kept] = Bounded(MOST)
        forks.renew_in_child(self)

    def after_fork_in_child(self) -> None:
        """Leave the parent's roots to the parent: a third one of the same ids would be one too many."""
        self._kept = Bounded(MOST)

    def keep(self, root: Span) -> None:
        """Keep a root that has just been told, if anybody sees it."""
        context = root.get_span_context()
        if isinstance(root, ReadableSpan) and context.trace_flags.sampled:
            self._kept[context.trace_id, context.span_id] = _Kept(root, time.time_ns() + self._after)

    def due(self, trace: SessionTrace) -> int:
        """Return from when on a trace's root is to be told again, in nanoseconds since the epoch; else ``NEVER``."""
        kept = self._kept.get((trace.trace_id, trace.root_span_id))
        return NEVER if kept is None else kept.due

    def take(self, trace: SessionTrace) -> ReadableSpan | None:
        """Return a trace's root if it is due; nobody gets it after that."""
        if self.due(trace) > time.time_ns():
            return None
        kept = self._kept.pop((trace.trace_id, trace.root_span_id), None)
        return None if kept is None else kept.root
