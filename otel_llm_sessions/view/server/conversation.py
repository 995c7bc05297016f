"""A session's turns as people read a conversation: one after the other, branches set in, nothing said twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from otel_llm_sessions import semconv
from otel_llm_sessions.view.turns import Turn
from otel_llm_sessions.view.words import Message


@dataclass(frozen=True, slots=True)
class Row:
    """A turn at its place in the conversation.

    Args:
        turn: the turn.
        place: its place among the session's turns, from 1.
        branch: how deep it stands in branches; 0 where it stands in none.
        from_place: the place of the turn from which a branch goes out, on the branch's first turn; else 0.
        pause: nanoseconds from the end of the turn before until this one began; None where there is none before, or
            that had not ended.
        earlier: how many of its input's messages were those of the turn before, and are left out.
        input: what is new of its input.
    """

    turn: Turn
    place: int
    branch: int = 0
    from_place: int = 0
    pause: int | None = None
    earlier: int = 0
    input: tuple[Message, ...] = ()


@dataclass(slots=True)
class _Forks:
    """Where branches go out of a conversation."""

    heads: dict[int, list[Turn]] = field(default_factory=lambda: defaultdict(list))
    """The first turns of the branches that go out of a turn, by that turn's identity."""
    line: dict[int, int] = field(default_factory=dict)
    """The identity of the first turn of the branch in which a turn stands; 0 in the trunk."""


def rows(turns: Iterable[Turn]) -> list[Row]:
    """Set a session's turns in the order in which they are read: a branch after the turn that it goes out of."""
    turns = tuple(turns)
    forks = _forks(turns)
    places = {id(turn): place for place, turn in enumerate(turns, 1)}
    by_line: defaultdict[int, list[Turn]] = defaultdict(list)
    for turn in turns:
        by_line[forks.line[id(turn)]].append(turn)
    found: list[Row] = []
    last: dict[int, Turn] = {}
    for turn, branch in _walk(by_line, forks):
        is_head = forks.line[id(turn)] == id(turn)
        before = turn.follows if is_head and turn.follows else last.get(branch)
        kept, earlier = _new(turn, before)
        from_place = places.get(id(turn.follows), 0) if is_head else 0
        found.append(Row(turn, places[id(turn)], branch, from_place, _pause(before, turn), earlier, kept))
        last[branch] = turn
    return found


def _forks(turns: tuple[Turn, ...]) -> _Forks:
    """A turn that several follow is a fork; its longest line goes on, and what failed at once is no branch."""
    followers: defaultdict[int, list[Turn]] = defaultdict(list)
    for turn in turns:
        if turn.follows is not None:
            followers[id(turn.follows)].append(turn)
    length: dict[int, int] = {}
    for turn in reversed(turns):
        length[id(turn)] = 1 + max((length.get(id(each), 0) for each in followers[id(turn)]), default=0)
    heads = {id(head) for before in list(followers.values()) for head in _branches(before, followers, length)}
    forks = _Forks()
    for turn in turns:
        forks.line[id(turn)] = id(turn) if id(turn) in heads else forks.line.get(id(turn.follows), 0)
        if id(turn) in heads:
            forks.heads[id(turn.follows)].append(turn)
    return forks


def _branches(after: list[Turn], followers: dict[int, list[Turn]], length: dict[int, int]) -> list[Turn]:
    """Those of the turns that follow one turn with which branches begin."""
    lines = [each for each in after if followers[id(each)] or not each.failed]
    longest = max(lines, key=lambda each: length[id(each)], default=None)
    return [each for each in lines if each is not longest]


def _walk(by_line: dict[int, list[Turn]], forks: _Forks) -> Iterator[tuple[Turn, int]]:
    """Each turn with the depth of its branch, without calling itself: branches may go out of branches, many times."""
    stack = [(iter(by_line[0]), 0)]
    while stack:
        line, depth = stack[-1]
        turn = next(line, None)
        if turn is None:
            stack.pop()
            continue
        yield turn, depth
        stack.extend((iter(by_line[id(head)]), depth + 1) for head in reversed(forks.heads.get(id(turn), ())))


def _pause(before: Turn | None, turn: Turn) -> int | None:
    return turn.start - before.end if before and turn.start >= before.end else None


def _new(turn: Turn, before: Turn | None) -> tuple[tuple[Message, ...], int]:
    """What of a turn's input was not said before, and how many messages were."""
    before = turn.follows or before
    if before is None or turn.attribute(semconv.LLM_SESSION_CONTENT) == "delta":
        return turn.input, 0
    said = (*before.input, *before.output)
    same = 0
    for one, other in zip(turn.input, said, strict=False):
        if _compared(one) != _compared(other):
            break
        same += 1
    return turn.input[same:], same


def _compared(message: Message) -> tuple[object, ...]:
    """What two copies of a message share; a copy in a history has lost the reason why the model stopped."""
    return message.role, tuple((part.kind, part.text, part.name) for part in message.parts if part.kind != "reasoning")
