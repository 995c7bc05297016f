"""Which session a call belongs to, as far as answers go, and where that session's trace is: no I/O, nothing changed."""

from __future__ import annotations

from collections.abc import Sequence

from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.sessions.resolver import Resolution, resolve
from otel_llm_sessions.sessions.sources import name_in
from otel_llm_sessions.traces.roots import NO_PLAN, Plan


def resolved(call: Call, answers: Sequence[SessionLink | None]) -> Resolution:
    """Return the session of a call by what is known under each of its evidence's keys."""
    route = call.request.match.route
    resolution = resolve(call.request.evidence, answers, route.api == "responses" and route.is_turn)
    if call.around.context or resolution.previous is not None:  # else nobody has named it
        return named(call, resolution)
    return resolution


def named(call: Call, resolution: Resolution) -> Resolution:
    """Return a session with the name that the application has given it."""
    context = call.around.context
    return resolution.named(name_in(context, resolution.session_id) if context else "")


def planned(call: Call, resolution: Resolution) -> Plan:
    """Return the trace of a call's session, or what has to be opened (and claimed) for it."""
    if call.is_silent:
        return NO_PLAN
    return call.home.placer.plan(resolution, is_turn=call.request.match.route.is_turn, now=call.started)
