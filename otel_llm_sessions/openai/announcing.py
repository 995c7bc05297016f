"""Turns of named sessions announce themselves where the store is late, so that the next one waits for their record.

Such a turn counts itself by the newest that is recorded. Where answers are late, the turn before may be over, and the
application at the next, before its record is there, and nothing tells that one is missing. The announcement does: it
goes out with the turn's own question, in one round trip, long before its number is known and its record can be written.
Where one process is held up longer than another, it may be late itself: a turn whose own answer was late looks twice.
"""

from __future__ import annotations

from dataclasses import replace

from otel_llm_sessions.openai.call import NOWHERE, Call
from otel_llm_sessions.sessions.keys import PROCESS, announced_key
from otel_llm_sessions.sessions.link import Record, SessionLink
from otel_llm_sessions.sessions.resolver import Resolution
from otel_llm_sessions.stores.answer import Answer


def announcement_of(call: Call) -> Record | None:
    """Return what announces a turn of a named session; None for a call that does not announce itself."""
    given = call.request.evidence.given
    # What baggage names is the session only where nothing else ties the call.
    if given is None or given.source == "baggage" or not call.request.match.route.is_turn:
        return None
    # Of a store of the application's own nobody knows how late it is; this process's own memory never is.
    if call.runtime.never_waits or not call.runtime.may_be_late:
        return None
    link = SessionLink(given.session_id, given.source, 0, NOWHERE, call.started, 0, response_id=PROCESS.token)
    return [announced_key(given.session_id)], link


def announce_late(call: Call) -> Answer[list[SessionLink | None]] | None:
    """Announce a call whose own question was the first that was late.

    Returns:
        Which turn of its session had announced itself last before it; None for a call that does not announce itself.
    """
    announcement = announcement_of(call)
    return None if announcement is None else call.runtime.asked.ask_and_put(announcement[0], announcement)


def is_missing(announced: SessionLink | None, newest: SessionLink | None, begun: int) -> bool:
    """Whether a turn that a call follows was announced, and is not recorded yet.

    Of this process's own turns that are over nothing is missing here; those that go on are beside the call, not before.

    Args:
        announced: the announcement, if any; in place of a response's id it has what tells the process that made it.
        newest: the newest turn of the session that is recorded.
        begun: when the call began, in nanoseconds since the epoch.
    """
    if announced is None or announced.response_id == PROCESS.token:
        return False
    return announced.start < begun and (newest is None or newest.start < announced.start)


def last_announced(one: SessionLink | None, other: SessionLink | None, begun: int) -> SessionLink | None:
    """Return the later of two announcements, as far as other processes made them before a call began."""
    counting = [each for each in (one, other) if each is not None and is_missing(each, None, begun)]
    return max(counting, key=lambda link: link.start, default=None)


def unsure_of(resolution: Resolution) -> Resolution:
    """Return what a turn leaves while it waits: those that only know its response find its session by that.

    Not under the session's own key, which others count by: its number may be too low, and who meets it asks again.
    """
    return replace(resolution, origin="chain_partial", key="")
