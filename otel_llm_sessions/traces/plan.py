"""What is planned of a turn's place in the trace of its session, and what has become of that: values."""

from __future__ import annotations

from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext

from otel_llm_sessions.cheap import value
from otel_llm_sessions.sessions.link import SessionLink, SessionTrace
from otel_llm_sessions.traces.below import below_root
from otel_llm_sessions.traces.links import root_target
from otel_llm_sessions.traces.opening import Opening

ROOT_NANOSECONDS = 1_000_000


@value
class Placement:
    """What a turn has of the trace of its session; the same value for all turns that have the same."""

    trace: SessionTrace | None
    """The session's trace; None while the session has none."""
    is_marked: bool = False
    """Whether that trace gets a marker for the turn: it stands elsewhere, and the trace is sampled."""
    open_root: Span | None = None
    """The root of a session that has no id yet; whoever learns the id names and ends it."""
    opened: SessionTrace | None = None
    """The trace of that root."""
    below: Context | None = None
    """The context below the trace's root, and nothing else, where it has been made before."""


NOT_PLACED: Final = Placement(None)
"""That of a turn whose session has no trace, or none that is known."""


@value
class Places:
    """Where the turns of a trace stand that is open: the same values for all of them."""

    inside: Placement
    """That of a turn which stands there."""
    marked: Placement
    """That of a turn which stands in another trace; it is marked only where the session's trace is sampled."""
    below: Context
    """The context below the trace's root, and nothing else."""
    root: SpanContext
    """What links name the root by."""
    is_seen: bool
    """Whether the trace is sampled."""


def places_in(trace: SessionTrace) -> Places:
    """Return where the turns of a trace stand."""
    context, is_seen = below_root(trace), trace.is_sampled
    inside, marked = Placement(trace, below=context), Placement(trace, is_seen, below=context)
    return Places(inside, marked, context, root_target(trace), is_seen)


@value
class Plan:
    """The trace of a turn's session, as far as it can be told without asking the store."""

    trace: SessionTrace | None = None
    opening: Opening | None = None
    """What is to be opened; the caller claims it first, since that may take a round trip."""
    proven: SessionLink | None = None
    """The first turn, if this one is what proves that there is a session."""
    parent: str = ""
    """The session in which this one is opened; empty if in none. A root that is emitted links to that session's."""
    places: Places | None = None
    """Where the turns of the trace stand, where that has been made before."""
    user: str = ""
    """Whom the first call of a session that has no id yet names; stands on its root."""


NO_PLAN: Final = Plan()
