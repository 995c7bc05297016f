"""A backend that knows no sessions as a source of sessions: its traces are searched, and joined here."""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import dataclass
from typing import Final, NamedTuple

from otel_llm_sessions import semconv
from otel_llm_sessions.view.query import SECOND, SORTED_BY, Query
from otel_llm_sessions.view.sessions import Session, sessions_of
from otel_llm_sessions.view.source import Arrived, Page, Progress
from otel_llm_sessions.view.sources.finder import LOOK_BACK, SEARCH_BACK, Finder
from otel_llm_sessions.view.sources.following import Following, once
from otel_llm_sessions.view.sources.packed import Packed
from otel_llm_sessions.view.sources.slim import slim
from otel_llm_sessions.view.sources.told import Told
from otel_llm_sessions.view.spans import ReceivedSpan
from otel_llm_sessions.view.summaries import Summary

FRESH: Final = 3.0
"""Seconds for which a question is answered by what was read for the one before."""
REST: Final = 4.0
"""And for how many times as long as that reading took: however many pages are open, a backend has its rest."""
LONGEST_FRESH: Final = 60.0
KEPT: Final = 600.0
"""Seconds for which the pages that follow a first one are of the same reading."""
READINGS: Final = 4
SEEN: Final = 4
"""Sessions that are kept while they are as good as read now."""
MOST_TRACES: Final = 200_000
"""Traces that one reading takes."""
MOST_COMPLETED: Final = 100
"""Sessions whose beginning is fetched where they began before the time that was asked for."""

ONLY_LATELY: Final = "only the last 7 days were looked through; say since when for more"

MINUTE: Final = 60 * SECOND

Position = tuple[float, int, str]


@dataclass(eq=False, slots=True)
class Reading:
    """The sessions of a stretch of time, as they were when they were read."""

    token: str
    since: int
    until: int | None
    at: float
    """When it was there, on the clock that nobody sets."""
    took: float
    """Seconds."""
    sessions: tuple[Summary, ...]
    leads: dict[int, list[int]]
    """The places of those to which the ids of responses and traces lead, by hashes of these."""
    notices: tuple[str, ...]
    is_all: bool
    """Whether it was read for somebody who did not say since when."""
    is_followed: bool = False
    """Whether somebody has gone on from its first page."""

    def answers(self, query: Query, now: float) -> bool:
        """Whether it is as good as a reading for this query."""
        is_within = self.is_all if query.since is None else self.since <= query.since
        return is_fresh(self.at, self.took, now) and is_within and self.until == query.until

    def asked(self, query: Query) -> list[Summary]:
        """The sessions that a query asks for, in its order."""
        led_to = frozenset(self.leads.get(hash(query.text), ()))
        return query.ordered(
            one
            for place, one in enumerate(self.sessions)
            if query.matches(one) and (not query.text or place in led_to or query.is_said_in(one))
        )


class Row(NamedTuple):
    """A session as it was joined."""

    summary: Summary
    ids: list[int]
    """What it is looked for by besides what the summary says, as hashes."""
    began_before: bool
    """Whether its first turns are not there."""


Rows = dict[int, list[Row]]
"""Sessions by the first trace of the group of traces that they are in."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A session as it was read."""

    arrived: Arrived
    at: float
    took: float


def is_fresh(at: float, took: float, now: float) -> bool:
    """Whether what was read at a time, and took so long, is as good as read now; all in seconds."""
    return now - at < min(max(FRESH, REST * took), LONGEST_FRESH)


