"""One call of the client: what is known of it, from the request that is about to go out to the end of its span.

The steps that it takes are modules which have it as their first argument, and each field is written by one of them:
``standing`` (which turn of which session it is, and its span), ``observing`` (what comes back), ``ending``. Here is
what all of them need, and what the calls of some routes do in their own way. Nothing here waits or does I/O.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from operator import length_hint
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, INVALID_SPAN_CONTEXT, Span

from otel_llm_sessions.bounded import ONCE
from otel_llm_sessions.openai.content import CallContent
from otel_llm_sessions.openai.evidence import LEFT
from otel_llm_sessions.openai.fields import conversation_id_in, field
from otel_llm_sessions.openai.gate import Gate
from otel_llm_sessions.openai.learn import fresh, may_leave, record_of, record_of_fetched
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.response import Reply, read_reply
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.openai.turn import NOTHING_KNOWN, Turn
from otel_llm_sessions.sessions.link import Record, SpanRef
from otel_llm_sessions.telemetry.call_span import NOT_STARTED, BorrowedSpan, CallSpan, UnseenSpan
from otel_llm_sessions.telemetry.span import in_flight, is_owned
from otel_llm_sessions.traces.links import ref_of

NOTHING_AROUND = Context()
NOWHERE = SpanRef(0, 0, 0)


class Call:
    """The state of one call.

    Example::

        call = Call(runtime, request, get_current())
        begin(call)
        ...  # send the request
        call.read(reply)
        finish(call)
        deliver(call)
    """

    __slots__ = (
        "_left", "_ref", "ambient", "around", "content", "ending", "first_chunk", "gate", "home", "made_in", "outbox",
        "reply", "request", "runtime", "sending", "span", "started", "to_epoch", "turn", "waited",
    )  # fmt: skip

    sending: list[object]
    """What tells the request from others while it is being sent, and nothing afterwards."""
    started: int
    """When the request went out, in nanoseconds since the epoch."""
    to_epoch: int
    """What a time of the monotonic clock lacks to those: a step of the system's clock neither lengthens the call nor
    lets it end before it began."""
    turn: Turn
    """The session and the place in it, as far as they are known; written by ``standing``."""
    span: CallSpan
    """Another instrumentation's, or one that nobody sees, from the beginning; else started by ``standing``."""
    content: CallContent | None
    """What is said, where somebody wants to know it; ``standing`` lets go of it else."""
    gate: Gate | None
    """Keeps the end back while something is still to be heard of the session; set by ``standing``."""
    first_chunk: float | None
    """Seconds to the first chunk of a stream; written by ``observing``."""
    ending: Iterator[bool]
    """Says yes to the first who ends the call: ``ending``."""
    outbox: list[Record]
    """What is to be recorded, until an edge takes it (``flow``, ``outbox``)."""
    waited: float
    """Seconds for which the application has been held up; written by ``flow``."""
    _left: Record | None
    """What was recorded of it last."""
    _ref: SpanRef | None

    def __init__(
        self,
        runtime: Runtime,
        request: Request,
        made_in: Context = NOTHING_AROUND,
        around: Context = NOTHING_AROUND,
        ambient: Span = INVALID_SPAN,
        sending: list[object] | None = None,
        content: CallContent | None = None,
    ) -> None:
        """Begin a call.

        Args:
            runtime: the running instrumentation.
            request: what is asked.
            made_in: the context that is attached where it is made.
            around: where it stands: without a call of ours in whose transport it is made, and in its own session.
            ambient: the span that is current there.
            sending: what tells the request from others, to be emptied when it has been sent.
            content: what is said, where somebody wants to know it.
        """
        self.runtime, self.request = runtime, request
        self.made_in, self.around, self.ambient = made_in, around, ambient
        self.sending = [] if sending is None else sending
        self.home, spans = runtime.homes.get(), runtime.spans
        self.content, self.gate, self.first_chunk = content, None, None
        self._left = self._ref = None
        self.span = NOT_STARTED
        if around and spans != "always" and is_owned(around, ambient):
            # No call that is made in the transport of this one takes the other instrumentation's span for its own.
            sent_in = in_flight(around, None, ambient, around, self.sending)
            self.span = BorrowedSpan(ambient, around, sent_in, request.attributes)
        elif spans == "annotate":  # there is none to annotate
            self.span = UnseenSpan(around, request.attributes)
        route = request.match.route
        self.reply = Reply(route, request.server.is_openai, LEFT[route.api], request.history is not None)
        self.turn, self.outbox = NOTHING_KNOWN, []
        self.waited, self.ending = 0.0, iter(ONCE)
        self.started = time.time_ns()
        self.to_epoch = self.started - time.monotonic_ns()

    def set_out(self) -> None:
        """Count from now on: what was waited for until the request can go out is none of its time."""
        self.started = time.time_ns()
        self.to_epoch = self.started - time.monotonic_ns()

    def renew_evidence(self) -> None:
        """Have the keys of a chat history made anew, as the store has told its scope."""
        request = self.request
        if request.history is not None:
            self.request = replace(request, evidence=request.history.tied(request.evidence))

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return not length_hint(self.ending)

    def span_ref(self) -> SpanRef:
        """Return which span it has; ``NOWHERE`` if none."""
        if self._ref is None:
            own = self.span.own
            context = self.span.context if own is None else own.get_span_context()
            if context is INVALID_SPAN_CONTEXT:
                return NOWHERE
            self._ref = ref_of(context)
        return self._ref

    # --- what other routes do in their own way (see ``conversations``) ---------------------------------------

    def read(self, reply: Any) -> None:
        """Take in a whole reply; of one that nobody sees only the ids by which the session goes on."""
        if self.span.is_seen or self.content is not None or self.turn.placement.is_marked or self.gate is not None:
            read_reply(self.reply, reply)
        else:
            self.reply.add_id(field(reply, "id"))
            self.reply.keep(reply)
            if self.turn.resolution.source == "new":
                self.reply.conversation = conversation_id_in(field(reply, "conversation"))
        if not self.reply.route.is_turn:
            self.reply.fetched = reply

    def leaves_under(self) -> list[str]:
        """Return the keys under which the call will be remembered, as far as they are known before its session is."""
        return may_leave(self.request, self.reply)

    def leave(self, ended: int) -> Record | None:
        """Put what the call leaves behind into the outbox, or into memory; ``ended`` is 0 while it goes on."""
        is_turn, turn = self.request.match.route.is_turn, self.turn
        if not (is_turn or ended) or (turn.session_id is None and turn.resolution.session_id is None):
            return None
        of = record_of if is_turn else record_of_fetched
        record = of(self.request, self.reply, turn, self.span_ref(), self.started, ended)
        if record is not None and record[0]:
            keys, link = news = record if ended else fresh(record, self._left)
            if (memory := self.runtime.memory) is None:
                if keys:
                    self.outbox.append(news)
            elif self.runtime.switch.records:
                memory.put(keys, link)
            self._left = record
        return record
