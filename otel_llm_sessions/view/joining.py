"""Which session each turn belongs to: markers joined with their calls, sessions with what was filed under other ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from otel_llm_sessions import semconv
from otel_llm_sessions.view.index import Spans
from otel_llm_sessions.view.nesting import calls_once
from otel_llm_sessions.view.reading import (
    SpanKey,
    is_marker,
    is_root,
    key_of,
    marked_by,
    name_of_response,
    number_of,
    previous_id_of,
    response_id_of,
    session_ids_of,
    speaks_of_models,
)
from otel_llm_sessions.view.spans import ReceivedSpan


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is a turn of a session: what stands for it there, and its own span if that arrived."""

    session_id: str
    span: ReceivedSpan
    call: ReceivedSpan | None
    number: int
    """Which turn of its session it is; 0 where nothing says it."""
    response_id: str | None
    previous_id: str | None
    """The id of the response that it goes on from."""

    @property
    def said(self) -> ReceivedSpan:
        """The span that says most of it."""
        return self.call or self.span


@dataclass(slots=True)
class Gathered:
    """What belongs to one session."""

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
    joins = _joins(calls)
    found: dict[str, Gathered] = {}
    for filed in sorted({*calls, *roots}, key=lambda filed: (filed in joins, filed)):
        join = joins.get(filed, Join(filed, 0))
        session = found.setdefault(join.session_id, Gathered(join.session_id, [], [], []))
        session.roots += roots.get(filed, ())
        session.calls += (_moved(call, join) for call in calls.get(filed, ()))
        session.aliases += [filed] if filed != join.session_id else []
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
            yield _call(session_id, marker, call)
    for span in calls_once(spans, marked.keys()):
        if key_of(span) not in marked and (session_id := _session_of(spans, span)):
            yield _call(session_id, span, span)


def _call(session_id: str, span: ReceivedSpan, call: ReceivedSpan | None) -> Call:
    said = call or span
    number = number_of(span) or number_of(said)
    return Call(session_id, span, call, number, response_id_of(said) or response_id_of(span), previous_id_of(said))


def _session_of(spans: Spans, span: ReceivedSpan) -> str | None:
    """The id of the session in which a call or a marker stands.

    Right below a root it is the root's. Elsewhere in a session's trace a call may belong to another session.
    """
    parent = spans.get((span.trace_id, span.parent_id))
    if parent is not None and is_root(parent) and (named := session_ids_of(parent)):
        return named[0]
    if named := session_ids_of(span):
        return named[0]
    return spans.nearest(span, _session_around)


def _session_around(span: ReceivedSpan) -> str | None:
    """The id of the session of what is below a span, as far as that says it."""
    said = session_ids_of(span) if is_root(span) or speaks_of_models(span) else ()
    return said[0] if said else None


# --- what was filed under the id of the response before --------------------------------------------------------


PARTIAL: Final = "chain_partial"


class Join(NamedTuple):
    """Where turns that were filed under another id belong."""

    session_id: str
    shift: int
    """What is added to their numbers, which their process could only guess."""


def _joins(calls: dict[str, list[Call]]) -> dict[str, Join]:
    """Return where the turns of each session belong that is part of another one, by its id.

    A process that does not know a session calls it by the oldest response that it knows to go before its turn, and
    counts from there. That response is a turn of the session meant; where several sessions have one of that id,
    nothing says which.
    """
    answered: defaultdict[str, list[Call]] = defaultdict(list)
    for call in (call for turns in calls.values() for call in turns if call.response_id):
        answered[name_of_response(call.response_id or "")].append(call)
    joins = {}
    for session_id, turns in calls.items():
        before = answered.get(session_id, [])
        owners = {call.session_id for call in before}
        if len(owners) == 1 and session_id not in owners and any(map(_is_unsure, turns)):
            joins[session_id] = Join(before[0].session_id, max(0, before[0].number - 1))
    return _ends(joins)


def _is_unsure(call: Call) -> bool:
    """Whether a call's process did not know its session."""
    if call.said.attributes.get(semconv.LLM_SESSION_SOURCE) == PARTIAL:
        return True
    return call.previous_id is not None and name_of_response(call.previous_id) == call.session_id


def _ends(joins: dict[str, Join]) -> dict[str, Join]:
    """Where each chain of joins ends; one that comes to a circle, at the least of that."""
    ends: dict[str, Join] = {}
    circular: set[str] = set()
    for at in joins:
        path: dict[str, None] = {}
        while at in joins and at not in ends and at not in path:
            path[at] = None
            at = joins[at].session_id
        if at in path:
            circle = list(path)[list(path).index(at) :]
            ends |= dict.fromkeys(circle, Join(min(circle), 0))
            circular.update(circle)
        for name in reversed([name for name in path if name not in ends]):
            after, shift = joins[name]
            end = ends.get(after, Join(after, 0))
            is_circular = after in circular
            ends[name] = Join(end.session_id, 0 if is_circular else end.shift + shift)
            circular.update([name] if is_circular else [])
    return ends


def _moved(call: Call, join: Join) -> Call:
    return replace(call, number=call.number + join.shift) if join.shift and call.number else call


# --- the order of turns ----------------------------------------------------------------------------------------


def in_order(calls: list[Call], before: dict[SpanKey, SpanKey]) -> list[Call]:
    """By turn and start, where all have numbers; else by start alone.

    Processes that share no store number their turns each for itself: where one begins anew after all that there was,
    what it makes comes after that.

    Args:
        calls: a session's.
        before: the call that each goes on from, by the identities of their spans.
    """
    rounds = _rounds(calls, before) if all(call.number for call in calls) else None
    return sorted(
        calls,
        key=lambda call: (
            (rounds[key_of(call.span)], call.number) if rounds else (0, 0),
            call.said.start,
            key_of(call.span),
        ),
    )


def _rounds(calls: list[Call], before: dict[SpanKey, SpanKey]) -> dict[SpanKey, int]:
    """Which round of numbers each call belongs to."""
    lines: defaultdict[SpanKey, list[Call]] = defaultdict(list)
    by_key = {key_of(call.span): call for call in calls}
    firsts: dict[SpanKey, SpanKey] = {}
    for call in sorted(calls, key=lambda call: (call.number, call.said.start, key_of(call.span))):
        key = key_of(call.span)
        firsts[key] = firsts.get(before.get(key, key), key)
        lines[firsts[key]].append(call)
    rounds: dict[SpanKey, int] = {}
    number, met, latest = 0, set[int](), 0
    for first, line in sorted(lines.items(), key=lambda item: (_begin(item[1]), item[0])):
        if by_key[first].number == 1 and met > {1} and _begin(line) > latest:
            number, met = number + 1, set()
        met |= {call.number for call in line}
        latest = max(latest, *(call.said.start for call in line))
        rounds |= {key_of(call.span): number for call in line}
    return rounds


def _begin(calls: list[Call]) -> int:
    return min(call.said.start for call in calls)


def request_of(spans: Spans, call: ReceivedSpan | None) -> ReceivedSpan | None:
    """The topmost span above a call: the request in which it was made; None below a session's root."""
    if call is None or spans.nearest(call, _as_root) is not None:
        return None
    return spans.topmost(call)


def _as_root(span: ReceivedSpan) -> ReceivedSpan | None:
    return span if is_root(span) else None
