"""What the page of a session shows, as values for its template."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

from otel_llm_sessions.view.server.conversation import Row, rows
from otel_llm_sessions.view.server.reader import Found
from otel_llm_sessions.view.server.strip import strip_of
from otel_llm_sessions.view.server.texts import DASH
from otel_llm_sessions.view.sessions import Session
from otel_llm_sessions.view.spans import ReceivedSpan
from otel_llm_sessions.view.turns import Evaluation, Turn

TURNS: Final = 250
"""Turns that one page shows."""
TEXT: Final = 8_000
"""Characters of one text that it shows; the page of the turn shows more."""
VALUE: Final = 300
"""Characters of one attribute that it shows."""
WHOLE_TEXT: Final = 100_000
"""Characters of one text that the page of a turn shows; the API tells all."""
WHOLE_VALUE: Final = 20_000
"""Characters of one attribute that the page of a turn shows."""
BARS: Final = 2_000
"""Turns that the strip shows; of a longer session, those of the page."""
TRACES: Final = 5
"""Parts whose traces are linked in the head, first and last ones."""

TraceUrl = Callable[[str, str], str | None]


def values_of(found: Found, begin: int, trace_url: TraceUrl) -> dict[str, Any]:
    """Return what the page of a session shows.

    Args:
        found: the session.
        begin: the place of the first turn, from 1, in the order in which turns are read.
        trace_url: the address of a trace and a span; None if there is none.
    """
    session = found.session
    in_order = rows(session.turns)
    begin = min(max(begin, 1), max(len(in_order), 1))
    first = (begin - 1) // TURNS * TURNS
    shown = in_order[first : first + TURNS]
    page_of = {row.place: index // TURNS * TURNS + 1 for index, row in enumerate(in_order)}
    judged, judgements = _judgements(session)
    return {
        **_totals(session),
        "session": session,
        "rows": shown,
        "notices": found.arrived.notices,
        "opening": _opening(session, in_order),
        "without_content": bool(session.turns) and not any(turn.input or turn.output for turn in session.turns),
        "many_services": len(session.services) > 1,
        "strip": strip_of(session.turns if len(session.turns) <= BARS else [row.turn for row in shown]),
        "pages": _pages(len(in_order), first),
        "traces": _traces(session, trace_url),
        "trace_url": trace_url,
        "judged": judged,
        "judgements": judgements,
        "names": _names(session),
        "limit": TEXT,
        "value_limit": VALUE,
        "turn_link": lambda place: f"{'' if page_of[place] == first + 1 else f'?from={page_of[place]}'}#turn-{place}",
        "number_at": lambda place: session.turns[place - 1].number or place,
    }


def values_of_turn(found: Found, turn: Turn, place: int, trace_url: TraceUrl) -> dict[str, Any]:
    """Return what the page of one turn shows."""
    spans = [(turn.call, "Span"), (turn.span if turn.is_marker else None, "Its marker in the session's trace")]
    return {
        "session": found.session,
        "summary": found.session.summary(),
        "turn": turn,
        "place": place,
        "messages": (*turn.input, *turn.output),
        "names": _names(found.session),
        "limit": WHOLE_TEXT,
        "value_limit": WHOLE_VALUE,
        "trace": trace_url(turn.trace_id, turn.span_id),
        "spans": [
            (span, label) for span, label in (*spans, (_request(turn), "The request in which it was made")) if span
        ],
    }


def _request(turn: Turn) -> ReceivedSpan | None:
    return turn.request if turn.request is not turn.call else None


def _totals(session: Session) -> dict[str, Any]:
    priced = sum(turn.cost is not None for turn in session.turns)
    return {
        "summary": session.summary(),
        "cached": sum(turn.cached_tokens or 0 for turn in session.turns),
        "reasoning": sum(turn.reasoning_tokens or 0 for turn in session.turns),
        "costs": [str(each) for each in session.costs],
        "priced": priced,
        "unpriced": len(session.turns) - priced,
    }


def _opening(session: Session, in_order: Sequence[Row]) -> dict[int, int]:
    """The places of the turns with which a later part begins, and which part that is."""
    parts = {part.trace_id: part.number for part in session.parts}
    found, before = {}, None
    for row in in_order:
        part = row.turn.part or parts.get(row.turn.span.trace_id)
        if before is not None and part is not None and part > before:
            found[row.place] = part
        before = part or before
    return found


def _pages(count: int, first: int) -> list[tuple[str, str, bool]]:
    return [
        (f"{begin + 1}{DASH}{min(begin + TURNS, count)}", f"?from={begin + 1}", begin == first)
        for begin in range(0, count, TURNS)
    ]


def _traces(session: Session, trace_url: TraceUrl) -> list[tuple[str, str]]:
    parts = session.parts
    shown = parts if len(parts) <= TRACES else (*parts[: TRACES - 1], parts[-1])
    made = [(part, trace_url(part.trace_id, part.root.span_id if part.root else "")) for part in shown]
    return [("Trace" if len(parts) == 1 else f"Trace of part {part.number}", url) for part, url in made if url]


def _judgements(session: Session) -> tuple[dict[Turn, list[Evaluation]], list[Evaluation]]:
    """Those of each turn, and those of the session."""
    of_turns: defaultdict[Turn, list[Evaluation]] = defaultdict(list)
    for one in session.evaluations:
        if one.turn is not None:
            of_turns[one.turn].append(one)
    return of_turns, [one for one in session.evaluations if one.turn is None]


def _names(session: Session) -> dict[str, str]:
    """The names of tools, by the ids of their calls."""
    messages = (message for turn in session.turns for message in (*turn.input, *turn.output))
    parts = (part for message in messages for part in message.parts)
    return {part.id: part.name for part in parts if part.id and part.name}
