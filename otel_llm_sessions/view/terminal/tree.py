"""Sessions as trees on a terminal: one line per turn, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.text import Text
from rich.tree import Tree

from otel_llm_sessions import semconv
from otel_llm_sessions.view.sessions import Session
from otel_llm_sessions.view.spans import ReceivedSpan
from otel_llm_sessions.view.terminal.facts import beginning, both_ends, duration_shown, grouped
from otel_llm_sessions.view.terminal.printable import printable
from otel_llm_sessions.view.terminal.said import said_in
from otel_llm_sessions.view.turns import Node, Turn
from otel_llm_sessions.view.words import asked_in

LONGEST_ID: Final = 48
LONGEST_WORDS: Final = 40
FIRST_OF_WORDS: Final = 1_000
"""Characters that are looked at to find so few."""
GAP: Final = "  "
DEEPEST: Final = 16
"""Levels that are drawn as such; what lies deeper stands below the last of them, in its order."""
GUIDE: Final = 4
"""Columns that one level of a tree takes."""


@dataclass(frozen=True, slots=True)
class Look:
    """How trees are drawn.

    Args:
        width: the columns of the terminal; None where nothing has to fit, and ids are whole.
        with_content: whether all that was said stands below each turn.
    """

    width: int | None = None
    with_content: bool = False

    def shortened(self, text: object) -> str:
        """Something that came from a span, on one line, or its two ends where it is too long for a terminal."""
        return both_ends(printable(text), LONGEST_ID) if self.width else printable(text)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a turn's line."""

    text: Callable[[Turn, Look], str]
    style: Callable[[Turn], str]
    right: bool = False

    def cell(self, turn: Turn, look: Look, width: int) -> Text:
        """The turn's text, padded to the width."""
        text = self.text(turn, look)
        space = " " * (width - cell_len(text))
        return Text(space + text if self.right else text + space, self.style(turn))


def trees(sessions: Iterable[Session], width: int | None = None) -> list[Tree]:
    """One tree per session, to be printed by rich.

    Args:
        sessions: the sessions.
        width: the columns of the terminal; None for what is none.
    """
    return [tree(session, Look(width)) for session in sessions]


def tree(session: Session, look: Look) -> Tree:
    """The session with its turns, and what else was started inside, below it."""
    widths = [max((cell_len(column.text(turn, look)) for turn in session.turns), default=0) for column in COLUMNS]
    if look.width and GUIDE + sum(width + len(GAP) for width in widths if width) - len(GAP) > look.width:
        widths = [int(width > 0) for width in widths]
    drawn = Tree(_heading(session, look), guide_style="dim")
    _grow(drawn, session.nodes, widths, look)
    return drawn


def _grow(top: Tree, nodes: Sequence[Node], widths: Sequence[int], look: Look) -> None:
    """Add the nodes and all below them; without recursion, since spans lie as deep as whoever sends them likes."""
    left = [(top, iter(nodes))]
    while left:
        above, siblings = left[-1]
        node = next(siblings, None)
        if node is None:
            left.pop()
            continue
        branch = above.add(_line(node.turn, widths, look) if node.turn else _other(node.span, look))
        if node.turn and look.with_content:
            for said in said_in(node.turn):
                branch.add(said)
        left.append((branch if len(left) < DEEPEST else above, iter(node.children)))


def _line(turn: Turn, widths: Sequence[int], look: Look) -> Text:
    cells = [column.cell(turn, look, width) for column, width in zip(COLUMNS, widths, strict=True) if width]
    line = Text(GAP).join(cell for cell in cells if cell)
    line.rstrip()
    return line


def _other(span: ReceivedSpan, look: Look) -> Text:
    judged = [span.attributes.get(name) for name in (semconv.EVALUATION_SCORE_VALUE, semconv.EVALUATION_SCORE_LABEL)]
    said = " ".join(f"{each:g}" if isinstance(each, float) else printable(each) for each in judged if each is not None)
    return Text(f"{look.shortened(span.name)}{GAP}{said or duration_shown(span.end - span.start)}", "dim")


