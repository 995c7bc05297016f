"""Where the span of a turn stands: which trace, which parent, which links.

``SessionTraces`` puts each session into a trace of its own (``TRACES=session``); ``TurnTraces`` leaves trace ids and
parents alone (``TRACES=turn``). Both give links.
"""

from __future__ import annotations

import functools
import time
from collections import OrderedDict
from typing import NamedTuple, Protocol

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    TracerProvider,
    get_current_span,
    set_span_in_context,
)

from otel_llm_sessions import forks
from otel_llm_sessions.semconv import LLM_SESSION_LINK
from otel_llm_sessions.sessions.inside import is_session_root
from otel_llm_sessions.sessions.link import GIVEN_SOURCES, SAMPLED, SessionLink, SessionTrace
from otel_llm_sessions.sessions.resolver import Resolution
from otel_llm_sessions.traces.links import root_context, root_target, turn_links
from otel_llm_sessions.traces.roots import MAX_KNOWN, NO_PLAN, Plan, Roots


class Placement(NamedTuple):
    """Where a call's span stands."""

    context: Context
    """The context whose current span is its parent."""
    links: list[Link]
    trace: SessionTrace | None
    """The session's trace; None while the session has none."""
    nested: bool = False
    """Whether the span stays in another trace, so that the session's trace gets a marker for it."""
    open_root: Span | None = None
    """The root of a session that has no id yet; whoever learns the id names and ends it."""
    proven: SessionLink | None = None
    """The first turn, which this one proved to be a session's: it gets its marker after the fact."""


class Placer(Protocol):
    """Decides where spans stand."""

    def plan(self, resolution: Resolution, provider: TracerProvider, *, is_turn: bool = True, now: int = 0) -> Plan:
        """Return the trace of the session, or what has to be opened (and claimed) for it.

        Args:
            resolution: the session of the call.
            provider: the tracer provider in force.
            is_turn: whether the call counts as a turn of the session.
            now: when the call began, in nanoseconds since the epoch; 0 for this moment.
        """
        ...

    def place(
        self,
        resolution: Resolution,
        plan: Plan,
        owner: bool,
        context: Context,
        ambient: Span,
        *,
        weak: bool,
        provider: TracerProvider,
    ) -> Placement:
        """Return where the span of a call stands.

        Args:
            resolution: the session of the call.
            plan: what ``plan`` returned.
            owner: whether this caller got the claim of ``plan.opening``.
            context: the context in which the call was made.
            ambient: the span that is current there.
            weak: whether the call, if it is a session's first, opens no session trace on its own.
            provider: the tracer provider in force.
        """
        ...


class TurnTraces:
    """``TRACES=turn``: trace ids and parents are left alone."""

    def plan(self, resolution: Resolution, provider: TracerProvider, *, is_turn: bool = True, now: int = 0) -> Plan:
        """See ``Placer.plan``."""
        return NO_PLAN

    def place(
        self,
        resolution: Resolution,
        plan: Plan,
        owner: bool,
        context: Context,
        ambient: Span,
        *,
        weak: bool,
        provider: TracerProvider,
    ) -> Placement:
        """See ``Placer.place``."""
        return Placement(context, turn_links(resolution), None)


