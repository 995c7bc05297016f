"""The sessions among the spans that arrived: which there are, which turns they have, where each call stands.

Where session traces arrived (root spans with ``llm_session.root``), everything is read from their structure: trace ids,
parents and links. Where none did (``TRACES=turn``), calls are grouped by their ``session.id``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from otel_llm_sessions import semconv
from otel_llm_sessions.view.costs import Cost, cost_in, total_of
from otel_llm_sessions.view.spans import ReceivedLink, ReceivedSpan

LINKS_TO_OTHERS: Final = frozenset({"previous_turn", "session", "other_session", "parent_session"})
"""Values of ``llm_session.link`` on a marker's links that do not lead to the call it stands for."""

SpanKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: the span that stands for it in its session, and the call itself."""

    span: ReceivedSpan
    """In the session: the call's own span or a marker."""
    call: ReceivedSpan | None
    """The call's span; None when a marker's link leads to a span that did not arrive."""
    request: ReceivedSpan | None = None
    """The root of the request in which the call was made, when it was made in one."""

    @property
    def number(self) -> int:
        """Which turn of its session this is; 0 when no span says it."""
        return number_of(self.span) or number_of(self.call or self.span)

    @property
    def is_marker(self) -> bool:
        """Whether a marker stands in the session, the call elsewhere."""
        return self.span is not self.call

    @property
    def failed(self) -> bool:
        """Whether the call ended in an error."""
        return (self.call or self.span).status == "ERROR"

    def attribute(self, name: str) -> object:
        """An attribute of the call, or of what stands for it."""
        return (self.call or self.span).attributes.get(name, self.span.attributes.get(name))

    @property
    def cost(self) -> Cost | None:
        """What the call cost, as its span says; None if it says nothing."""
        return cost_in((self.call or self.span).attributes)

    def follows(self, other: Turn) -> bool:
        """Whether a ``previous_turn`` link of this turn leads to the other."""
        there = {key_of(span) for span in (other.span, other.call) if span}
        links = [*self.span.links, *(self.call.links if self.call else ())]
        return any(_kind(link) == "previous_turn" and target_of(link) in there for link in links)


@dataclass(frozen=True, slots=True)
class Node:
    """A span of a session with what was started inside it; a turn when it is one."""

    span: ReceivedSpan
    turn: Turn | None = None
    children: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """The node and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class ArrivedSession:
    """A session, or one part of a long one, as it arrived; ``root`` is None where sessions are not traces."""

    id: str
    nodes: tuple[Node, ...]
    root: ReceivedSpan | None = None

    @property
    def turns(self) -> list[Turn]:
        """All turns, as the tree shows them."""
        return [node.turn for top in self.nodes for node in top.walk() if node.turn]

    @property
    def costs(self) -> tuple[Cost, ...]:
        """What those of its turns cost together whose cost is known, of each currency."""
        return total_of(turn.cost for turn in self.turns)

    @property
    def part(self) -> int:
        """Which part of a long session this is, from 1."""
        return int(self.root.attributes.get(semconv.LLM_SESSION_PART, 1)) if self.root else 1

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

    def _said(self, attribute: str) -> object:
        """What the root says, else the first turn that says it."""
        spans = [self.root, *(turn.call or turn.span for turn in self.turns)]
        return next((span.attributes[attribute] for span in spans if span and attribute in span.attributes), None)

    @property
    def service(self) -> str:
        """The name of the service that the session's first span came from."""
        spans = [self.root, *(turn.call or turn.span for turn in self.turns)]
        return next((str(span.resource.get("service.name", "")) for span in spans if span), "")