def _heading(session: Session, look: Look) -> Text:
    number = len(session.turns)
    parts = [
        (f"session {look.shortened(session.id)}", "bold cyan"),
        (look.shortened(session.name), "bold"),
        (f"of {look.shortened(session.user)}" if session.user else "", ""),
        (" ".join(f"#{look.shortened(tag)}" for tag in session.tags), "yellow"),
        (" ".join(map(look.shortened, session.services)), "bold"),
        *((f"started by {look.shortened(parent)}", "blue") for parent in session.parents),
        *((f"started {look.shortened(child)}", "blue") for child in session.children),
        (f"{grouped(number)} turn{'s' if number != 1 else ''}", ""),
        (_arrow(session.input_tokens, session.output_tokens), ""),
        (" + ".join(map(printable, session.costs)), ""),
        (GAP.join(f"trace {part.trace_id}" for part in session.parts), "dim"),
    ]
    return Text(GAP).join(Text(text, style) for text, style in parts if text)


def _number(turn: Turn, look: Look) -> str:
    return str(turn.number or "?")


def _name(turn: Turn, look: Look) -> str:
    operation = turn.span.name if turn.is_marker else turn.operation
    return look.shortened(f"{operation} {turn.model or ''}".strip() or turn.span.name)


def _words(turn: Turn, look: Look) -> str:
    """The first words, except where all of them stand below."""
    said = "" if look.with_content else asked_in(turn.attributes)
    return f"“{beginning(printable(said[:FIRST_OF_WORDS]), LONGEST_WORDS)}”" if said else ""


def _tokens(turn: Turn, look: Look) -> str:
    return _arrow(turn.input_tokens, turn.output_tokens)


def _arrow(asked: int | None, told: int | None) -> str:
    if asked is told is None:
        return ""
    return f"{'?' if asked is None else grouped(asked)} → {'?' if told is None else grouped(told)} tokens"


def _cost(turn: Turn, look: Look) -> str:
    return "" if turn.price is None else printable(turn.price)


def _duration(turn: Turn, look: Look) -> str:
    return duration_shown(turn.end - turn.start)


def _status(turn: Turn, look: Look) -> str:
    return look.shortened(turn.error) if turn.error else "ok"


def _source(turn: Turn, look: Look) -> str:
    return f"found by {look.shortened(turn.source)}" if turn.source else ""


def _place(turn: Turn, look: Look) -> str:
    """Where the call itself stands, when that is not the session's trace."""
    if turn.call is None:
        return "──▶ a span that did not arrive"
    if turn.request is None and not turn.is_marker:
        return ""
    arrow = "──▶" if turn.is_marker else "in"
    trace = f"{turn.trace_id[:8]}…" if look.width else turn.trace_id
    return f"{arrow} {look.shortened((turn.request or turn.call).name)} (trace {trace})"


def traces_of(session: Session) -> Iterator[tuple[str, str]]:
    """The session's traces, each once: its id, and in a word what of the session is in it."""
    shown = set()
    named = [(part.trace_id, f"part {part.number}") for part in session.parts]
    named += [(turn.trace_id, f"turn {turn.number or '?'}") for turn in session.turns]
    for trace_id, what in named:
        if trace_id not in shown:
            shown.add(trace_id)
            yield trace_id, what


COLUMNS: Final[tuple[Column, ...]] = (
    Column(_number, lambda turn: "bold", right=True),
    Column(_name, lambda turn: ""),
    Column(_words, lambda turn: "italic"),
    Column(_tokens, lambda turn: "magenta", right=True),
    Column(_cost, lambda turn: "magenta", right=True),
    Column(_duration, lambda turn: "dim", right=True),
    Column(_status, lambda turn: "bold red" if turn.failed else "green"),
    Column(_source, lambda turn: "yellow"),
    Column(_place, lambda turn: "blue"),
)
