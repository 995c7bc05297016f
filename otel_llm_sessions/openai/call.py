"""One call of the client: what is known of it, from the request that is about to go out to the end of its span.

Nothing here waits or does I/O. What a call leaves behind lies in its outbox until an edge takes it (``flow.deliver``),
unless only this process remembers it, which takes no longer; what is still to be heard of its session is another's
course (``course``), which tells it here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, INVALID_SPAN_CONTEXT, Link, Span, SpanKind

from otel_llm_sessions.bounded import ONCE
from otel_llm_sessions.guard import report
from otel_llm_sessions.openai.carried import Carried
from otel_llm_sessions.openai.chunks import SEE_CHUNK
from otel_llm_sessions.openai.content import CallContent
from otel_llm_sessions.openai.describe import add_session, start_of, with_user
from otel_llm_sessions.openai.evidence import LEFT
from otel_llm_sessions.openai.fields import conversation_id_in, field
from otel_llm_sessions.openai.gate import Ending, Gate
from otel_llm_sessions.openai.learn import fresh, learned_of, may_leave, record_of, record_of_fetched
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.response import Reply, read_reply
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.openai.starting import begun, placed
from otel_llm_sessions.openai.turn import NOTHING_KNOWN, Turn
from otel_llm_sessions.sessions.link import Record, SpanRef
from otel_llm_sessions.sessions.resolver import Resolution
from otel_llm_sessions.sessions.tracestate import state_text
from otel_llm_sessions.telemetry.call_span import NOT_STARTED, SECOND, BorrowedSpan, CallSpan, OwnSpan, UnseenSpan
from otel_llm_sessions.telemetry.span import in_flight, is_owned
from otel_llm_sessions.traces.ids import end_early
from otel_llm_sessions.traces.links import ref_of
from otel_llm_sessions.traces.plan import NOT_PLACED, Placement, Plan

NOTHING_AROUND = Context()
NOWHERE = SpanRef(0, 0, 0)
NOTHING: dict[str, Any] = {}  # not to be changed
CLIENT = SpanKind.CLIENT  # looked up once: an enum's member costs as much as an attribute of a span (CPython 3.11)


class Call:
    """The state of one call; methods are the steps that it takes, in order.

    Its end comes once, whoever brings it; ``amend`` comes at most once, beside all else.
    """

    __slots__ = (
        "_began", "_left", "_once", "_ref", "ambient", "around", "content", "first_chunk", "gate", "home", "is_over",
        "is_owned", "is_silent", "made_in", "outbox", "reply", "request", "runtime", "sending", "span", "started",
        "turn", "waited",
    )  # fmt: skip

    def __init__(
        self,
        runtime: Runtime,
        request: Request,
        made_in: Context = NOTHING_AROUND,
        around: Context = NOTHING_AROUND,
        ambient: Span = INVALID_SPAN,
        sending: list[object] | None = None,
    ) -> None:
        """Begin a call.

        Args:
            runtime: the running instrumentation.
            request: what is asked.
            made_in: the context that is attached where it is made.
            around: where it stands: without a call of ours in whose transport it is made, and in its own session.
            ambient: the span that is current there.
            sending: what tells the request from others, to be emptied when it has been sent.
        """
        self.runtime, self.request = runtime, request
        self.made_in, self.around, self.ambient = made_in, around, ambient
        self.sending = [] if sending is None else sending
        """What tells the request from others while it is being sent, and nothing afterwards."""
        self.home = runtime.homes.get()
        self.is_owned = is_owned(around, ambient) if around and runtime.spans != "always" else False
        """Whether another instrumentation has a span for it."""
        self.is_silent = runtime.spans == "annotate" and not self.is_owned
        """Whether it gets no span, nor a place in a trace: there is none to annotate."""
        route = request.match.route
        self.reply = Reply(route, request.server.is_openai, LEFT[route.api], request.history is not None)
        self.content: CallContent | None = None
        """What was said; None where nobody wants to know it."""
        self.turn = NOTHING_KNOWN
        """The session and the place in it, as far as they are known."""
        self.span: CallSpan = NOT_STARTED
        self.gate: Gate | None = None
        """Keeps the end back while something is still to be heard of the session."""
        self.outbox: list[Record] = []
        """What is to be recorded."""
        self.waited = 0.0
        """Seconds for which the application has been held up."""
        self.first_chunk: float | None = None
        self.started, self._began = time.time_ns(), time.monotonic_ns()
        """When the request went out, in nanoseconds since the epoch; and the other clock then."""
        self._left: Record | None = None
        """What was recorded of it last."""
        self._ref: SpanRef | None = None
        self._once = iter(ONCE)
        self.is_over = False
        """Whether it has ended."""

    def now(self) -> int:
        """Return the time in nanoseconds since the epoch, by a clock that was set when the call began.

        A step of the system's clock meanwhile neither lengthens the call nor lets it end before it began.
        """
        return self.started + time.monotonic_ns() - self._began

    def set_out(self) -> None:
        """Count from now on: what was waited for until the request can go out is none of its time."""
        self.started, self._began = time.time_ns(), time.monotonic_ns()

    # --- before the request ---------------------------------------------------------------------------------

    def start(self, resolution: Resolution, plan: Plan, owner: bool) -> None:
        """Start the span where its session has it, or find the other instrumentation's.

        Args:
            resolution: the session.
            plan: its trace.
            owner: whether the claim of the session's trace was got.
        """
        if self.is_silent:
            return self.start_placed(resolution, NOT_PLACED, self.around)
        placement = NOT_PLACED
        try:
            place, weak = self.home.placer.place, not self.request.stored
            placement, context, links = place(resolution, plan, owner, self.around, self.ambient, weak, self.started)
            return self.start_placed(resolution, placement, context, links)
        except BaseException:
            if placement.open_root is not None:
                self.home.placer.end_root(placement, None, "new")
            raise

    def start_unplaced(self, said: Resolution, alone: Resolution, gate: Gate) -> None:
        """Start the span where it can stand without its session being known; ``amend`` tells it.

        Args:
            said: what the request itself says of the session.
            alone: the session if nothing more is heard of it.
            gate: what keeps the end back until then.
        """
        self.gate = gate
        self.start_placed(said, NOT_PLACED, self.around)
        self.turn = replace(self.turn, resolution=alone)

    def start_placed(
        self, resolution: Resolution, placement: Placement, context: Context, links: Sequence[Link] = ()
    ) -> None:
        """Start the span below what is current in a context, as a turn of a session."""
        self.turn = Turn(resolution, resolution.session_id, placement)
        if resolution.source is not None:
            add_session(self.request.attributes, self.request, self.turn, self.runtime)
        self.start_at(context, links)

    def start_at(self, context: Context, links: Sequence[Link] = ()) -> None:
        """Start the span below what is current in a context, whatever session it is of."""
        request, around, span = self.request, self.around, None
        if self.is_owned or self.is_silent:
            return self._start_without(links)
        attributes, metrics = request.attributes, self.runtime.metrics.get()
        try:
            span = self.home.tracer.start_span(request.name, context, CLIENT, attributes, links, self.started)
            sent_in = in_flight(context, span, self.ambient, around, self.sending)
            self.span = OwnSpan(span, sent_in, attributes, metrics)
        except Exception as error:  # a sampler or a processor of the application's: the chain goes on without a span
            end_early(span)
            report("start a span", error)
            self.span = OwnSpan(INVALID_SPAN, around, attributes, metrics)
        except BaseException:
            end_early(span)
            raise
        if self.content is not None:
            self._keep_words(self.content)
        return None

    def _start_without(self, links: Sequence[Link]) -> None:
        """Begin without a span of its own: with another instrumentation's, or none. Neither is told what was said."""
        around, attributes, self.content = self.around, self.request.attributes, None
        if self.is_silent:
            self.span = UnseenSpan(around, attributes)
            return
        # No call that is made in the transport of this one takes the other instrumentation's span for its own.
        sent_in = in_flight(around, None, self.ambient, around, self.sending)
        self.span = BorrowedSpan(self.ambient, around, sent_in, attributes)
        self._tell_session()
        self.span.link(links)

    def _keep_words(self, content: CallContent) -> None:
        """Have what the reply says kept, where it goes anywhere."""
        if content.goes_to(self.span):
            request, route = self.request, self.request.match.route
            self.reply = Reply(route, request.server.is_openai, LEFT[route.api], request.history is not None, True)
        else:
            self.content = None

    def carried(self) -> Carried:
        """Return what the request may tell of its session and its span."""
        turn, ref = self.turn, self._span_ref()
        span = ref if ref.span_id else None
        if turn.is_pending:
            return Carried(None, span)
        said, state = turn.resolution, state_text(self.span.context.trace_state)
        return Carried(turn.session_id, span, said.origin, said.turn, self.started, turn.placement.trace, state)

    def _span_ref(self) -> SpanRef:
        if self._ref is None:
            own = self.span.own
            context = self.span.context if own is None else own.get_span_context()
            if context is INVALID_SPAN_CONTEXT:
                return NOWHERE
            self._ref = ref_of(context)
        return self._ref

    # --- what is heard beside the request -------------------------------------------------------------------

    def leaves_under(self) -> list[str]:
        """Return the keys under which the call will be remembered, as far as they are known before its session is."""
        return may_leave(self.request, self.reply)

    def amend(self, resolution: Resolution, plan: Plan, owner: bool) -> Record | None:
        """Take in what was found of the session after the span was started; the span stays where it is.

        Args:
            resolution: the session.
            plan: its trace.
            owner: whether the claim of the session's trace was got.

        Returns:
            What the call leaves behind now.
        """
        placement = self.turn.placement
        links: Sequence[Link] = ()
        if not self.is_silent:
            placement, links = self.home.placer.amend(resolution, plan, owner, self.span.context)
        self.turn = Turn(resolution, resolution.session_id, placement)
        self._tell_session()
        self.span.link(links)
        ending = self.gate.ending if self.gate is not None else None
        return self.leave(ending.time if ending is not None else 0)

    # --- while the reply comes in ---------------------------------------------------------------------------

    def see(self, chunk: Any) -> None:
        """Take in one chunk of a stream; with its first id, and with each tool call, the turn is recorded."""
        if self.first_chunk is None:
            self.first_chunk = (time.monotonic_ns() - self._began) / SECOND
        if SEE_CHUNK[self.request.match.route.api](self.reply, chunk) | self.reply.completes(chunk):
            self.leave_early()

    def leave_early(self) -> None:
        """Record what the reply has left so far, under the session that it names if it starts one."""
        if named := self._name():
            self.span.set(named)
            self._end_root()
        if self.gate is not None:
            self.gate.tell_leaving()
        self.leave(0)

    def read(self, reply: Any) -> None:
        """Take in a whole reply; of one that nobody sees only the ids by which the session goes on."""
        if self.span.is_seen or self.content is not None or self.turn.placement.is_marked or self.gate is not None:
            read_reply(self.reply, reply)
        else:
            self.reply.add_id(field(reply, "id"))
            self.reply.keep(reply)
            if self.turn.resolution.source == "new":
                self.reply.conversation = conversation_id_in(field(reply, "conversation"))
        if not self.reply.route.is_turn and self.turn.resolution.source == "chain_partial":
            self._learn(reply)

    def _learn(self, response: Any) -> None:
        """Take the session of a response that the application fetched from what it says itself, if it does."""
        turn, settings = self.turn, self.runtime.settings
        link = learned_of(self.request, response, settings.metadata_keys, settings.key)
        if link is None or link.session_id == turn.session_id:
            self.turn = replace(turn, fetched=link)
            return
        resolution = replace(turn.resolution, source="provider", origin=link.source)
        self.turn = Turn(resolution, link.session_id, turn.placement, link)
        self._tell_session()

    def _tell_session(self) -> None:
        """Have a span that has been started say its session as it is known now."""
        said: dict[str, Any] = {}
        add_session(said, self.request, self.turn, self.runtime)
        self.span.set(said)

    def _name(self) -> dict[str, Any]:
        """Name the session that this call starts, if it does; return the attributes that say so."""
        before, reply = self.turn, self.reply
        if before.session_id is not None or (self.gate is not None and self.gate.is_closed):
            return NOTHING
        says_nothing = not (reply.kept or reply.streamed or before.resolution.leaves)  # as most chat calls
        if says_nothing and before.resolution.source is None and self.request.history is None:
            return NOTHING
        if (turn := begun(before, self.request, reply, self._span_ref, self.runtime.asked.known)) is None:
            return NOTHING
        is_apart = turn.resolution.previous is None or self.is_silent
        self.turn = turn if is_apart else placed(turn, self.home.placer, self.span, self.started)
        return start_of(before, self.turn, self.request, self.runtime)

    def _end_root(self) -> None:
        turn = self.turn
        if turn.placement.open_root is not None:
            self.home.placer.end_root(turn.placement, turn.session_id, turn.resolution.origin)

    # --- the end --------------------------------------------------------------------------------------------

    def finish(self, error_type: str | None = None, cut_short: bool = False, ended: int = 0) -> None:
        """End the span, once; or have it ended when it is known what is still to be heard.

        Args:
            error_type: ``error.type`` of a call that failed; None leaves it to what the reply said.
            cut_short: whether a stream ended before the reply was complete.
            ended: when the call ended, in nanoseconds since the epoch; 0 for now.
        """
        ended = ended or self.started + time.monotonic_ns() - self._began
        try:
            self.is_over = True
            if not next(self._once, False):
                return
            if self.gate is None or not self.gate.hold(Ending(ended, error_type, cut_short)):
                self.end(ended, error_type, cut_short)
            else:
                self.leave(ended)  # for turns that come before more is heard
        except BaseException:
            # Interrupted amid it, by Ctrl-C or a time limit: nobody comes a second time.
            own = self.span.own
            if own is not None and own.is_recording():
                next(self._once, False)
                self._close(ended)
                if self.gate is not None:  # an answer that still comes finds a span that has ended
                    self._span_ref()
                    self.span = UnseenSpan(self.around, {})
            raise

    def end(self, ended: int, error_type: str | None, cut_short: bool) -> Record | None:
        """End the span as the call has ended (see ``Ending``); return what the call leaves behind."""
        reply, span, costs = self.reply, self.span, self.runtime.costs
        try:
            if cut_short:
                reply.cut_short()
            error_type = error_type or reply.error_type
            named = self._name() if self.turn.session_id is None else NOTHING
            content, words = self.content, None
            if span.is_ours or content is not None:
                attributes = reply.final_attributes()
                if cost := costs.of(reply, span.asked):
                    attributes.update(cost)
                if named:  # with the others: each setting by itself costs as much as several attributes
                    attributes.update(named)
                if content is not None:
                    words = content.tell(attributes, self, error_type, ended)
                span.tell(attributes, error_type, ended - self.started, self.first_chunk, words)
            elif self.is_owned:
                span.set({**named, **costs.of(reply, span.asked)})
        except Exception as error:
            report("describe a call", error)
        finally:
            self._close(ended)
        record = self.leave(ended)
        if record is not None and self.turn.placement.is_marked and self.request.match.route.is_turn:
            self.home.placer.mark(with_user(record[1], self.request), error_type, self.turn.placement.below)
        return record

    def _close(self, ended: int) -> None:
        """End what is open. A processor of the application's that raises costs nothing but what it does."""
        try:
            if self.turn.placement.open_root is not None:
                self._end_root()
            self.span.end(ended)
        except Exception as error:
            report("end a span", error)

    def leave(self, ended: int) -> Record | None:
        """Put what the call leaves behind into the outbox, or into memory; ``ended`` is 0 while it goes on."""
        is_turn, turn = self.request.match.route.is_turn, self.turn
        if not (is_turn or ended) or (turn.session_id is None and turn.resolution.session_id is None):
            return None
        of = record_of if is_turn else record_of_fetched
        record = of(self.request, self.reply, turn, self._span_ref(), self.started, ended)
        if record is not None and record[0]:
            keys, link = news = record if ended else fresh(record, self._left)
            if (memory := self.runtime.memory) is None:
                if keys:
                    self.outbox.append(news)
            elif self.runtime.switch.records:
                memory.put(keys, link)
            self._left = record
        return record