class Spans:
    """The received spans, by id and by parent."""

    def __init__(self, spans: Iterable[ReceivedSpan]) -> None:
        self.all = list(spans)
        self._by_id = {key_of(span): span for span in self.all}
        self._below: defaultdict[SpanKey, list[ReceivedSpan]] = defaultdict(list)
        for span in self.all:
            self._below[span.trace_id, span.parent_id].append(span)

    def below(self, span: ReceivedSpan) -> list[ReceivedSpan]:
        """The span's children."""
        return self._below[key_of(span)]

    def get(self, key: SpanKey) -> ReceivedSpan | None:
        """The span with these ids, if it arrived."""
        return self._by_id.get(key)

    def request_of(self, span: ReceivedSpan) -> ReceivedSpan | None:
        """The topmost span above this one that arrived; None when nothing is above it."""
        above = None
        while parent := self.get((span.trace_id, span.parent_id)):
            above = span = parent
        return above


def sessions_of(received: Iterable[ReceivedSpan]) -> list[ArrivedSession]:
    """The sessions among these spans, in the order in which they began."""
    spans = Spans(received)
    roots = [span for span in spans.all if span.attributes.get(semconv.LLM_SESSION_ROOT) and not span.parent_id]
    sessions = _from_traces(spans, roots) if roots else _from_ids(spans)
    return sorted(sessions, key=_beginning)


def is_call(span: ReceivedSpan) -> bool:
    """Whether the span is a model call."""
    return semconv.OPERATION_NAME in span.attributes or semconv.LLM_SESSION_SOURCE in span.attributes


def number_of(span: ReceivedSpan) -> int:
    """The span's turn number; 0 when it has none."""
    return int(span.attributes.get(semconv.LLM_SESSION_TURN, 0))


def key_of(span: ReceivedSpan) -> SpanKey:
    """What identifies the span."""
    return span.trace_id, span.span_id


def target_of(link: ReceivedLink) -> SpanKey:
    """What identifies the span that the link leads to."""
    return link.trace_id, link.span_id


def _kind(link: ReceivedLink) -> object:
    return link.attributes.get(semconv.LLM_SESSION_LINK)


def _beginning(session: ArrivedSession) -> int:
    return min((node.span.start for node in session.nodes), default=session.root.start if session.root else 0)


def _from_traces(spans: Spans, roots: list[ReceivedSpan]) -> Iterator[ArrivedSession]:
    by_trace: defaultdict[str, list[ReceivedSpan]] = defaultdict(list)
    for root in sorted(roots, key=lambda span: span.start):
        by_trace[root.trace_id].append(root)
    for first, *others in by_trace.values():
        tops = [span for root in (first, *others) for span in spans.below(root)]
        yield ArrivedSession(str(first.attributes.get(semconv.SESSION_ID, "")), _nodes(spans, tops), first)


def _from_ids(spans: Spans) -> Iterator[ArrivedSession]:
    by_id: defaultdict[str, list[ReceivedSpan]] = defaultdict(list)
    for span in filter(is_call, spans.all):
        if semconv.SESSION_ID in span.attributes:
            by_id[str(span.attributes[semconv.SESSION_ID])].append(span)
    for session_id, calls in by_id.items():
        turns = (Turn(call, call, spans.request_of(call)) for call in _in_order(calls))
        yield ArrivedSession(session_id, tuple(Node(turn.span, turn) for turn in turns))


def _nodes(spans: Spans, siblings: list[ReceivedSpan]) -> tuple[Node, ...]:
    return tuple(Node(span, _turn(spans, span), _nodes(spans, spans.below(span))) for span in _in_order(siblings))


def _turn(spans: Spans, span: ReceivedSpan) -> Turn | None:
    if span.name == semconv.MARKER_NAME and semconv.OPERATION_NAME not in span.attributes:
        call = _marked(spans, span)
        return Turn(span, call, spans.request_of(call) if call else None)
    return Turn(span, span) if is_call(span) else None


def _marked(spans: Spans, marker: ReceivedSpan) -> ReceivedSpan | None:
    """The call that the marker stands for, by its link."""
    links = (link for link in marker.links if _kind(link) not in LINKS_TO_OTHERS)
    return next((span for span in map(spans.get, map(target_of, links)) if span), None)


def _in_order(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
    """By turn and start; by start alone where some are no turns."""
    numbered = all(map(number_of, spans))
    return sorted(spans, key=lambda span: (number_of(span) if numbered else 0, span.start))
