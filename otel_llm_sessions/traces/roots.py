"""The root spans of session traces: planned, opened once among all who share the store, or started without a name."""

from __future__ import annotations

import time
import uuid
from typing import Any

from opentelemetry.trace import (
    ProxyTracerProvider,
    Span,
    TraceFlags,
    TracerProvider,
)

from otel_llm_sessions import forks, semconv
from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.guard import report
from otel_llm_sessions.sessions.about import NOTHING_SAID, About
from otel_llm_sessions.sessions.link import SessionId, SessionTrace, Source
from otel_llm_sessions.sessions.root_names import ROOT_NAME, UNNAMED_ROOT_NAME, RootNames, part_name
from otel_llm_sessions.stores.protocol import SessionStore
from otel_llm_sessions.traces.below import below_alone
from otel_llm_sessions.traces.ids import (
    DerivedIdGenerator,
    derived_root_span_id,
    derived_trace_id,
    end_early,
    start_with_ids,
)
from otel_llm_sessions.traces.links import root_target, trace_below
from otel_llm_sessions.traces.opening import NOWHERE, Opening, asked, decided, told, trace_of
from otel_llm_sessions.traces.plan import ROOT_NANOSECONDS, Placement, Plan
from otel_llm_sessions.traces.repeats import Repeats
from otel_llm_sessions.version import __version__

SCOPE = "otel_llm_sessions.traces"
"""Instrumentation scope of session roots and turn markers; its tracer is this package's alone."""

MAX_KNOWN = 10_000


