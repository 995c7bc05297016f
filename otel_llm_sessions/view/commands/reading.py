"""Sessions as commands read them: those that options choose, page by page, and one by its id."""

from __future__ import annotations

import argparse
from dataclasses import replace

from otel_llm_sessions.view.commands.desk import Desk
from otel_llm_sessions.view.commands.options import MOST_AT_ALL, query_said
from otel_llm_sessions.view.query import MOST
from otel_llm_sessions.view.sessions import Session, session_named, sessions_of
from otel_llm_sessions.view.source import Arrived
from otel_llm_sessions.view.summaries import Summary


def chosen(arguments: argparse.Namespace, desk: Desk) -> list[Summary]:
    """Return the sessions that a command line's options choose; notices of what is left out are told.

    Raises:
        WrongUse: an option's value is not valid.
        Unreachable: the source does not answer.
    """
    query = query_said(arguments)
    limit = arguments.limit or MOST_AT_ALL
    found: list[Summary] = []
    notices: dict[str, None] = {}
    cursor: str | None = ""
    with desk.progress(f"reading {desk.source.name}") as progress:
        while cursor is not None and len(found) < limit:
            asked = replace(query, cursor=cursor, limit=min(MOST, limit - len(found)))
            page = desk.source.sessions(asked, progress)
            found += page.sessions
            notices.update(dict.fromkeys(page.notices))
            cursor = page.next_cursor if page.sessions and page.next_cursor != cursor else None
            if cursor is not None:
                progress(f"{len(found):,} sessions")
    desk.tell(notices)
    if cursor is not None:
        desk.tell([f"the first {len(found):,} sessions; there are more: --limit N shows so many"])
    return found


def session_among(arrived: Arrived, session_id: str) -> Session | None:
    """Return the session of this id, or that which has turns filed under it; None if the spans hold none."""
    return session_named(sessions_of(arrived.spans, arrived.logs), session_id)
