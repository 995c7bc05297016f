"""Which session a call belongs to, as far as answers go, and where that session's trace is: no I/O, nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.sessions.about import About
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.sessions.resolver import NONE, Resolution, resolve
from otel_llm_sessions.sessions.sources import ABOUT_CONTEXT_KEY, about_in, parent_in
from otel_llm_sessions.traces.plan import NO_PLAN, Plan


def resolved(call: Call, answers: Sequence[SessionLink | None]) -> Resolution:
    """Return the session of a call by what is known under each of its evidence's keys."""
    route = call.request.match.route
    resolution = resolve(call.request.evidence, answers, route.api == "responses" and route.is_turn)
    previous = resolution.previous
    if call.around and ABOUT_CONTEXT_KEY in call.around:
        return described(call, resolution)
    if previous is not None and (previous.name or previous.user or previous.tags):
        return resolution.described()
    return resolution


def said_by(call: Call) -> Resolution:
    """Return what the request itself says of the session, whatever may be known of earlier calls."""
    given = call.request.evidence.given
    if given is None or (given.source == "baggage" and call.request.evidence.ties):
        return NONE
    return described(call, Resolution(given.session_id, given.source, given.source, 0, None, None))


def described(call: Call, resolution: Resolution) -> Resolution:
    """Return a session with what the application has said of it."""
    return resolution.described(about_in(call.around, resolution.session_id))


def planned(call: Call, resolution: Resolution) -> Plan:
    """Return the trace of a call's session, or what has to be opened (and claimed) for it."""
    if call.span.is_unseen:
        return NO_PLAN
    plan = call.home.placer.plan(resolution, call.request.match.route.is_turn, call.started)
    if plan.opening is None and resolution.session_id is not None:  # as a rule
        return plan
    if user := call.request.user:
        plan = _of_user(plan, user)
    parent = _parent_of(call, resolution)
    return replace(plan, parent=parent) if parent else plan


def _of_user(plan: Plan, user: str) -> Plan:
    """Return a plan whose root, if it is this call that opens it, says whom the request names."""
    opening = plan.opening
    if opening is None:
        return replace(plan, user=user)
    return replace(plan, opening=opening._replace(about=opening.about.over(About(user=user))))


def _parent_of(call: Call, resolution: Resolution) -> str:
    """Return the session in which a call's own was opened; an empty string if none is known."""
    session_id, previous = resolution.session_id, resolution.previous
    if call.request.parent:
        return call.request.parent if call.request.parent != session_id else ""
    if session_id is None:
        return ""
    if parent := parent_in(call.around, session_id):
        return parent
    return previous.parent if previous is not None and previous.session_id == session_id else ""
