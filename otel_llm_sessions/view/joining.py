"""Which session each turn belongs to: markers joined with their calls, sessions with what was filed under other ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from otel_llm_sessions.view.index import Spans
from otel_llm_sessions.view.reading import (
    SpanKey,
    is_call,
    is_marker,
    is_root,
    key_of,
    marked_by,
    previous_id_of,
    response_id_of,
    session_ids_of,
)
from otel_llm_sessions.view.spans import ReceivedSpan


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is a turn of a session: what stands for it there, and its own span."""

    session_id: str
    span: ReceivedSpan
    call: ReceivedSpan | None

    @property
    def said(self) -> ReceivedSpan:
        """The span that says most of it."""
        return self.call or self.span


@dataclass(slots=True)
class Gathered:
    """What belongs to one session: its roots, by part and start, and its turns."""

    id: str
    roots: list[ReceivedSpan]
    calls: list[Call]
    aliases: list[str]
    """Other ids under which some of it was filed."""


def gathered(spans: Spans) -> list[Gathered]:
    """Return what belongs to each session."""
    calls: defaultdict[str, list[Call]] = defaultdict(list)
    roots: defaultdict[str, list[ReceivedSpan]] = defaultdict(list)
    for call in _calls(spans):
        calls[call.session_id].append(call)
    for root in filter(is_root, spans.all):
        for session_id in session_ids_of(root):
            roots[session_id].append(root)
    names = _names(calls)
    found: dict[str, Gathered] = {}
    for filed in sorted({*calls, *roots}, key=lambda filed: (filed in names, filed)):
        name = names.get(filed, filed)
        session = found.setdefault(name, Gathered(name, [], [], []))
        session.roots += roots.get(filed, ())
        session.calls += calls.get(filed, ())
        session.aliases += [filed] if filed != name else []
    return list(found.values())


def _calls(spans: Spans) -> Iterator[Call]:
    """Each call that belongs to a session, once."""
    marked: dict[SpanKey, ReceivedSpan] = {}
    for marker in filter(is_marker, spans.all):
        if key := marked_by(marker):
            marked.setdefault(key, marker)
    for key, marker in marked.items():
        call = spans.get(key)
        if session_id := _session_of(spans, marker) or (_session_of(spans, call) if call else None):
            yield Call(session_id, marker, call)
    for span in filter(is_call, spans.all):
        if key_of(span) not in marked and (session_id := _session_of(spans, span)):
            yield Call(session_id, span, span)


def _session_of(spans: Spans, span: ReceivedSpan) -> str | None:
    """The id of the session in which a call or a marker stands.

    Right below a root it is the root's. Elsewhere in a session's trace a call may belong to another session.
    """
    parent = spans.get((span.trace_id, span.parent_id))
    if parent is not None and is_root(parent) and (named := session_ids_of(parent)):
        return named[0]
    if named := session_ids_of(span):
        return named[0]
    above = (session_ids_of(one) for one in spans.above(span) if is_root(one))
    return next((ids[0] for ids in above if ids), None)


def _names(calls: dict[str, list[Call]]) -> dict[str, str]:
    """The sessions that turns belong to which were filed under the id of the response before, by that id.

    A process that does not know a session calls it by the id of the response that its turn goes on from.
    """
    filed = _filed(calls)
    names = {}
    for session_id, turns in calls.items():
        for turn in turns:
            before = previous_id_of(turn.said)
            owners = filed.get(before, set()) - {session_id} if before == session_id else set()
            if before and len(owners) == 1:
                (names[session_id],) = owners
    return {session_id: _end(names, session_id) for session_id in names}


def _filed(calls: dict[str, list[Call]]) -> dict[str | None, set[str]]:
    """The sessions in which each response was given."""
    filed: defaultdict[str | None, set[str]] = defaultdict(set)
    for session_id, turns in calls.items():
        for turn in turns:
            filed[response_id_of(turn.said) or response_id_of(turn.span)].add(session_id)
    return filed


def _end(names: dict[str, str], session_id: str) -> str:
    """Where a chain of names ends; of a circle, the least."""
    seen = [session_id]
    while (session_id := names.get(session_id, "")) and session_id not in seen:
        seen.append(session_id)
    return min(seen[seen.index(session_id) :]) if session_id else seen[-1]


def above_of(spans: Spans, call: ReceivedSpan | None) -> ReceivedSpan | None:
    """The topmost span above a call that is no session's root: the request in which it was made."""
    above: Iterable[ReceivedSpan] = spans.above(call) if call is not None else ()
    top = None
    for span in above:
        if is_root(span):
            return None
        top = span
    return top
