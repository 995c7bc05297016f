"""Turns of named sessions announce themselves where the store is late, so that the next one waits for their record.

Such a turn counts itself by the newest that is recorded. Where answers are late, the turn before may be over, and the
application at the next, before its record is there, and nothing tells that one is missing. The announcement does: it
goes out with the turn's own question, long before its number is known and its record can be written.
"""

from __future__ import annotations

from dataclasses import replace

from otel_llm_sessions.openai.call import NOWHERE, Call
from otel_llm_sessions.openai.outbox import put_soon
from otel_llm_sessions.sessions.keys import PROCESS, announced_key
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.sessions.resolver import Resolution
from otel_llm_sessions.stores.answer import Answer


def announced_by(call: Call) -> str:
    """Return the key under which the turns of a call's session announce themselves; empty for a call that does not."""
    given = call.request.evidence.given
    # What baggage names is the session only where nothing else ties the call.
    if given is None or given.source == "baggage" or not call.request.match.route.is_turn:
        return ""
    # Of a store of the application's own nobody knows how late it is; this process's own memory never is.
    if call.runtime.never_waits or not call.runtime.may_be_late:
        return ""
    return announced_key(given.session_id)


def announce(call: Call) -> None:
    """Announce a call, if it is a turn of a named session; nothing is waited for."""
    key, given = announced_by(call), call.request.evidence.given
    if key and given is not None:
        link = SessionLink(given.session_id, given.source, 0, NOWHERE, call.started, 0, response_id=PROCESS.token)
        put_soon(call.runtime, ([key], link))


def announce_late(call: Call) -> Answer[list[SessionLink | None]] | None:
    """Announce a call whose own question was the first that was late.

    Returns:
        Which turn of its session had announced itself last before it; None for a call that does not announce itself.
    """
    key = announced_by(call)
    asked = call.runtime.asked.ask([key]) if key else None
    announce(call)
    return asked


def is_missing(announced: SessionLink, newest: SessionLink | None, begun: int) -> bool:
    """Whether a turn that a call follows was announced, and is not recorded yet.

    Of this process's own turns that are over nothing is missing here; those that go on are beside the call, not before.

    Args:
        announced: the announcement; in place of a response's id it has what tells the process that made it.
        newest: the newest turn of the session that is recorded.
        begun: when the call began, in nanoseconds since the epoch.
    """
    if announced.response_id == PROCESS.token:
        return False
    return announced.start < begun and (newest is None or newest.start < announced.start)


def unsure_of(resolution: Resolution) -> Resolution:
    """Return what a turn leaves while it waits: those that only know its response find its session by that.

    Not under the session's own key, which others count by: its number may be too low, and who meets it asks again.
    """
    return replace(resolution, origin="chain_partial", key="")
