"""Sessions for the tests of the viewer's database and receivers: spans as our instrumentation writes them."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from otel_llm_sessions import semconv
from otel_llm_sessions.view.database import Database
from otel_llm_sessions.view.query import Query
from otel_llm_sessions.view.server.intake import Full, Room
from otel_llm_sessions.view.spans import ReceivedLink, ReceivedSpan

BEGINNING = 1_790_000_000
"""Seconds since the epoch at which these sessions begin."""
SECOND = 1_000_000_000


def hexed(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def trace_of(session: str) -> str:
    return hexed(f"trace of {session}", 32)


def said(text: str, role: str = "user") -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


def root(session: str, at: int = 0, links: tuple[ReceivedLink, ...] = (), **more: Any) -> ReceivedSpan:
    begun = (BEGINNING + at) * SECOND
    return ReceivedSpan(
        "session",
        trace_of(session),
        hexed(f"root of {session}", 16),
        start=begun,
        end=begun + SECOND,
        attributes={"session.id": session, "llm_session.root": True, "llm_session.part": 1, **more},
        links=links,
        resource={"service.name": "shop"},
    )


def turn(session: str, number: int = 1, at: int = 0, **more: Any) -> ReceivedSpan:
    """A turn that stands right below its session's root; ``more`` with two underscores for each dot."""
    begun = (BEGINNING + at) * SECOND
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.response.model": "gpt-5",
        "gen_ai.response.id": f"resp_{session}_{number}",
        "gen_ai.usage.input_tokens": 10 * number,
        "gen_ai.usage.output_tokens": number,
        "session.id": session,
        "llm_session.source": "explicit",
        "llm_session.turn": number,
    }
    return ReceivedSpan(
        "chat gpt-5",
        trace_of(session),
        hexed(f"{session} {number}", 16),
        hexed(f"root of {session}", 16),
        "CLIENT",
        begun,
        begun + SECOND,
        {**attributes, **{name.replace("__", "."): value for name, value in more.items()}},
        resource={"service.name": "shop"},
    )


def session(name: str, turns: int = 3, at: int = 0, **more: Any) -> list[ReceivedSpan]:
    """A session's root and its turns, one a minute."""
    return [root(name, at), *(turn(name, number, at + 60 * (number - 1), **more) for number in range(1, turns + 1))]


def marked_turn(session: str, number: int, trace: str, at: int = 0) -> Iterator[ReceivedSpan]:
    """A turn in a request's trace: the request, the call, which says no session, and the marker in the session's."""
    call = turn(session, number, at)
    attributes = {key: value for key, value in call.attributes.items() if key != semconv.SESSION_ID}
    ids = hexed(f"request {trace}", 16), hexed(f"call {trace} {number}", 16)
    yield ReceivedSpan("POST /ask", hexed(trace, 32), ids[0], start=call.start, end=call.end)
    yield ReceivedSpan("chat", hexed(trace, 32), ids[1], ids[0], start=call.start, end=call.end, attributes=attributes)
    yield ReceivedSpan(
        "turn",
        trace_of(session),
        hexed(f"marker {session} {number}", 16),
        hexed(f"root of {session}", 16),
        start=call.start,
        end=call.end,
        attributes={"session.id": session, "llm_session.turn": number},
        links=(ReceivedLink(hexed(trace, 32), ids[1]),),
    )


def left(database: Database) -> dict[str, int]:
    """How many sessions have left, by why, as is said beside a list."""
    said = "\n".join(database.sessions(Query()).notices)
    whys = {"age": "keep", "size": "max-size"}
    found = {why: re.search(rf"([0-9,]+) session.* left: .*\(--{flag}\)", said) for why, flag in whys.items()}
    return {why: int(one[1].replace(",", "")) if one else 0 for why, one in found.items()}


def size_of(path: Path) -> int:
    """The bytes that a database's file has in use."""
    with closing(sqlite3.connect(path)) as connection:
        names = ("page_count", "freelist_count", "page_size")
        pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return int((pages - free) * size)


def has_room(room: Room, size: int) -> bool:
    """Whether there is room for so many bytes now."""
    try:
        with room.taken(size):
            return True
    except Full:
        return False