class Searched:
    """A source that searches a backend. Thread-safe.

    Args:
        finder: the backend.
    """

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self._lock = threading.Lock()
        self._readings: list[Reading] = []
        self._seen: dict[str, Seen] = {}

    @property
    def name(self) -> str:
        """What it is and where, for people."""
        return self._finder.name

    def sessions(self, query: Query, progress: Progress | None = None) -> Page:
        """Return the sessions that the query asks for.

        Raises:
            Unreachable: the backend does not answer.
            ValueError: the query's cursor is none of ours.
        """
        token, after = _position(query.cursor) if query.cursor else ("", None)
        with self._lock:
            reading = self._kept(query, token) or self._read(query, Told(progress))
        ordered = reading.asked(query)
        if after is not None:
            ordered = [one for one in ordered if _place(query, one) > after]
        page = ordered[: query.limit]
        more = len(ordered) > len(page)
        next_cursor = _cursor(reading.token, _place(query, page[-1])) if more else None
        return Page(tuple(page), next_cursor, ((ONLY_LATELY,) if query.since is None else ()) + reading.notices)

    def session(self, session_id: str) -> Arrived | None:
        """Return everything of one session, by its id or an id under which some of its turns were filed; else None.

        Raises:
            Unreachable: the backend does not answer.
        """
        begun = time.monotonic()
        seen = {named: one for named, one in self._seen.items() if is_fresh(one.at, one.took, begun)}
        if session_id in seen:
            return seen[session_id].arrived
        arrived = self._arrived(session_id)
        if arrived:
            at = time.monotonic()
            # Put in the place of what was there, never changed: others read it meanwhile.
            self._seen = dict([*seen.items(), (session_id, Seen(arrived, at, at - begun))][-SEEN:])
        return arrived

    def trace_url(self, trace_id: str, span_id: str = "") -> str | None:
        """Return the address of a trace on the backend's own page; None if it has none."""
        return self._finder.trace_url(trace_id, span_id)

    def close(self) -> None:
        """Forget what was read."""
        self._readings.clear()
        self._seen = {}

    def _arrived(self, session_id: str) -> Arrived | None:
        told, now = Told(), time.time_ns()
        spans = Following(self._finder, session_id, now - SEARCH_BACK, now + LOOK_BACK, told).spans()
        return Arrived(tuple(self._finder.mended(once(spans))), (), told.notices) if spans else None

    def _kept(self, query: Query, token: str) -> Reading | None:
        """What was read for the page before; else, also where that has left, a moment ago for this stretch of time."""
        now = time.monotonic()
        self._readings = [one for one in self._readings if now - one.at < KEPT]
        for one in self._readings:
            if one.token == token:
                one.is_followed = True
                return one
        return next((one for one in reversed(self._readings) if one.answers(query, now)), None)

    def _keep(self, reading: Reading) -> None:
        """Keep a reading; where there are too many, one leaves whose pages nobody follows, else the oldest."""
        if len(self._readings) >= READINGS:
            leaves = next((one for one in self._readings if not one.is_followed), self._readings[0])
            self._readings.remove(leaves)
        self._readings.append(reading)

    def _read(self, query: Query, told: Told) -> Reading:
        now, begun = time.time_ns(), time.monotonic()
        since = now - LOOK_BACK if query.since is None else query.since
        if query.until is not None and query.until < now - MINUTE:
            told.notice("turns after the time asked for are counted only where a session is one trace")
        # Clocks of applications run ahead at times.
        until = now + LOOK_BACK // 7 if query.until is None else query.until
        sessions, leads = _told(self._rows(since, until, told))
        at = time.monotonic()
        # By what it says: a page is the same as before, its cursor too, as long as nothing has happened.
        token = str(hash(frozenset(sessions)))
        reading = Reading(token, since, query.until, at, at - begun, sessions, leads, told.notices, query.since is None)
        self._keep(reading)
        return reading

    def _rows(self, since: int, until: int, told: Told) -> Rows:
        """The sessions of a stretch of time, and of those that began before, their beginnings."""
        packed, rows = Packed(), Rows()
        is_whole = self._fill(packed, since, until, told)
        self._join(packed, 0, rows)
        begun = [row.summary.id for group in rows.values() for row in group if row.began_before] if is_whole else []
        if len(begun) > MOST_COMPLETED:
            told.notice(
                f"{len(begun) - MOST_COMPLETED:,} sessions began earlier: their turns and tokens before are not counted"
            )
        joined = len(packed)
        for number, session_id in enumerate(begun[:MOST_COMPLETED]):
            told.read(f"{len(packed):,} traces, the beginnings of {number} of {len(begun)} sessions")
            for trace in self._finder.having(semconv.SESSION_ID, session_id, since - SEARCH_BACK, since, told):
                _pack(packed, trace)
        self._join(packed, joined, rows)
        return rows

    def _fill(self, packed: Packed, since: int, until: int, told: Told) -> bool:
        """Read the traces of a stretch of time; whether these are all."""
        for trace in self._finder.everything(since, until, told):
            _pack(packed, trace)
            if len(packed) >= MOST_TRACES:
                told.notice(f"only {MOST_TRACES:,} traces were read; a later time to begin with shows the others")
                return False
            if len(packed) % 100 == 0:
                told.read(f"{len(packed):,} traces")
        return True

    def _join(self, packed: Packed, since: int, rows: Rows) -> None:
        """Bring rows up to the traces that were read, of which those from one on are new."""
        for places, spans in packed.groups(since) if since < len(packed) else ():
            for place in places:
                rows.pop(place, None)
            rows[places[0]] = [_row(session) for session in sessions_of(self._finder.mended(spans))]


def _row(session: Session) -> Row:
    began_before = bool(session.turns) and session.turns[0].number > 1
    return Row(session.summary(), [hash(said) for said in _ids_of(session)], began_before)


def _told(rows: Rows) -> tuple[tuple[Summary, ...], dict[int, list[int]]]:
    """The sessions, and which of them the ids of responses and traces lead to."""
    listed = [row for group in rows.values() for row in group]
    leads: dict[int, list[int]] = {}
    for place, row in enumerate(listed):
        for id_ in row.ids:
            leads.setdefault(id_, []).append(place)
    return tuple(row.summary for row in listed), leads


def _pack(packed: Packed, trace: list[ReceivedSpan]) -> None:
    if slimmed := slim(trace):
        packed.add(slimmed)


def _ids_of(session: Session) -> set[str]:
    """What a session is looked for by besides what its row shows."""
    responses = {turn.response_id for turn in session.turns if turn.response_id}
    traces = {turn.trace_id for turn in session.turns} | {part.trace_id for part in session.parts}
    return {*session.aliases, *responses, *traces}


def _place(query: Query, session: Summary) -> Position:
    """Where a session stands in the query's order: the smaller, the earlier."""
    return -SORTED_BY[query.sort](session), -session.last, session.id


def _cursor(token: str, place: Position) -> str:
    return base64.urlsafe_b64encode(json.dumps([token, *place]).encode()).decode()


def _position(cursor: str) -> tuple[str, Position]:
    try:
        token, key, last, session_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        # A time in nanoseconds is more than a float holds.
        return str(token), (key if isinstance(key, int) else float(key), int(last), str(session_id))
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise ValueError("cursor is not valid: expected the next_cursor of a page before") from None
