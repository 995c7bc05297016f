"""The shortest way to begin a call: one that goes on from a turn which this process knows well, as most turns do."""

from __future__ import annotations

from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.standing import stand
from otel_llm_sessions.openai.turn import Turn
from otel_llm_sessions.sessions.about import NOTHING_SAID
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.sessions.resolver import Resolution
from otel_llm_sessions.sessions.sources import ABOUT_CONTEXT_KEY
from otel_llm_sessions.traces.links import turn_links
from otel_llm_sessions.traces.placement import placed_in, span_around


def goes_on(call: Call, previous: SessionLink) -> bool:
    """Begin a call where its session has it, if that is all there is to it; return whether it is.

    Then it comes to what ``resolved``, ``planned`` and ``start`` come to, without their questions: the request
    names a session, or the response before, and nothing else; nothing is said of the session; and the part of its trace
    in which the turn before stands is open.

    Args:
        call: the call.
        previous: what is known under the one key that its evidence has.
    """
    request = call.request
    given, key = request.evidence.given, ""
    # A plain tuple of all its fields is taken apart in less time than it takes to read these one by one.
    session_id, origin, before, _, _, _, _, _, _, _, trace, name, _, _, _, user, tags = previous[:]
    if given is not None:
        origin = source = given.source
        if given.session_id != session_id:
            return False
    else:
        source, key, _, _ = request.evidence.ties[0]
        if source != "chain":
            return False
    around = call.around
    if not request.match.route.is_turn or call.span.is_unseen or name or user or tags:
        return False
    if around and ABOUT_CONTEXT_KEY in around:
        return False
    turn = before + 1
    plan = call.home.placer.go_on(session_id, trace, turn, call.started)
    if plan is None or (places := plan.places) is None:
        return False
    resolution = Resolution(session_id, source, origin, turn, previous, None, NOTHING_SAID, key)
    if around:
        surrounds = span_around(around, call.ambient)
        placement, context, links = placed_in(places, resolution, around, surrounds)
        stand(call, Turn(resolution, session_id, placement), context, links)
    else:
        stands = Turn(resolution, session_id, places.inside)
        stand(call, stands, places.below, turn_links(resolution) if places.is_seen else ())
    return True
