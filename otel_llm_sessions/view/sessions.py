"""The sessions among the spans that arrived: which there are, which turns they have, where each call stands.

Sessions are read from the documented attributes alone. A session is what its spans name by ``session.id`` (others: by
``gen_ai.conversation.id``), with all parts of its trace, whatever of it arrived, came twice, or came late.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from otel_llm_sessions import semconv
from otel_llm_sessions.view.costs import Cost, total_of
from otel_llm_sessions.view.index import Spans, contents_of
from otel_llm_sessions.view.joining import Call, Gathered, above_of, gathered
from otel_llm_sessions.view.reading import (
    SpanKey,
    is_root,
    key_of,
    kind_of,
    number_of,
    part_of,
    previous_id_of,
    session_ids_of,
    target_of,
    text_in,
)
from otel_llm_sessions.view.spans import Attributes, ReceivedLog, ReceivedSpan
from otel_llm_sessions.view.summaries import Summary
from otel_llm_sessions.view.turns import Evaluation, Node, Turn

SERVICE_NAME: Final = "service.name"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a session's trace."""

    number: int
    trace_id: str
    root: ReceivedSpan | None = None
    """Its root; the first, where processes that share no store gave it several; None if none arrived."""


@dataclass(frozen=True, eq=False, slots=True)
class Session:
    """A session. Two are equal if they are the same.

    Args:
        id: its id.
        turns: its turns, in order.
        parts: the parts of its trace, in order; empty where sessions are no traces.
        nodes: its spans as trees: below its roots, and what stands elsewhere.
        evaluations: the judgements of it and of its turns, by time.
        parents: ids of the sessions from which it was started.
        children: ids of the sessions that were started from it.
        aliases: ids under which processes that did not know the session filed some of its turns.
    """

    id: str
    turns: tuple[Turn, ...] = ()
    parts: tuple[Part, ...] = ()
    nodes: tuple[Node, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def root(self) -> ReceivedSpan | None:
        """The root of its first part that arrived; None where sessions are no traces."""
        return next((part.root for part in self.parts if part.root), None)

    @property
    def name(self) -> str:
        """What the application called the session; empty if nothing."""
        return str(self._said(semconv.LLM_SESSION_NAME) or "")

    @property
    def user(self) -> str:
        """Whose session it is; empty if nobody said."""
        return str(self._said(semconv.USER_ID) or "")

    @property
    def tags(self) -> tuple[str, ...]:
        """The session's tags."""
        said = self._said(semconv.LLM_SESSION_TAGS)
        return tuple(map(str, said)) if isinstance(said, (list, tuple)) else ()

    @property
    def services(self) -> tuple[str, ...]:
        """The services that its turns came from, in the order in which they joined."""
        roots = [part.root for part in self.parts if part.root] if not self.turns else []
        said = [turn.service for turn in self.turns] + [text_in(root.resource, SERVICE_NAME) or "" for root in roots]
        return tuple(dict.fromkeys(name for name in said if name))

    @property
    def models(self) -> tuple[str, ...]:
        """The models that its turns were answered by, in the order in which they joined."""
        return tuple(dict.fromkeys(turn.model for turn in self.turns if turn.model))

    @property
    def costs(self) -> tuple[Cost, ...]:
        """What those of its turns cost together whose cost is known, of each currency."""
        return total_of(turn.price for turn in self.turns)

    @property
    def input_tokens(self) -> int | None:
        """The tokens that were read, in the turns that tell it; None if none does."""
        return _sum(turn.input_tokens for turn in self.turns)

    @property
    def output_tokens(self) -> int | None:
        """The tokens that were written, in the turns that tell it; None if none does."""
        return _sum(turn.output_tokens for turn in self.turns)

    def summary(self) -> Summary:
        """The session in one row."""
        costs = self.costs
        begun = [turn.start for turn in self.turns] or [part.root.start for part in self.parts if part.root]
        ended = [turn.end for turn in self.turns] or [part.root.end for part in self.parts if part.root]
        return Summary(
            id=self.id,
            name=self.name or None,
            user=self.user or None,
            tags=self.tags,
            services=self.services,
            turns=len(self.turns),
            models=self.models,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cost=costs[0].amount if len(costs) == 1 else None,
            currency=costs[0].currency or None if len(costs) == 1 else None,
            errors=sum(turn.failed for turn in self.turns),
            first=min(begun, default=0),
            last=max(ended, default=0),
        )

    def _said(self, attribute: str) -> object:
        """What a root says, else the first turn that says it."""
        spans = [*(part.root for part in self.parts), *(turn.call or turn.span for turn in self.turns)]
        return next((span.attributes[attribute] for span in spans if span and attribute in span.attributes), None)


def sessions_of(received: Iterable[ReceivedSpan], logs: Iterable[ReceivedLog] = ()) -> list[Session]:
    """Return the sessions among these spans, in the order in which they began.

    Args:
        received: the spans, in any order; one that comes twice counts once.
        logs: the events that belong to them.
    """
    spans, contents = Spans(received), contents_of(logs)
    sessions = [_session(spans, contents, one) for one in gathered(spans)]
    return sorted(sessions, key=lambda session: (session.summary().first, session.id))


def _session(spans: Spans, contents: dict[SpanKey, Attributes], found: Gathered) -> Session:
    turns = _turns(spans, contents, found)
    return Session(
        found.id,
        turns=turns,
        parts=_parts(found),
        nodes=_nodes(spans, found.roots, turns),
        aliases=tuple(sorted(found.aliases)),
    )


def _turns(spans: Spans, contents: dict[SpanKey, Attributes], found: Gathered) -> tuple[Turn, ...]:
    by_key: dict[SpanKey, Turn] = {}
    by_response: dict[str, Turn] = {}
    turns = []
    for call in _in_order(found.calls):
        turn = Turn(
            call.span,
            call.call,
            above_of(spans, call.call),
            _before(call, by_key, by_response),
            contents.get(key_of(call.said), {}),
            part_of(call.span) or part_of(call.said),
        )
        by_key |= {key_of(call.span): turn, key_of(call.said): turn}
        if turn.response_id:
            by_response.setdefault(turn.response_id, turn)
        turns.append(turn)
    return tuple(turns)


def _before(call: Call, by_key: dict[SpanKey, Turn], by_response: dict[str, Turn]) -> Turn | None:
    """The turn that a call goes on from, among those before it."""
    links = [link for link in (*call.span.links, *call.said.links) if kind_of(link) == "previous_turn"]
    linked = next((by_key[target_of(link)] for link in links if target_of(link) in by_key), None)
    return linked or by_response.get(previous_id_of(call.said) or "")


def _in_order(calls: list[Call]) -> list[Call]:
    """By turn and start; by start alone where some have no number."""
    numbers = {key_of(call.span): number_of(call.span) or number_of(call.said) for call in calls}
    numbered = all(numbers.values())
    return sorted(
        calls, key=lambda call: (numbers[key_of(call.span)] if numbered else 0, call.said.start, key_of(call.span))
    )


def _parts(found: Gathered) -> tuple[Part, ...]:
    parts: dict[str, Part] = {}
    for root in sorted(found.roots, key=lambda root: (found.id not in session_ids_of(root), root.start, key_of(root))):
        parts.setdefault(root.trace_id, Part(part_of(root) or 1, root.trace_id, root))
    for call in found.calls:
        if call.span is not call.call or call.span.parent_id:
            number = part_of(call.span)
            if number and call.span.trace_id not in parts:
                parts[call.span.trace_id] = Part(number, call.span.trace_id)
    return tuple(sorted(parts.values(), key=lambda part: part.number))


def _nodes(spans: Spans, roots: list[ReceivedSpan], turns: tuple[Turn, ...]) -> tuple[Node, ...]:
    by_span = {key_of(turn.span): turn for turn in turns}
    tops = [span for root in roots for span in spans.below(key_of(root)) if not is_root(span)]
    shown: set[SpanKey] = set()
    nodes = [_node(spans, span, by_span, shown) for span in tops]
    nodes += [Node(turn.span, turn) for key, turn in by_span.items() if key not in shown]
    numbered = all(node.turn and node.turn.number for node in nodes)
    return tuple(sorted(nodes, key=lambda node: _place(node, numbered)))


def _place(node: Node, numbered: bool) -> tuple[int, int, bool]:
    """By turn and start, turns first; by start alone where some are no turns."""
    return node.turn.number if numbered and node.turn else 0, node.span.start, node.turn is None


def _node(spans: Spans, span: ReceivedSpan, by_span: dict[SpanKey, Turn], shown: set[SpanKey]) -> Node:
    shown.add(key_of(span))
    below = [one for one in spans.below(key_of(span)) if key_of(one) not in shown and not is_root(one)]
    return Node(span, by_span.get(key_of(span)), tuple(_node(spans, one, by_span, shown) for one in below))


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
