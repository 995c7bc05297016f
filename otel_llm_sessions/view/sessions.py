"""The sessions among the spans that arrived: which there are, which turns they have, where each call stands.

Sessions are read from the documented attributes alone. A session is what its spans name by ``session.id`` (others: by
``gen_ai.conversation.id``), with all parts of its trace, whatever of it arrived, came twice, or came late.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from otel_llm_sessions import semconv
from otel_llm_sessions.view.contents import contents_of
from otel_llm_sessions.view.costs import Cost, total_of
from otel_llm_sessions.view.index import Spans
from otel_llm_sessions.view.joining import Gathered, gathered
from otel_llm_sessions.view.judgements import judgements_of, placed
from otel_llm_sessions.view.reading import key_of, kind_of, part_of, session_ids_of, text_in
from otel_llm_sessions.view.spans import ReceivedLog, ReceivedSpan
from otel_llm_sessions.view.summaries import Summary
from otel_llm_sessions.view.telling import nodes_of, turns_of
from otel_llm_sessions.view.turns import Evaluation, Node, Turn

SERVICE_NAME: Final = "service.name"
Started = defaultdict[str, set[str]]


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
        return next(iter(self._roots), None)

    @property
    def name(self) -> str:
        """What the application called the session; empty if nothing."""
        return self._text(semconv.LLM_SESSION_NAME)

    @property
    def user(self) -> str:
        """Whose session it is; empty if nobody said."""
        return self._text(semconv.USER_ID)

    @property
    def tags(self) -> tuple[str, ...]:
        """The session's tags."""
        said = (span.attributes.get(semconv.LLM_SESSION_TAGS) for span in self._spans())
        tags = next((each for each in said if isinstance(each, (list, tuple)) and each), ())
        return tuple(tag for tag in tags if isinstance(tag, str))

    @property
    def services(self) -> tuple[str, ...]:
        """The services that its turns came from, in the order in which they joined."""
        roots = self._roots if not self.turns else []
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

    @property
    def first(self) -> int:
        """When its first turn began, in nanoseconds since the epoch; its root, where no turn arrived."""
        return min((turn.start for turn in self.turns), default=min((root.start for root in self._roots), default=0))

    @property
    def last(self) -> int:
        """When its last turn ended, in nanoseconds since the epoch; its root, where no turn arrived."""
        return max((turn.end for turn in self.turns), default=max((root.end for root in self._roots), default=0))

    @property
    def _roots(self) -> list[ReceivedSpan]:
        return [part.root for part in self.parts if part.root]

    def summary(self) -> Summary:
        """The session in one row."""
        costs = self.costs
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
            first=self.first,
            last=self.last,
        )

    def _text(self, name: str) -> str:
        """What a root says, else the first turn that says it."""
        return next((said for span in self._spans() if (said := text_in(span.attributes, name))), "")

    def _spans(self) -> Iterator[ReceivedSpan]:
        yield from self._roots
        for turn in self.turns:
            yield turn.span
            if turn.call is not None and turn.is_marker:
                yield turn.call


def sessions_of(received: Iterable[ReceivedSpan], logs: Iterable[ReceivedLog] = ()) -> list[Session]:
    """Return the sessions among these spans, in the order in which they began.

    Args:
        received: the spans, in any order; one that comes twice counts once.
        logs: the events that belong to them.
    """
    spans, events = Spans(received), list(logs)
    contents, all_found = contents_of(events), gathered(spans)
    names = {name: found.id for found in all_found for name in (*found.aliases, found.id)}
    turns = {found.id: turns_of(spans, contents, found.calls) for found in all_found}
    judged = placed(judgements_of(spans, events), turns, names)
    parts = {found.id: _parts(found) for found in all_found}
    parents, children = _started(all_found, parts)
    sessions = [
        Session(
            found.id,
            turns=turns[found.id],
            parts=parts[found.id],
            nodes=nodes_of(spans, found.roots, turns[found.id]),
            evaluations=tuple(judged.get(found.id, ())),
            parents=tuple(sorted(parents[found.id])),
            children=tuple(sorted(children[found.id])),
            aliases=tuple(sorted(found.aliases)),
        )
        for found in all_found
    ]
    return sorted(sessions, key=lambda session: (session.first, session.id))


def session_named(sessions: Iterable[Session], session_id: str) -> Session | None:
    """Return the session of this id, else the one that has turns filed under it; None if there is neither.

    Args:
        sessions: those to choose from: what a source has of one session may have others in it.
        session_id: the id.
    """
    known = list(sessions)
    named = [one for one in known if one.id == session_id]
    return next(iter(named or [one for one in known if session_id in one.aliases]), None)


def _parts(found: Gathered) -> tuple[Part, ...]:
    """The parts of its trace, of which some have no root here; those of its own id before what was filed elsewhere."""
    parts: dict[str, Part] = {}
    for root in sorted(found.roots, key=lambda root: (found.id not in session_ids_of(root), root.start, key_of(root))):
        parts.setdefault(root.trace_id, Part(part_of(root) or 1, root.trace_id, root))
    for call in found.calls:
        # A call that stands in a request's trace says of which part it is, too; its marker stands there.
        if (number := part_of(call.span)) and call.span.parent_id:
            parts.setdefault(call.span.trace_id, Part(number, call.span.trace_id))
    return tuple(sorted(parts.values(), key=lambda part: part.number))


def _started(all_found: list[Gathered], parts: dict[str, tuple[Part, ...]]) -> tuple[Started, Started]:
    """The sessions from which each was started, and those that were started from it, by its id."""
    by_trace = {part.trace_id: named for named, of_session in parts.items() for part in of_session}
    parents, children = Started(set), Started(set)
    for found in all_found:
        for link in (link for root in found.roots for link in root.links if kind_of(link) == "parent_session"):
            if (above := by_trace.get(link.trace_id, found.id)) != found.id:
                parents[found.id].add(above)
                children[above].add(found.id)
    return parents, children


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