class TurnCounts:
    """Counts the turns in each part of a session that this process knows of.

    A turn's number alone does not tell: turns in parallel, and forks of a chain, have the same one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: OrderedDict[tuple[str, int], int] = OrderedDict()
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
        with self._lock.held:
            known = counts.get(key, 0)
            # Below 0 where a chain's fork, whose turns have lower numbers, meets a part that the newest turn opened.
            count = before if before > known else known
            if count >= self._most:
                return False
            if is_turn:
                counts[key] = count + 1
                if not known and len(counts) > MAX_KNOWN:
                    counts.popitem(last=False)
            return True


class SessionTraces:
    """``TRACES=session``: each session appears as one trace."""

    def __init__(self, roots: Roots, max_turns: int, max_age: float) -> None:
        self._roots = roots
        self._turns = TurnCounts(max_turns)
        self._max_age = int(max_age * 1_000_000_000)

    def plan(self, resolution: Resolution, provider: TracerProvider, *, is_turn: bool = True, now: int = 0) -> Plan:
        """See ``Placer.plan``."""
        session_id, previous = resolution.session_id, resolution.previous
        if session_id is None:
            return NO_PLAN
        name = resolution.name
        if previous is None or previous.session_id != session_id:
            plan = self._roots.plan(session_id, resolution.origin, provider, start=now, name=name)
        elif previous.trace is None:
            # Of a turn that only the provider knows there is no span to mark.
            proves = bool(previous.span.trace_id)
            first_turn, start = (previous.turn, previous.start) if proves else (resolution.turn, now)
            plan = self._roots.plan(
                session_id, resolution.origin, provider, start=start, first_turn=first_turn, name=name
            )
            if plan.opening and proves:
                plan = plan._replace(proven=previous)
        else:
            plan = self._roots.resume(session_id, resolution.origin, previous.trace, provider, name=name)
        plan = self._with_room(plan, resolution, provider, is_turn, now)
        # Fetching a response proves no session, nor does it know yet which one the response itself names.
        opening = plan.opening
        if opening is None or is_turn or resolution.origin in GIVEN_SOURCES:
            return plan
        return Plan(self._roots.known(session_id, opening.part)) if opening.is_again else NO_PLAN

    def _with_room(self, plan: Plan, resolution: Resolution, provider: TracerProvider, is_turn: bool, now: int) -> Plan:
        """Return ``plan``, or that of the first part after it that is not full."""
        session_id = resolution.session_id
        assert session_id is not None
        while (here := plan.trace or plan.opening) is not None:
            # Of a part that nobody sees, the turns' numbers tell enough.
            trace = plan.trace
            counts = is_turn and (trace is None or bool(trace.flags & SAMPLED))
            before = resolution.turn - here.first_turn
            is_old = trace is not None and time.time_ns() - trace.started >= self._max_age
            fits = not is_old and self._turns.add(session_id, here.part, before, counts)
            # The turn that proves a session goes where its first turn is marked.
            if fits or plan.proven is not None:
                break
            plan = self._roots.plan(
                session_id,
                resolution.origin,
                provider,
                part=here.part + 1,
                first_turn=resolution.turn,
                start=now,
                # Turns in parallel may fill a part before its root is there; the ids of that are known already.
                before=plan.trace or self._roots.expected(plan.opening, provider),
                name=resolution.name,
            )
        return plan

    def place(
        self,
        resolution: Resolution,
        plan: Plan,
        owner: bool,
        context: Context,
        ambient: Span,
        *,
        weak: bool,
        provider: TracerProvider,
    ) -> Placement:
        """See ``Placer.place``."""
        around = ambient.get_span_context()
        nested = around.is_valid and not is_session_root(context, around)
        if resolution.session_id is None:
            return self._unnamed(resolution, context, nested or weak, provider)
        trace = plan.trace
        if plan.opening is not None:
            trace = self._roots.open(plan.opening, owner, provider)
        if trace is None or trace.trace_id == 0:
            return Placement(context, turn_links(resolution), None)
        is_sampled = trace.flags & SAMPLED
        proven = plan.proven if owner and is_sampled else None
        # Traces are sampled as a whole: where neither the session's nor the one around is, nobody sees links.
        is_seen = is_sampled or (nested and around.trace_flags.sampled)
        links = turn_links(resolution) if is_seen else []
        if not nested:
            return Placement(below(trace, context), links, trace, proven=proven)
        if around.trace_id == trace.trace_id:
            return Placement(context, links, trace, proven=proven)
        if is_seen:
            links.append(Link(root_target(trace), {LLM_SESSION_LINK: "session"}))
        return Placement(context, links, trace, nested=True, proven=proven)

    def _unnamed(
        self, resolution: Resolution, context: Context, opens_nothing: bool, provider: TracerProvider
    ) -> Placement:
        if opens_nothing or resolution.source is None:
            return Placement(context, [], None)
        opened = self._roots.fresh(provider, time.time_ns())
        if opened is None or opened[1].trace_id == 0:
            return Placement(context, [], None)
        root, trace = opened
        try:
            above = NonRecordingSpan(root.get_span_context())
            return Placement(set_span_in_context(above, context), [], trace, open_root=root)
        except BaseException:  # interrupted: nobody else has the root, to end it
            self._roots.end_fresh(root, trace, None)
            raise


def below(trace: SessionTrace, context: Context) -> Context:
    """Return ``context`` with a session's root as the current span."""
    nowhere = below_root(trace)
    return set_span_in_context(get_current_span(nowhere), context) if context else nowhere


@functools.lru_cache(maxsize=64)
def below_root(trace: SessionTrace) -> Context:
    """Return a context in which there is a session's root as the current span, and nothing else."""
    # Contexts do not change, so that all turns of a session which nothing surrounds share this one.
    return set_span_in_context(NonRecordingSpan(root_context(trace)), Context())
