"""Where the span of a turn stands: which trace, which parent, which links.

``SessionPlacer`` puts each session into a trace of its own (``TRACES=session``); ``TurnPlacer`` leaves trace ids and
parents alone (``TRACES=turn``). Both give links.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Protocol, TypeAlias

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext

from otel_llm_sessions.sessions.inside import ROOT_CONTEXT_KEY, is_session_root
from otel_llm_sessions.sessions.link import GIVEN_SOURCES, SAMPLED, SessionId, SessionLink, SessionTrace, Source
from otel_llm_sessions.sessions.resolver import Resolution
from otel_llm_sessions.traces.below import below, below_root, below_span, with_span_of
from otel_llm_sessions.traces.links import TO_ROOT, link, turn_links
from otel_llm_sessions.traces.markers import emit_marker
from otel_llm_sessions.traces.opening import NOWHERE
from otel_llm_sessions.traces.parts import TurnCounts
from otel_llm_sessions.traces.plan import NO_PLAN, NOT_PLACED, Placement, Places, Plan, places_in
from otel_llm_sessions.traces.roots import Roots

Placed: TypeAlias = tuple[Placement, Context, list[Link]]
"""Where a call's span stands: what it has of its session's trace; the context whose current span is its parent; its
links. A plain tuple, since each call makes one.
"""


class Placer(Protocol):
    """Decides where spans stand."""

    def plan(self, resolution: Resolution, is_turn: bool = True, now: int = 0) -> Plan:
        """Return the trace of the session, or what has to be opened (and claimed) for it.

        Args:
            resolution: the session of the call.
            is_turn: whether the call counts as a turn of the session.
            now: when the call began, in nanoseconds since the epoch; 0 for this moment.
        """
        ...

    def go_on(self, session_id: SessionId, trace: SessionTrace | None, turn: int, now: int) -> Plan | None:
        """Return the plan of a turn that goes on in a trace that is known to be open, and count it; else None.

        Args:
            session_id: the session.
            trace: that of the turn before.
            turn: the turn's number.
            now: when it began, in nanoseconds since the epoch.
        """
        ...

    def place(
        self,
        resolution: Resolution,
        plan: Plan,
        owner: bool,
        context: Context,
        ambient: Span,
        weak: bool,
        now: int = 0,
    ) -> Placed:
        """Return where the span of a call stands.

        Args:
            resolution: the session of the call.
            plan: what ``plan`` returned.
            owner: whether this caller got the claim of ``plan.opening``.
            context: the context in which the call was made.
            ambient: the span that is current there.
            weak: whether the call, if it is a session's first, opens no session trace on its own.
            now: when the call began, in nanoseconds since the epoch; 0 for this moment.
        """
        ...

    def amend(self, resolution: Resolution, plan: Plan, owner: bool, span: SpanContext) -> tuple[Placement, list[Link]]:
        """Return what a turn has of its session's trace whose span was started before; that does not move.

        Args:
            resolution: the session of the call.
            plan: what ``plan`` returned.
            owner: whether this caller got the claim of ``plan.opening``.
            span: the span, which gets the links that are returned.
        """
        ...

    def open(self, plan: Plan) -> None:
        """Emit the root of a plan that was placed before its claim was got."""
        ...

    def end_root(self, placement: Placement, session_id: SessionId | None, source: Source | None) -> None:
        """Name and end the root that was left open for a call which had no session's id yet.

        Args:
            placement: what ``place`` returned, and what has become of it.
            session_id: the session; None if the call failed before it had one.
            source: how the session was found.
        """
        ...

    def plan_beside(self, resolution: Resolution, now: int) -> Plan:
        """Return the trace for what is no turn, beside the turns of a session: where the turn before it stands.

        Args:
            resolution: the session; the turn before is the one that is meant, or the newest that is known.
            now: this moment, in nanoseconds since the epoch.
        """
        ...

    def beside(self, plan: Plan, owner: bool, turn: SessionLink | None) -> Context:
        """Return the context in which something starts beside the turns of a session.

        Args:
            plan: what ``plan_beside`` returned.
            owner: whether this caller got the claim of ``plan.opening``.
            turn: the turn that is meant, if it is known.
        """
        ...

    def mark(
        self,
        turn: SessionLink,
        error_type: str | None = None,
        below: Context | None = None,
        of: SpanContext | None = None,
    ) -> None:
        """Emit the marker of a turn that stands outside of its session's trace.

        Args:
            turn: the turn, which has ended; its ``trace`` says below which root the marker stands.
            error_type: ``error.type`` of a turn that failed.
            below: the context below that root, and nothing else, where it has been made before.
            of: the context of the turn's own span, where that is at hand.
        """
        ...


class TurnPlacer:
    """``TRACES=turn``: trace ids and parents are left alone."""

    def plan(self, resolution: Resolution, is_turn: bool = True, now: int = 0) -> Plan:
        """See ``Placer.plan``."""
        return NO_PLAN

    def go_on(self, session_id: SessionId, trace: SessionTrace | None, turn: int, now: int) -> Plan | None:
        """See ``Placer.go_on``."""
        return None

    def place(
        self,
        resolution: Resolution,
        plan: Plan,
        owner: bool,
        context: Context,
        ambient: Span,
        weak: bool,
        now: int = 0,
    ) -> Placed:
        """See ``Placer.place``."""
        return NOT_PLACED, context, turn_links(resolution)

    def amend(self, resolution: Resolution, plan: Plan, owner: bool, span: SpanContext) -> tuple[Placement, list[Link]]:
        """See ``Placer.amend``."""
        return NOT_PLACED, turn_links(resolution)

    def open(self, plan: Plan) -> None:
        """See ``Placer.open``."""

    def end_root(self, placement: Placement, session_id: SessionId | None, source: Source | None) -> None:
        """See ``Placer.end_root``."""

    def plan_beside(self, resolution: Resolution, now: int) -> Plan:
        """See ``Placer.plan_beside``."""
        return NO_PLAN

    def beside(self, plan: Plan, owner: bool, turn: SessionLink | None) -> Context:
        """See ``Placer.beside``: below the turn itself, or nowhere."""
        return NOWHERE if turn is None else below_span(turn.span)

    def mark(
        self,
        turn: SessionLink,
        error_type: str | None = None,
        below: Context | None = None,
        of: SpanContext | None = None,
    ) -> None:
        """See ``Placer.mark``."""


class SessionPlacer:
    """``TRACES=session``: each session appears as one trace."""

    def __init__(self, roots: Roots, max_turns: int, max_age: float) -> None:
        self._roots = roots
        self._turns = TurnCounts(max_turns, roots.unsure)
        self._max_age = int(max_age * 1_000_000_000)
        self.go_on, self.end_root = self._turns.go_on, roots.end_fresh  # as they are, since each call takes one
        """See ``Placer``."""

    def plan(self, resolution: Resolution, is_turn: bool = True, now: int = 0) -> Plan:
        """See ``Placer.plan``."""
        session_id, previous = resolution.session_id, resolution.previous
        if session_id is None:
            return NO_PLAN
        trace = previous.trace if previous is not None and is_turn and previous.session_id == session_id else None
        if trace is not None and now and (known := self.go_on(session_id, trace, resolution.turn, now)) is not None:
            return known
        plan = self._looked_at(session_id, resolution, is_turn, now)
        if trace is not None and plan.trace is trace:
            self._turns.keep(session_id, trace, self._until(trace))
        return plan

    def _until(self, trace: SessionTrace) -> int:
        """Return until when turns just go on in a trace: it is too old for more then, or its root is told again."""
        repeats, old = self._roots.repeats, trace.started + self._max_age
        return old if repeats is None else min(old, repeats.due(trace))

    def _looked_at(self, session_id: SessionId, resolution: Resolution, is_turn: bool, now: int) -> Plan:
        plan = self._with_room(self._after(session_id, resolution, now), resolution, is_turn, now)
        # Fetching a response proves no session, nor does it know yet which one the response itself names.
        opening = plan.opening
        if opening is None or is_turn or resolution.origin in GIVEN_SOURCES:
            return plan
        return Plan(self._roots.known(session_id, opening.part)) if opening.is_again else NO_PLAN

    def _after(self, session_id: SessionId, resolution: Resolution, now: int) -> Plan:
        """Return the part of a session's trace in which its turn before stands, or that is to be opened for it."""
        previous, about = resolution.previous, resolution.about
        if previous is None or previous.session_id != session_id:
            return self._roots.plan(session_id, resolution.origin, start=now, about=about)
        if previous.trace is not None:
            return self._roots.resume(session_id, resolution.origin, previous.trace, about=about)
        # Of a turn that only the provider knows there is no span to mark.
        proves = bool(previous.span.trace_id)
        first_turn, start = (previous.turn, previous.start) if proves else (resolution.turn, now)
        plan = self._roots.plan(session_id, resolution.origin, start=start, first_turn=first_turn, about=about)
        return replace(plan, proven=previous) if plan.opening and proves else plan

    def _with_room(self, plan: Plan, resolution: Resolution, is_turn: bool, now: int) -> Plan:
        """Return ``plan``, or that of the first part after it that is not full."""
        session_id = resolution.session_id
        assert session_id is not None
        while (here := plan.trace or plan.opening) is not None:
            # Of a part that nobody sees, the turns' numbers tell enough.
            trace = plan.trace
            counts = is_turn and (trace is None or bool(trace.flags & SAMPLED))
            before = resolution.turn - here.first_turn
            is_old = trace is not None and (now or time.time_ns()) - trace.started >= self._max_age
            fits = not is_old and self._turns.add(session_id, here.part, before, counts)
            # The turn that proves a session goes where its first turn is marked.
            if fits or plan.proven is not None:
                break
            plan = self._roots.plan(
                session_id,
                resolution.origin,
                part=here.part + 1,
                first_turn=resolution.turn,
                start=now,
                # Turns in parallel may fill a part before its root is there; the ids of that are known already.
                before=plan.trace or self._roots.expected(plan.opening),
                about=resolution.about,
            )
        return plan

    def place(
        self,
        resolution: Resolution,
        plan: Plan,
        owner: bool,
        context: Context,
        ambient: Span,
        weak: bool,
        now: int = 0,
    ) -> Placed:
        """See ``Placer.place``."""
        around = span_around(context, ambient) if context else None
        if resolution.session_id is None:
            return self._unnamed(resolution, plan, context, around is not None or weak, now)
        return self._placed(resolution, plan, owner, context, around)

    def amend(self, resolution: Resolution, plan: Plan, owner: bool, span: SpanContext) -> tuple[Placement, list[Link]]:
        """See ``Placer.amend``."""
        placement, _, links = self._placed(resolution, plan, owner, NOWHERE, span)
        return placement, links

    def _placed(
        self, resolution: Resolution, plan: Plan, owner: bool, context: Context, around: SpanContext | None
    ) -> Placed:
        """Return where a turn stands: in the trace of ``around``, or if that is None below its session's root."""
        trace = plan.trace if plan.opening is None else self._opened(plan, owner)
        if trace is None or trace.trace_id == 0:
            return NOT_PLACED, context, turn_links(resolution)
        if plan.places is None and self._roots.repeats is not None:
            self._roots.tell_again(trace)
        return placed_in(plan.places or places_in(trace), resolution, context, around)

    def _unnamed(self, resolution: Resolution, plan: Plan, context: Context, opens_nothing: bool, now: int) -> Placed:
        if opens_nothing or resolution.source is None:
            return NOT_PLACED, context, []
        fresh: Placement | None = None
        try:
            fresh = self._roots.fresh(now or time.time_ns(), plan.parent, plan.user)
            if fresh is None or fresh.below is None:
                return NOT_PLACED, context, []
            return fresh, with_span_of(fresh.below, context) if context else fresh.below, []
        except BaseException:  # interrupted: nobody else has the root, to end it
            if fresh is not None:
                self._roots.end_fresh(fresh, None)
            raise

    def open(self, plan: Plan) -> None:
        """See ``Placer.open``."""
        if plan.opening is not None:
            self._opened(plan, True)

    def _opened(self, plan: Plan, owner: bool) -> SessionTrace | None:
        """Return a plan's trace, opened if it was not yet; its owner emits the root, and what that proves."""
        trace = plan.trace
        if plan.opening is not None:
            trace = self._roots.open(plan.opening, owner, plan.parent)
        if trace is not None and plan.proven is not None and owner and trace.is_sampled:
            self.mark(plan.proven._replace(trace=trace))
        return trace

    def plan_beside(self, resolution: Resolution, now: int) -> Plan:
        """See ``Placer.plan_beside``."""
        session_id = resolution.session_id
        return NO_PLAN if session_id is None else self._after(session_id, resolution, now)

    def beside(self, plan: Plan, owner: bool, turn: SessionLink | None) -> Context:
        """See ``Placer.beside``: below the session's root."""
        trace = self._opened(plan, owner)
        return NOWHERE if trace is None or not trace.trace_id else below_root(trace)

    def mark(
        self,
        turn: SessionLink,
        error_type: str | None = None,
        below: Context | None = None,
        of: SpanContext | None = None,
    ) -> None:
        """See ``Placer.mark``."""
        emit_marker(self._roots.tracer, turn, error_type, below, of)


def placed_in(places: Places, resolution: Resolution, context: Context, around: SpanContext | None) -> Placed:
    """Return where a turn stands: in the trace of ``around``, or if that is None below its session's root.

    Args:
        places: where the turns of the session's trace stand.
        resolution: the session.
        context: the context in which the call was made.
        around: the span that surrounds it there.
    """
    trace = places.inside.trace
    # Traces are sampled as a whole: where neither the session's nor the one around is, nobody sees links.
    is_seen = places.is_seen or (around is not None and around.trace_flags.sampled)
    links = turn_links(resolution) if is_seen else []
    if around is None or trace is None:
        return places.inside, below(trace, context) if context and trace is not None else places.below, links
    if around.trace_id == trace.trace_id:
        return places.inside, context, links
    if is_seen:
        links.append(link(places.root, TO_ROOT))
    return places.marked, context, links


def span_around(context: Context, ambient: Span) -> SpanContext | None:
    """Return the span that surrounds a call; None if none does, or a block of its session put its root there."""
    around = ambient.get_span_context()
    if not around.is_valid or (ROOT_CONTEXT_KEY in context and is_session_root(context, around)):
        return None
    return around
