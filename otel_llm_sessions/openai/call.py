"""One call of the client: from the request that is about to go out to the end of its span.

A call flows one way: route → evidence → resolve → place → span → request → observe → learn → end. Nothing here waits
or does I/O: what is to be looked up, claimed or recorded is handed to the caller, which may be on an event loop.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode

from otel_llm_sessions import semconv
from otel_llm_sessions.cheap import new
from otel_llm_sessions.guard import pass_on, report
from otel_llm_sessions.openai.deferral import Deferral, Ending
from otel_llm_sessions.openai.fields import field
from otel_llm_sessions.openai.learn import alias_keys, keys_of, learned_of, link_of
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.response import SEE_CHUNK, Reply, read_reply
from otel_llm_sessions.sessions.carried import Carried
from otel_llm_sessions.sessions.link import GIVEN_SOURCES, Record, SessionId, SessionLink, SpanRef
from otel_llm_sessions.sessions.names import conversation_of, name_of_response
from otel_llm_sessions.sessions.resolver import NONE, Resolution, resolve
from otel_llm_sessions.sessions.sources import name_in
from otel_llm_sessions.sessions.tracestate import state_text
from otel_llm_sessions.telemetry.metrics import CallMetrics
from otel_llm_sessions.telemetry.span import annotate, in_flight, is_owned
from otel_llm_sessions.traces.links import turn_links
from otel_llm_sessions.traces.placement import Placement
from otel_llm_sessions.traces.roots import NO_PLAN, Plan

if TYPE_CHECKING:
    from otel_llm_sessions.openai.runtime import Runtime

NOWHERE = SpanRef(0, 0, 0)
CLIENT = SpanKind.CLIENT  # looked up once: an enum's member costs as much as an attribute of a span (CPython 3.11)
NOT_PLACED = Placement(Context(), [], None)


class Call:
    """The state of one call; methods are the steps that the client's wrapper takes, in order."""

    __slots__ = (
        "_ambient",
        "_began",
        "_ended",
        "_fetched",
        "_found",
        "_home",
        "_is_ours",
        "_is_owned",
        "_is_silent",
        "_metrics",
        "_once",
        "_placement",
        "_plan",
        "_ref",
        "_resolution",
        "_session_id",
        "_span",
        "_started",
        "context",
        "deferral",
        "first_chunk",
        "made_in",
        "reply",
        "request",
        "runtime",
        "sending",
        "sent_in",
    )

    def __init__(
        self, runtime: Runtime, request: Request, made_in: Context, context: Context, ambient: Span, sending: object
    ) -> None:
        """Begin a call.

        Args:
            runtime: the running instrumentation.
            request: what is asked.
            made_in: the context that is attached where the call is made.
            context: where it stands: without a call of ours in whose transport it is made, and in its own session.
            ambient: the span that is current there.
            sending: what tells the request from others.
        """
        self.runtime = runtime
        self.request = request
        self.made_in = made_in
        self.sent_in = context
        """The context to send the request in."""
        self.sending: list[object] = [sending]
        """What tells the request from others while it is being sent, and nothing afterwards."""
        self.context = context
        self._ambient = ambient
        self.reply = Reply(request.match.route, request.server.is_openai)
        self._home = runtime.homes.get()
        self._metrics: CallMetrics | None = runtime.metrics.get()
        self._is_silent = runtime.settings.spans == "annotate" and not is_owned(context, ambient)
        self.first_chunk: float | None = None
        self._resolution: Resolution = NONE
        self._plan: Plan = NO_PLAN
        self._placement: Placement = NOT_PLACED
        self._session_id: SessionId | None = None
        self._span: Span | None = None
        self._ref: SpanRef | None = None
        self._is_ours = True
        self._started = 0
        self._began = 0
        self._ended = 0
        self._fetched: SessionLink | None = None
        self._found: SessionLink | None = None
        self._once = [None]
        self._is_owned: bool | None = None
        self.deferral: Deferral | None = None
        """Who makes the span, while the session is looked up at the provider beside the request."""

    # --- before the request ---------------------------------------------------------------------------------

    def resolve(self, answers: Sequence[SessionLink | None]) -> str | None:
        """Decide the session; return the key to claim if its trace is still to be opened."""
        return self.plan_for(self.resolved(answers))

    def resolved(self, answers: Sequence[SessionLink | None]) -> Resolution:
        """Return the session as the store's answers have it."""
        route = self.request.match.route
        return resolve(self.request.evidence, answers, route.api == "responses" and route.is_turn)

    def plan_for(self, resolution: Resolution) -> str | None:
        """Settle on a session; return the key to claim if its trace is still to be opened."""
        if self.context or resolution.previous is not None:  # else nobody has named it
            resolution = self._named(resolution)
        self._resolution, self._session_id = resolution, resolution.session_id
        if self._is_silent:
            return None
        is_turn = self.request.match.route.is_turn
        self._plan = self._home.placer.plan(resolution, is_turn=is_turn, now=self._started)
        return self._plan.opening.claim_key if self._plan.opening is not None else None

    def _named(self, resolution: Resolution) -> Resolution:
        return resolution.named(name_in(self.context, resolution.session_id) if self.context else "")

    def start(self, owner: bool) -> None:
        """Start the span, or find the other instrumentation's.

        Args:
            owner: whether the claim of the session's trace was got.
        """
        context = self.context
        if self._is_silent:
            self._start_clock()
            return
        ambient = self._ambient
        self._placement = placement = self._home.placer.place(
            self._resolution, self._plan, owner, context, ambient, weak=not self.request.stored
        )
        # The span of a deferred call is made late, and began when the request went out.
        self._start_clock()
        self._make_span(placement)

    def _start_clock(self) -> None:
        if not self._started:
            self._started, self._began = time.time_ns(), time.monotonic_ns()

    def now(self) -> int:
        """Return the time in nanoseconds since the epoch, by a clock that was set when the call began.

        A step of the system's clock meanwhile neither lengthens the call nor lets it end before it began.
        """
        return self._started + time.monotonic_ns() - self._began if self._started else time.time_ns()

    def _make_span(self, placement: Placement) -> None:
        # Where nothing is current there is nobody's span, and so it is most often.
        if self.context and (self._find_owner() if self._is_owned is None else self._is_owned):
            self._annotate(placement, self._ambient)
            self._take_owner()
            return
        request = self.request
        attributes = request.attributes
        self._add_session(attributes)
        try:
            self._span = span = self._home.tracer.start_span(
                request.name,
                context=placement.context,
                kind=CLIENT,
                attributes=attributes,
                links=placement.links,
                start_time=self._started,
            )
        except Exception as error:  # a sampler or a processor of the application's: the chain goes on without a span
            self._span = INVALID_SPAN
            report("start a span", error)
            return
        self.sent_in = in_flight(placement.context, span, self._ambient, self.context, self.sending)

    def _take_owner(self) -> None:
        """Let no call that is made in the transport of this one take the other instrumentation's span for its own."""
        self.sent_in = in_flight(self.context, None, self._ambient, self.context, self.sending)

    def _find_owner(self) -> bool:
        """Whether another instrumentation has a span for the call."""
        return self.runtime.settings.spans != "always" and is_owned(self.context, self._ambient)

    def _add_session(self, attributes: dict[str, Any]) -> None:
        resolution = self._resolution
        if resolution.source is None:
            return
        attributes[semconv.LLM_SESSION_SOURCE] = resolution.source
        if self._session_id is not None:
            attributes[semconv.SESSION_ID] = self._session_id
        if (conversation := self._conversation_id()) is not None:
            attributes[semconv.CONVERSATION_ID] = conversation
        if self.request.match.route.is_turn:
            attributes[semconv.LLM_SESSION_TURN] = resolution.turn
        if self._placement.trace is not None:
            attributes[semconv.LLM_SESSION_PART] = self._placement.trace.part
        if resolution.name:
            attributes[semconv.LLM_SESSION_NAME] = resolution.name

    def _conversation_id(self) -> str | None:
        """Return the provider's conversation, else what the application or the provider called the session."""
        request, origin, session_id = self.request, self._resolution.origin, self._session_id
        if request.conversation is not None or session_id is None:
            return request.conversation
        if origin == "conversation":
            return conversation_of(session_id, request.server.name)
        return session_id if origin in GIVEN_SOURCES or self.runtime.settings.conversation_id == "always" else None

    def _annotate(self, placement: Placement, owned: Span) -> None:
        self._span, self._is_ours = owned, False
        attributes: dict[str, Any] = {}
        self._add_session(attributes)
        annotate(self.context, owned, attributes)
        for link in placement.links:
            owned.add_link(link.context, link.attributes)

    def carried(self) -> Carried:
        """Return what the request may tell of its session and its span; nothing while they are being looked up."""
        span = self._span_ref()
        return Carried(
            self._session_id,
            span if span.span_id else None,
            self._resolution.origin,
            self._resolution.turn,
            self._started,
            self._placement.trace,
            state_text(self._span.get_span_context().trace_state) if self._span is not None else "",
        )

    def _span_ref(self) -> SpanRef:
        if self._ref is None:
            if self._span is None:
                return NOWHERE
            span = self._span.get_span_context()
            self._ref = new(SpanRef, (span.trace_id, span.span_id, int(span.trace_flags)))
        return self._ref

    # --- while the session is looked up at the provider -----------------------------------------------------

    def defer(self, found: SessionLink | None) -> Deferral:
        """Begin without a span: it is made when the provider has answered, or when the call ends.

        Args:
            found: what the store has of the previous turn, which is to be made better.
        """
        self._found = found
        self._is_owned = self._find_owner()
        if self._is_owned:
            self._take_owner()
        self._start_clock()
        self.deferral = Deferral(self)
        return self.deferral

    def resolved_alone(self) -> Resolution:
        """Return the session of a deferred call as far as it is known without the provider."""
        return self.resolved((self._found,))

    def open_nothing(self) -> None:
        """Leave the session's trace to others: whether this call has the claim is not known."""
        self._plan = NO_PLAN

    def make_alone(self) -> None:
        """Make the span of a deferred call with what is known without the provider; it opens no session trace."""
        self._resolution = self._named(self.resolved_alone())
        self._session_id = self._resolution.session_id
        if self._found is not None and self._found.trace is not None and self.plan_for(self._resolution) is None:
            self.start(False)
        elif not self._is_silent:
            self._placement = Placement(self.context, turn_links(self._resolution), None)
            self._make_span(self._placement)

    def leave_as(self, resolution: Resolution) -> Record | None:
        """Return what is to be recorded of a call that has ended before its session was known: as a turn of it."""
        self._resolution, self._session_id = self._named(resolution), resolution.session_id
        previous, keys = resolution.previous, self._keys()
        if not keys:
            return None
        trace = previous.trace if previous is not None and self.runtime.settings.traces == "session" else None
        link = self._link(self._ended)._replace(trace=trace)
        if trace is not None and trace.is_sampled:
            self._mark(link)
        return Record(keys, link)

    # --- while the reply comes in ---------------------------------------------------------------------------

    def see(self, chunk: Any) -> Record | None:
        """Take in one chunk of a stream; return what is to be recorded now, which is so for the first id."""
        if self.first_chunk is None:
            self.first_chunk = (time.monotonic_ns() - self._began) / 1_000_000_000
        if SEE_CHUNK[self.request.match.route.api](self.reply, chunk) and len(self.reply.ids) == 1:
            if named := self._name():
                self._set_attributes(named)
                self._end_root()
            return self.begun()
        return None

    def read(self, value: Any) -> None:
        """Take in a whole reply; of one that nobody sees only the id, by which the session goes on."""
        if self._is_seen():
            read_reply(self.reply, value)
        else:
            self.reply.add_id(field(value, "id"))
        if self._resolution.source == "chain_partial" and not self.request.match.route.is_turn:
            self._learn(value)

    def _learn(self, response: Any) -> None:
        """Take the session of a response that the application fetched from what it says itself, if it does."""
        settings = self.runtime.settings
        self._fetched = link = learned_of(self.request, response, settings.metadata_keys, settings.key)
        if link is None or link.session_id == self._session_id:
            return
        self._session_id = link.session_id
        self._resolution = replace(self._resolution, source="provider", origin=link.source)
        attributes: dict[str, Any] = {}
        self._add_session(attributes)
        self._set_attributes(attributes)

    def _set_attributes(self, attributes: dict[str, Any]) -> None:
        """Set attributes on the span after its start, whoever's it is."""
        if self._span is not None and self._is_ours:
            self._span.set_attributes(attributes)
        elif self._span is not None:
            annotate(self.context, self._span, attributes)

    def _is_seen(self) -> bool:
        """Whether anything that the reply says goes anywhere: to a span, a marker or the metrics."""
        span = self._span
        if span is None and self.deferral is not None:
            return True  # it is not made yet
        return (span is not None and span.is_recording()) or self._is_marked() or self._metrics is not None

    def _name(self) -> dict[str, Any]:
        """Name the session that this call starts by the reply's first id; return the attributes that say so."""
        if self._resolution.source != "new" or self._session_id is not None or not self.reply.ids:
            return {}
        self._session_id = name_of_response(self.reply.ids[0], self.request.server.name, self._span_ref())
        attributes: dict[str, Any] = {semconv.SESSION_ID: self._session_id}
        if self.runtime.settings.conversation_id == "always":
            attributes[semconv.CONVERSATION_ID] = self._session_id
        return attributes

    def _end_root(self) -> None:
        if self._placement.open_root is not None:
            self._placement.open_root.end(self._session_id)

    # --- the end --------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether the span has ended."""
        return not self._once

    def finish(self, error_type: str | None = None, *, cut_short: bool = False, ended: int = 0) -> Record | None:
        """End the span, once; return what is to be recorded.

        Args:
            error_type: ``error.type`` of a call that failed; None leaves it to what the reply said.
            cut_short: whether a stream ended before the reply was complete.
            ended: when the call ended, in nanoseconds since the epoch; 0 for now.
        """
        try:
            return self._finish(error_type, cut_short, ended)
        except BaseException:
            # Interrupted amid it, by Ctrl-C or a time limit: nobody comes a second time.
            span = self._span
            if span is not None and span.is_recording():
                self._close(self._ended or self.now())
            raise

    def _finish(self, error_type: str | None, cut_short: bool, ended: int) -> Record | None:
        try:
            self._once.pop()
        except IndexError as error:
            pass_on(error)
            return None
        ended = ended or self.now()
        if self.deferral is not None:
            if self.deferral.take():
                self.make_alone()
                return self.deferral.left(self.end(ended, error_type, cut_short))
            if self.deferral.hand_over(Ending(ended, error_type, cut_short)):
                return None
        return self.end(ended, error_type, cut_short)

    def end(self, ended: int, error_type: str | None, cut_short: bool) -> Record | None:
        """End the span as the call ended (see ``Ending``); return what is to be recorded."""
        self._ended = ended
        try:
            if cut_short:
                self.reply.cut_short()
            error_type = error_type or self.reply.error_type
            self._end_span(self._name(), error_type, ended)
        except Exception as error:
            report("describe a call", error)
        finally:
            self._close(ended)
        return self._left_behind(ended, error_type)

    def _close(self, ended: int) -> None:
        """End what is open. A processor of the application's that raises costs nothing but what it does."""
        try:
            if self._placement.open_root is not None:
                self._end_root()
            if self._span is not None and self._is_ours:
                self._span.end(ended)
        except Exception as error:
            report("end a span", error)

    def _end_span(self, named: dict[str, Any], error_type: str | None, ended: int) -> None:
        span, metrics = self._span, self._metrics
        if span is None or not self._is_ours or not (span.is_recording() or metrics is not None):
            if named:
                self._set_attributes(named)
            return
        attributes = self.reply.final_attributes()
        if named:  # with the others: each setting by itself costs as much as several attributes
            attributes.update(named)
        if self.first_chunk is not None:
            attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = self.first_chunk
        if error_type is not None:
            attributes[semconv.ERROR_TYPE] = error_type
            span.set_status(StatusCode.ERROR)
        span.set_attributes(attributes)
        if metrics is not None:
            seconds = (ended - self._started) / 1_000_000_000
            metrics.record(self.request.attributes, attributes, seconds, self.first_chunk, self.sent_in)

    def _left_behind(self, ended: int, error_type: str | None) -> Record | None:
        if self._session_id is None:
            return None
        if not self.request.match.route.is_turn:
            return self._alias()
        keys = keys_of(self.request, self.reply, self._session_id, self._resolution.origin)
        is_marked = self._placement.nested and self._is_marked()
        if not keys and not is_marked:
            return None
        link = self._link(ended)
        if is_marked:
            self._mark(link, error_type)
        return new(Record, (keys, link)) if keys else None

    def _mark(self, turn: SessionLink, error_type: str | None = None) -> None:
        self._home.placer.mark(turn, error_type)

    def _is_marked(self) -> bool:
        """Whether the turn's span is in another trace than its session's, which then gets a marker if it is sampled."""
        trace = self._placement.trace
        return self._placement.nested and trace is not None and trace.is_sampled

    def begun(self) -> Record | None:
        """Return what the call leaves behind while it goes on, once its reply has an id."""
        keys = self._keys() if self._session_id is not None and self.request.match.route.is_turn else ()
        return Record(keys, self._link(0)) if keys else None

    def _keys(self) -> list[str]:
        return keys_of(self.request, self.reply, self._session_id, self._resolution.origin)

    def _link(self, ended: int) -> SessionLink:
        assert self._session_id is not None
        return link_of(
            self.request,
            self.reply,
            self._session_id,
            self._resolution,
            self._span_ref(),
            self._started,
            ended,
            self._placement.trace,
        )

    def _alias(self) -> Record | None:
        """Return the link of a fetched response under the ids that it is not known by yet."""
        previous = self._resolution.previous
        link = self._fetched or previous
        learned, known = self._fetched is not None, previous is not None
        keys = alias_keys(self.request, self.reply, is_learned=learned, is_known=known)
        return Record(keys, link or self._link(self.now())._replace(turn=1)) if keys else None