class Roots:
    """Opens session traces with one tracer provider.

    Remembers the newest of them, so that only the first turn here asks the store.
    """

    def __init__(
        self,
        provider: TracerProvider,
        store: SessionStore,
        namespace: str | None = None,
        names: RootNames | None = None,
        key: str | None = None,
        *,
        since: int = 0,
        repeat: float | None = None,
    ) -> None:
        """Open session traces.

        Args:
            provider: where their spans go.
            store: what tells who opens a part.
            namespace: the setting ``NAMESPACE``; None for ``service.namespace`` of the resource.
            names: how roots are named; as by default if it is None.
            key: the setting ``KEY``.
            since: when the provider took the place of another, where the roots of before went, in nanoseconds since
                the epoch; 0 if it took nobody's.
            repeat: the setting ``ROOT_REPEAT``.
        """
        self._provider = provider
        self._store = store
        self._names = names or RootNames()
        self._key = key
        self._known: Bounded[tuple[str, int], SessionTrace] = Bounded(MAX_KNOWN)
        self.unsure: Bounded[tuple[str, int], Opening] = Bounded(MAX_KNOWN)
        """The parts whose root is another caller's, until that has been asked once more."""
        self._lock = forks.Lock()
        self._own = uuid.uuid4().hex
        self._since = since
        self.repeats = None if repeat is None else Repeats(repeat)
        """The roots that are told once more; None if none is."""
        self.namespace = namespace if namespace is not None else _namespace_of(getattr(provider, "resource", None))
        """The setting, else ``service.namespace`` of the provider's resource, else an empty string."""
        self.tracer: Any = self._new_tracer()
        """The tracer of roots and markers."""
        self._ids = _derived_ids(self.tracer)

    @property
    def takes_ids(self) -> bool:
        """Whether the provider's spans can have derived ids."""
        if self._ids is None and isinstance(self._provider, ProxyTracerProvider):
            # The API's stand-in hands out the tracers of the provider that was set meanwhile.
            self.tracer = self._new_tracer()
            self._ids = _derived_ids(self.tracer)
        return self._ids is not None

    def _new_tracer(self) -> Any:
        return self._provider.get_tracer(SCOPE, __version__, schema_url=semconv.SCHEMA_URL)

    def plan(
        self,
        session_id: SessionId,
        source: Source | None,
        *,
        part: int = 1,
        first_turn: int = 1,
        start: int | None = None,
        before: SessionTrace | None = None,
        about: About = NOTHING_SAID,
    ) -> Plan:
        """Return the trace of a part of a session, or what has to be opened for it."""
        known = self.known(session_id, part)
        if known is not None:
            return self._sure(session_id, known)
        trace_id = derived_trace_id(session_id, self.namespace, part, self._key)
        root_span_id = derived_root_span_id(session_id, self.namespace, part, self._store.scope, self._key)
        return Plan(
            opening=Opening(
                session_id,
                source,
                part,
                first_turn,
                start or time.time_ns(),
                trace_id,
                root_span_id,
                before,
                self._claim_key(trace_id, root_span_id),
                about,
            )
        )

    def resume(
        self, session_id: SessionId, source: Source | None, trace: SessionTrace, *, about: About = NOTHING_SAID
    ) -> Plan:
        """Return the plan for a trace that was opened before.

        Its root is emitted again if the provider it was opened for has been replaced: its spans went elsewhere.
        """
        if not self._since or trace.started >= self._since:
            return self._sure(session_id, trace)
        known = self.known(session_id, trace.part)
        if known is not None:
            return Plan(known)
        ids = trace.trace_id, trace.root_span_id
        again = Opening(
            session_id, source, trace.part, trace.first_turn, trace.started, *ids, None, self._claim_key(*ids), about
        )
        return Plan(opening=again)

    def _sure(self, session_id: SessionId, trace: SessionTrace) -> Plan:
        """Return the plan for a trace that is open: to claim its root once more, if another caller had the claim.

        That one may have been interrupted before it could emit the root (a task that was cancelled, on an event loop).
        """
        again = self.unsure.get((session_id, trace.part)) if self.unsure else None
        if again is None or again.trace_id != trace.trace_id:
            return Plan(trace)
        return Plan(opening=again)

    def _claim_key(self, trace_id: int, root_span_id: int) -> str:
        # A root that cannot have derived ids is this process's own; so is one for another provider than the first.
        mine = f":{self._own}" if self._since or not self.takes_ids else ""
        return f"root:{trace_id:032x}:{root_span_id:016x}{mine}"

    def open(self, opening: Opening, owner: bool, parent: str = "") -> SessionTrace:
        """Open a part of a session's trace; its owner emits the root span.

        Args:
            opening: what to open.
            owner: whether this caller got the claim.
            parent: the session in which this one is opened, to whose root the new one links.
        """
        if not self.takes_ids:
            return self._open_here(opening, parent)
        known = self.known(opening.session_id, opening.part)
        self._note(opening, owner)
        if opening.is_again and not owner and known is not None:
            return known
        root = None
        try:
            root = self._start(opening) if owner else None
            trace = trace_of(opening, root.get_span_context()) if root is not None else decided(opening, self.tracer)
            # Not under the lock: a processor may export the root right here.
            self._end(opening, root, parent)
            return self._keep(opening, trace)
        except BaseException:
            end_early(root)
            raise

    def _open_here(self, opening: Opening, parent: str) -> SessionTrace:
        """Open a part where the provider takes no ids: its trace has a random one, known to this process only."""
        with self._lock.held:
            known = self.known(opening.session_id, opening.part)
            if known is not None:
                return known
            root = self._start(opening)
            if root is None:
                return SessionTrace(0, 0, 0, opening.part, opening.start, opening.first_turn)
            trace = self._keep(opening, trace_of(opening, root.get_span_context()))
        try:
            self._end(opening, root, parent)
            return trace
        except BaseException:
            end_early(root)
            raise

    def _start(self, opening: Opening) -> Span | None:
        """Start a root; None if a sampler or a processor of the application's raises."""
        name, attributes, links = asked(opening)
        ids = (opening.trace_id, opening.root_span_id) if self._ids is not None else None
        try:
            return start_with_ids(
                self.tracer,
                ids,
                name,
                context=NOWHERE,
                attributes=attributes,
                links=links,
                start_time=opening.start,
            )
        except Exception as error:
            report("start a session's root", error)
            return None

    def _end(self, opening: Opening, root: Span | None, parent: str) -> None:
        if root is None:
            return
        try:
            root.set_attributes(told(opening, root))
            if parent and opening.part == 1:
                self._link_to_parent(root, opening.session_id, parent)
            name = self._names.name_of(opening.session_id, opening.about.name, opening.part)
            if name != part_name(ROOT_NAME, opening.part):
                root.update_name(name)
            root.end(opening.start + ROOT_NANOSECONDS)
            if self.repeats is not None:
                self.repeats.keep(root)
        except Exception as error:
            report("end a session's root", error)

    def tell_again(self, trace: SessionTrace) -> None:
        """Give a trace's root to the processors of the provider once more, if it is due: as it ended."""
        root = self.repeats.take(trace) if self.repeats is not None else None
        if root is None or not self.takes_ids:  # which takes the SDK's tracer for the API's stand-in, once there is one
            return
        try:
            # A tracer has its provider's processors as an attribute (opentelemetry-sdk 1.45).
            self.tracer.span_processor.on_end(root)
        except Exception as error:
            report("tell a session's root again", error)

    def _link_to_parent(self, root: Span, session_id: SessionId | None, parent: str) -> None:
        """Link a root to that of the session in which its own was opened.

        Added to the span: its sampler sees only what all who open the session know (see ``opening.asked``).
        """
        plan = self.plan(SessionId(parent), None)
        # No sampler is asked about a root that nobody starts here: some count what they are asked.
        trace = plan.trace or self.expected(plan.opening)
        if trace is not None and trace.trace_id and parent != session_id:
            root.add_link(root_target(trace), {semconv.LLM_SESSION_LINK: "parent_session"})

    def expected(self, opening: Opening | None) -> SessionTrace | None:
        """Return the trace that ``opening`` is going to make; None where its ids are not known before."""
        if opening is None or not self.takes_ids:
            return None
        ids = opening.trace_id, opening.root_span_id
        return SessionTrace(*ids, int(TraceFlags.SAMPLED), opening.part, opening.start, opening.first_turn)

    def known(self, session_id: SessionId, part: int) -> SessionTrace | None:
        """Return the trace of a part that was opened here not long ago."""
        return self._known.get((session_id, part))

    def _note(self, opening: Opening, owner: bool) -> None:
        """Remember whose root is another caller's, until that has been asked once more."""
        with self._lock.held:
            if owner or opening.is_again:
                self.unsure.pop((opening.session_id, opening.part), None)
            else:
                self.unsure[opening.session_id, opening.part] = opening._replace(is_again=True)

    def _keep(self, opening: Opening, trace: SessionTrace) -> SessionTrace:
        with self._lock.held:
            self._known[opening.session_id, opening.part] = trace
        return trace

    def fresh(self, start: int, parent: str = "", user: str = "") -> Placement | None:
        """Start the root of a session that has no id yet, in a trace with a random id.

        Args:
            start: when, in nanoseconds since the epoch.
            parent: the session in which it is opened, to whose root it links.
            user: whose the call is that opens it, if that says so.

        Returns:
            What the call has of the trace, with the root, left open to be named (see ``end_fresh``); None if a sampler
            or a processor of the application's raises, or if the provider makes no spans.
        """
        root = None
        try:
            attributes: dict[str, Any] = {semconv.LLM_SESSION_PART: 1, semconv.LLM_SESSION_SOURCE: "new"}
            try:
                root = start_with_ids(self.tracer, None, ROOT_NAME, NOWHERE, attributes, (), start)
            except Exception as error:
                report("start a session's root", error)
                return None
            context = root.get_span_context()
            trace = trace_below(context, 1, start, 1)
            if parent:
                self._link_to_parent(root, None, parent)
            if user:
                root.set_attribute(semconv.USER_ID, user)
            return Placement(trace, False, root, trace, below_alone(context)) if trace.trace_id else None
        except BaseException:
            end_early(root)
            raise

    def end_fresh(self, placement: Placement, session_id: SessionId | None, source: Source | None = "new") -> None:
        """Name and end a root that was left open; does nothing if it has ended.

        Args:
            placement: that of the call which opened it.
            session_id: the session; None if the call failed before it had one.
            source: how the session was found.
        """
        root, opened = placement.open_root, placement.opened
        try:
            if root is None or opened is None or not root.is_recording():
                return
            name = UNNAMED_ROOT_NAME
            if session_id is not None:
                is_first = opened is placement.trace  # else the session has a root already, and this is none of its own
                name = self._names.name_of(session_id, "", 1 if is_first else 2)
                # By themselves: to set several at once costs the SDK (1.45) as much as two do beside what each costs.
                root.set_attribute(semconv.SESSION_ID, session_id)
                if is_first:
                    root.set_attribute(semconv.LLM_SESSION_ROOT, True)
            if source is not None and source != "new":
                root.set_attribute(semconv.LLM_SESSION_SOURCE, source)
            if name != ROOT_NAME:
                root.update_name(name)
            root.end(opened.started + ROOT_NANOSECONDS)
            if self.repeats is not None and session_id is not None and opened is placement.trace:
                self.repeats.keep(root)
        except Exception as error:
            report("end a session's root", error)


def _namespace_of(resource: Any) -> str:
    attributes = getattr(resource, "attributes", None) or {}
    return str(attributes.get("service.namespace", ""))


def _derived_ids(tracer: Any) -> DerivedIdGenerator | None:
    generator = getattr(tracer, "id_generator", None)
    if generator is None or isinstance(generator, DerivedIdGenerator):
        return generator
    # The SDK keeps one tracer per scope, and this scope is this package's alone, so no span of the
    # application's gets its ids here (opentelemetry-sdk 1.45: a Tracer has its generator as an attribute).
    ids = DerivedIdGenerator(generator)
    tracer.id_generator = ids
    return ids
