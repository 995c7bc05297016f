"""Turns and trees of a session, made of the calls and spans that belong to it."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Final

from otel_llm_sessions.view.index import Spans
from otel_llm_sessions.view.joining import Call, in_order, request_of
from otel_llm_sessions.view.reading import SpanKey, is_root, key_of, kind_of, part_of, target_of
from otel_llm_sessions.view.spans import Attributes, ReceivedSpan
from otel_llm_sessions.view.turns import Node, Turn

DEEPEST: Final = 50
"""How deep trees are; what lies deeper stands beside its parent."""


# --- turns ------------------------------------------------------------------------------------------------------


def turns_of(spans: Spans, contents: dict[SpanKey, Attributes], calls: list[Call]) -> tuple[Turn, ...]:
    """Return a session's turns, in order.

    Args:
        spans: all that arrived.
        contents: what events say, by span.
        calls: the session's.
    """
    before = _before(calls)
    made: dict[SpanKey, Turn] = {}
    for call in in_order(calls, before):
        key = key_of(call.span)
        made[key] = Turn(
            call.span,
            call.call,
            request_of(spans, call.call),
            # Not one that comes after it, which only odd links say.
            made.get(before[key]) if key in before else None,
            contents.get(key_of(call.said), {}),
            part_of(call.span) or part_of(call.said),
            call.number,
        )
    return tuple(made.values())


def _before(calls: list[Call]) -> dict[SpanKey, SpanKey]:
    """The call that each goes on from: by its link (of which some backends forget what it is), else by its response."""
    by_key = {key_of(span): key_of(call.span) for call in calls for span in (call.span, call.said)}
    by_response = {call.response_id: key_of(call.span) for call in reversed(calls) if call.response_id}
    found = {}
    for call in calls:
        key = key_of(call.span)
        links = sorted((*call.span.links, *call.said.links), key=lambda link: kind_of(link) is None)
        linked = (by_key.get(target_of(link)) for link in links if kind_of(link) in (None, "previous_turn"))
        linked_to = next((other for other in linked if other not in (None, key)), None)
        before = linked_to or by_response.get(call.previous_id or "")
        if before is not None and before != key:
            found[key] = before
    return found


# --- trees ------------------------------------------------------------------------------------------------------


def nodes_of(spans: Spans, roots: list[ReceivedSpan], turns: tuple[Turn, ...]) -> tuple[Node, ...]:
    """Return what stands below a session's roots, as trees, and beside them the turns that do not.

    Args:
        spans: all that arrived.
        roots: the session's.
        turns: the session's, in order.
    """
    by_span = {key_of(turn.span): turn for turn in turns}
    tops, below = _levels(spans, roots)
    shown = {key_of(span) for span in (*tops, *(one for each in below.values() for one in each))}
    nodes = _grown(tops, below, by_span)
    nodes += [Node(turn.span, turn) for turn in turns if key_of(turn.span) not in shown]
    places = {key: place for place, key in enumerate(by_span)}
    if all(node.turn for node in nodes):
        return tuple(sorted(nodes, key=lambda node: places[key_of(node.span)]))
    return tuple(sorted(nodes, key=lambda node: (node.span.start, places.get(key_of(node.span), len(places)))))


def _levels(
    spans: Spans, roots: list[ReceivedSpan]
) -> tuple[list[ReceivedSpan], defaultdict[SpanKey, list[ReceivedSpan]]]:
    """The spans right below the roots, and what is drawn below each span, parents before their children."""
    tops = [span for root in roots for span in spans.below(key_of(root)) if not is_root(span)]
    below: defaultdict[SpanKey, list[ReceivedSpan]] = defaultdict(list)
    queue = deque((span, key_of(span), 1) for span in tops)
    while queue:
        span, place, depth = queue.popleft()
        for child in spans.below(key_of(span)):
            if not is_root(child):
                below[place].append(child)
                queue.append((child, key_of(child) if depth < DEEPEST else place, depth + 1))
    return tops, below


def _grown(
    tops: list[ReceivedSpan], below: defaultdict[SpanKey, list[ReceivedSpan]], by_span: dict[SpanKey, Turn]
) -> list[Node]:
    def node(span: ReceivedSpan) -> Node:
        key = key_of(span)
        return Node(span, by_span.get(key), tuple(node(child) for child in below.get(key, ())))

    return [node(span) for span in tops]
