"""Where a call stands: which turn of which session it is, as far as that is known, and its span.

The span is started where it can stand; nothing that is heard later moves it, but its session, its number and its links
are told then. Nothing else writes a call's turn, its span or its gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, SpanKind

from otel_llm_sessions.guard import report
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.describe import add_session, start_of
from otel_llm_sessions.openai.first_turns import begun, placed
from otel_llm_sessions.openai.gate import Gate
from otel_llm_sessions.openai.learn import turn_of_fetched
from otel_llm_sessions.openai.turn import Turn
from otel_llm_sessions.sessions.resolver import Resolution
from otel_llm_sessions.telemetry.call_span import NOT_STARTED, NoSpan, OwnSpan
from otel_llm_sessions.telemetry.span import in_flight
from otel_llm_sessions.traces.ids import end_early
from otel_llm_sessions.traces.plan import NOT_PLACED, Plan

NOTHING: Final[dict[str, Any]] = {}  # not to be changed
CLIENT: Final = SpanKind.CLIENT  # looked up once: an enum's member costs as much as a span's attribute (CPython 3.11)


def start(call: Call, resolution: Resolution, plan: Plan, owner: bool) -> None:
    """Start a call's span where its session has it, or find the other instrumentation's.

    Args:
        call: the call.
        resolution: the session.
        plan: its trace.
        owner: whether the claim of the session's trace was got.
    """
    if call.span.is_unseen:
        return stand(call, Turn(resolution, resolution.session_id, NOT_PLACED), call.around)
    placement = NOT_PLACED
    try:
        place, weak = call.home.placer.place, not call.request.stored
        placement, context, links = place(resolution, plan, owner, call.around, call.ambient, weak, call.started)
        return stand(call, Turn(resolution, resolution.session_id, placement), context, links)
    except BaseException:
        if placement.open_root is not None:
            call.home.placer.end_root(placement, None, "new")
        raise


def start_unplaced(call: Call, said: Resolution, alone: Resolution, gate: Gate) -> None:
    """Start a call's span where it can stand without its session being known; ``amend`` tells it.

    Args:
        call: the call.
        said: what the request itself says of the session.
        alone: the session if nothing more is heard of it.
        gate: what keeps the end back until then.
    """
    call.gate = gate
    stand(call, Turn(said, said.session_id, NOT_PLACED), call.around)
    note(call, alone)


def stand(call: Call, turn: Turn, context: Context, links: Sequence[Link] = ()) -> None:
    """Start a call's span below what is current in a context, as a turn of a session."""
    call.turn = turn
    if turn.resolution.source is not None:
        add_session(call.request.attributes, call.request, turn, call.runtime)
    start_span(call, context, links)


def start_span(call: Call, context: Context, links: Sequence[Link] = ()) -> None:
    """Start a call's span below what is current in a context, whatever session it is of."""
    if call.span is not NOT_STARTED:
        return _go_without(call, links)
    request, around, metrics = call.request, call.around, call.runtime.metrics.get()
    attributes, span = request.attributes, None
    try:
        span = call.home.tracer.start_span(request.name, context, CLIENT, attributes, links, call.started)
        sent_in = in_flight(context, span, call.ambient, around, call.sending)
        call.span = OwnSpan(span, sent_in, attributes, metrics)
    except Exception as error:  # a sampler or a processor of the application's: the chain goes on without a span
        end_early(span)
        report("start a span", error)
        call.span = OwnSpan(INVALID_SPAN, around, attributes, metrics)
    except BaseException:
        end_early(span)
        raise
    if call.content is not None:
        if call.content.goes_to(call.span):
            call.reply.record_words()
        else:
            call.content = None
    return None


def _go_without(call: Call, links: Sequence[Link]) -> None:
    """Begin without a span of its own: with another instrumentation's, or none. Neither is told what was said."""
    call.content = None
    _tell(call)
    call.span.link(links)


# --- what is known of the session once the span stands --------------------------------------------------------------


def know(call: Call, turn: Turn) -> None:
    """Take in what is known of a call's session; its span is not told."""
    call.turn = turn


def note(call: Call, alone: Resolution) -> None:
    """Have what a call leaves meanwhile say the session that it has if nothing more is heard."""
    call.turn = replace(call.turn, resolution=alone)


def amend(call: Call, resolution: Resolution, plan: Plan, owner: bool) -> None:
    """Take in what was found of a call's session after its span was started; the span stays where it is.

    Args:
        call: the call.
        resolution: the session.
        plan: its trace.
        owner: whether the claim of the session's trace was got.
    """
    placement = call.turn.placement
    links: Sequence[Link] = ()
    if not call.span.is_unseen:
        placement, links = call.home.placer.amend(resolution, plan, owner, call.span.context)
    call.turn = Turn(resolution, resolution.session_id, placement)
    _tell(call)
    call.span.link(links)


def amend_fetched(call: Call) -> None:
    """Take the session of a response that the application fetched from what it says itself, if it does."""
    before, settings = call.turn, call.runtime.settings
    if before.resolution.source != "chain_partial":
        return
    try:
        call.turn = turn_of_fetched(call.request, call.reply, before, settings.metadata_keys, settings.key)
    except Exception as error:  # it costs the session, not what else the span is to say
        return report("read a reply", error)
    if call.turn.session_id != before.session_id:
        _tell(call)


def let_go(call: Call) -> None:
    """Have an answer that still comes find no span: what has ended is told nothing more."""
    call.span_ref()  # which the turn leaves all the same
    call.span = NoSpan(call.around, {})


def name(call: Call) -> dict[str, Any]:
    """Name the session that a call starts, if it does; return the attributes that say so."""
    before, reply = call.turn, call.reply
    if before.session_id is not None or (call.gate is not None and call.gate.is_closed):
        return NOTHING
    says_nothing = not (reply.kept or reply.streamed or before.resolution.leaves)  # as most chat calls
    if says_nothing and before.resolution.source is None and call.request.history is None:
        return NOTHING
    if (turn := begun(before, call.request, reply, call.span_ref, call.runtime.asked.known)) is None:
        return NOTHING
    is_apart = turn.resolution.previous is None or call.span.is_unseen
    call.turn = turn if is_apart else placed(turn, call.home.placer, call.span, call.started)
    return start_of(before, call.turn, call.request, call.runtime)


def end_root(call: Call) -> None:
    """End the root that a call has opened for its session, if it has."""
    turn = call.turn
    if turn.placement.open_root is not None:
        call.home.placer.end_root(turn.placement, turn.session_id, turn.resolution.origin)


def _tell(call: Call) -> None:
    """Have a span that has been started say its session as it is known now."""
    said: dict[str, Any] = {}
    add_session(said, call.request, call.turn, call.runtime)
    call.span.set(said)
