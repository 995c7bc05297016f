"""Where the span of a turn stands: which trace, which parent, which links.

``SessionTraces`` puts each session into a trace of its own (``TRACES=session``); ``TurnTraces`` leaves trace ids and
parents alone (``TRACES=turn``). Both give links.
"""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    TracerProvider,
    set_span_in_context,
)

from otel_llm_sessions.sessions.link import SessionLink, SessionTrace, SpanRef
from otel_llm_sessions.sessions.resolver import Resolution
from otel_llm_sessions.traces.links import link_to, root_ref, span_context, turn_links
from otel_llm_sessions.traces.roots import NO_PLAN, Plan, Roots


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

    def plan(self, resolution: Resolution, provider: TracerProvider) -> Plan:
        """Return the trace of the turn's session, or what has to be opened (and claimed) for it."""
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

    def plan(self, resolution: Resolution, provider: TracerProvider) -> Plan:
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


class SessionTraces:
    """``TRACES=session``: each session appears as one trace."""

    def __init__(self, roots: Roots, max_turns: int, max_age: float) -> None:
        self._roots = roots
        self._max_turns = max_turns
        self._max_age = int(max_age * 1_000_000_000)

    def plan(self, resolution: Resolution, provider: TracerProvider) -> Plan:
        """See ``Placer.plan``."""
        session_id, previous = resolution.session_id, resolution.previous
        if session_id is None:
            return NO_PLAN
        source = resolution.origin
        if previous is None or previous.session_id != session_id:
            return self._roots.plan(session_id, source, provider)
        if previous.trace is None:
            plan = self._roots.plan(session_id, source, provider, start=previous.start, first_turn=previous.turn)
            return plan._replace(proven=previous) if plan.opening and previous.span.trace_id else plan
        if not self._is_full(previous.trace, resolution.turn):
            return Plan(previous.trace)
        before = previous.trace
        return self._roots.plan(
            session_id, source, provider, part=before.part + 1, first_turn=resolution.turn, before=before
        )

    def _is_full(self, trace: SessionTrace, turn: int) -> bool:
        return turn - trace.first_turn >= self._max_turns or time.time_ns() - trace.started >= self._max_age

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
        links = turn_links(resolution)
        if trace is None or trace.trace_id == 0:
            return Placement(context, links, None)
        proven = plan.proven if owner else None
        if not nested:
            return Placement(below(root_ref(trace), context), links, trace, proven=proven)
        if around.trace_id == trace.trace_id:
            return Placement(context, links, trace, proven=proven)
        links.append(link_to(root_ref(trace), "session"))
        return Placement(context, links, trace, nested=True, proven=proven)

    def _unnamed(
        self, resolution: Resolution, context: Context, opens_nothing: bool, provider: TracerProvider
    ) -> Placement:
        if opens_nothing or resolution.source is None:
            return Placement(context, [], None)
        root, trace = self._roots.fresh(provider, time.time_ns())
        if trace.trace_id == 0:
            return Placement(context, [], None)
        return Placement(below(root_ref(trace), context), [], trace, open_root=root)


ROOT_CONTEXT_KEY = "otel_llm_sessions.root"
"""Context key that holds the root of the session trace that ``session(...)`` put the context into."""


def below(root: SpanRef, context: Context) -> Context:
    """Return ``context`` with a session's root as the current span."""
    return set_span_in_context(NonRecordingSpan(span_context(root)), context)


def is_session_root(context: Context, span: SpanContext) -> bool:
    """Whether the current span of ``context`` is a session's root, put there by ``session(...)``."""
    root = context.get(ROOT_CONTEXT_KEY)
    return isinstance(root, SpanRef) and root.span_id == span.span_id and root.trace_id == span.trace_id
