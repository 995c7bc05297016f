"""The end of a call: once, whoever brings it. Its span says what is known then, and the session's marker is made."""

from __future__ import annotations

import time
from typing import Any

from otel_llm_sessions.guard import report
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.describe import with_user
from otel_llm_sessions.openai.gate import Ending
from otel_llm_sessions.openai.standing import NOTHING, amend_fetched, end_root, let_go, name
from otel_llm_sessions.sessions.link import Record


def finish(call: Call, error_type: str | None = None, cut_short: bool = False, ended: int = 0) -> None:
    """End a call's span, once; or have it ended when it is known what is still to be heard.

    Args:
        call: the call.
        error_type: ``error.type`` of a call that failed; None leaves it to what the reply said.
        cut_short: whether a stream ended before the reply was complete.
        ended: when the call ended, in nanoseconds since the epoch; 0 for now.
    """
    ended = ended or time.monotonic_ns() + call.to_epoch
    try:
        if not next(call.ending, False):
            return
        if call.gate is None or not call.gate.hold(Ending(ended, error_type, cut_short)):
            end(call, ended, error_type, cut_short)
        else:
            call.leave(ended)  # for turns that come before more is heard
    except BaseException:
        # Interrupted amid it, by Ctrl-C or a time limit: nobody comes a second time.
        own = call.span.own
        if own is not None and own.is_recording():
            next(call.ending, False)
            _close(call, ended)
            if call.gate is not None:
                let_go(call)
        raise


def end(call: Call, ended: int, error_type: str | None, cut_short: bool) -> Record | None:
    """End a call's span as the call has ended (see ``Ending``); return what the call leaves behind."""
    is_turn = call.reply.route.is_turn
    try:
        if cut_short:
            call.reply.cut_short()
        error_type = error_type or call.reply.error_type
        if not is_turn:
            amend_fetched(call)
        named = name(call) if call.turn.session_id is None else NOTHING
        if call.span.is_ours or call.content is not None:
            _tell(call, named, ended, error_type)
        elif call.span.is_borrowed:
            call.span.set({**named, **call.runtime.costs.of(call.reply, call.span.asked)})
    except Exception as error:
        report("describe a call", error)
    finally:
        _close(call, ended)
    record, placement = call.leave(ended), call.turn.placement
    if record is not None and placement.is_marked and is_turn:
        turn, own = with_user(record[1], call.request), call.span.own
        call.home.placer.mark(turn, error_type, placement.below, None if own is None else own.get_span_context())
    return record


def _tell(call: Call, named: dict[str, Any], ended: int, error_type: str | None) -> None:
    """Have a call's own span say what the reply said and how its session is named, and record the metrics."""
    reply, span, words = call.reply, call.span, None
    attributes = reply.final_attributes()
    if cost := call.runtime.costs.of(reply, span.asked):
        attributes.update(cost)
    if named:  # with the others: each setting by itself costs as much as several attributes
        attributes.update(named)
    if call.content is not None:
        words = call.content.tell(attributes, call, error_type, ended)
    span.tell(attributes, error_type, ended - call.started, call.first_chunk, words)


def _close(call: Call, ended: int) -> None:
    """End what is open. A processor of the application's that raises costs nothing but what it does."""
    try:
        end_root(call)
        call.span.end(ended)
    except Exception as error:
        report("end a span", error)
