"""Sessions as trees on a terminal: one line per turn, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text
from rich.tree import Tree

from otel_llm_sessions import semconv
from otel_llm_sessions.view.sessions import Session
from otel_llm_sessions.view.spans import ReceivedSpan
from otel_llm_sessions.view.turns import Node, Turn
from otel_llm_sessions.view.words import asked_in

LONGEST_ID: Final = 48
LONGEST_WORDS: Final = 40
GAP: Final = "  "
MILLISECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a turn's line."""

    text: Callable[[Turn], str]
    style: Callable[[Turn], str]
    right: bool = False

    def cell(self, turn: Turn, width: int) -> Text:
        """The turn's text, padded to the width."""
        text = self.text(turn)
        return Text(text.rjust(width) if self.right else text.ljust(width), self.style(turn))


def trees(sessions: Iterable[Session]) -> list[Tree]:
    """One tree per session, to be printed by rich."""
    return [tree(session) for session in sessions]


def tree(session: Session) -> Tree:
    """The session with its turns, and what else was started inside, below it."""
    widths = [max((len(column.text(turn)) for turn in session.turns), default=0) for column in COLUMNS]
    drawn = Tree(_heading(session), guide_style="dim")
    _grow(drawn, session.nodes, widths)
    return drawn


def shortened(text: str, longest: int = LONGEST_ID) -> str:
    """The text, or its two ends when it is too long."""
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def first_words(text: str, longest: int = LONGEST_WORDS) -> str:
    """The text, or its first words when it is too long."""
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def _grow(tree: Tree, nodes: Sequence[Node], widths: list[int]) -> None:
    for node in nodes:
        label = _line(node.turn, widths) if node.turn else _other(node.span)
        _grow(tree.add(label), node.children, widths)


def _line(turn: Turn, widths: list[int]) -> Text:
    cells = [column.cell(turn, width) for column, width in zip(COLUMNS, widths, strict=True) if width]
    line = Text(GAP).join(cells)
    line.rstrip()
    return line


def _other(span: ReceivedSpan) -> Text:
    judged = [span.attributes.get(name) for name in (semconv.EVALUATION_SCORE_VALUE, semconv.EVALUATION_SCORE_LABEL)]
    said = " ".join(f"{each:g}" if isinstance(each, float) else str(each) for each in judged if each is not None)
    return Text(f"{span.name}{GAP}{said or _milliseconds(span)}", "dim")


def _heading(session: Session) -> Text:
    number = len(session.turns)
    parts = [
        (f"session {shortened(session.id)}", "bold cyan"),
        (shortened(session.name), "bold"),
        (f"of {shortened(session.user)}" if session.user else "", ""),
        (" ".join(f"#{shortened(tag)}" for tag in session.tags), "yellow"),
        (" ".join(session.services), "bold"),
        (f"{number} turn{'s' if number != 1 else ''}", ""),
        (_total_tokens(session), ""),
        (" + ".join(map(str, session.costs)), ""),
        (GAP.join(f"trace {part.trace_id}" for part in session.parts), "dim"),
    ]
    return Text(GAP).join(Text(text, style) for text, style in parts if text)


def _total_tokens(session: Session) -> str:
    asked, told = session.input_tokens, session.output_tokens
    return "" if asked is told is None else _arrow(asked, told)


def _number(turn: Turn) -> str:
    return str(turn.number or "?")


def _name(turn: Turn) -> str:
    operation = turn.span.name if turn.is_marker else str(turn.attribute(semconv.OPERATION_NAME) or "")
    model = turn.attribute(semconv.RESPONSE_MODEL) or turn.attribute(semconv.REQUEST_MODEL) or ""
    return f"{operation} {model}".strip() or turn.span.name


def _tokens(turn: Turn) -> str:
    asked, told = turn.input_tokens, turn.output_tokens
    return "" if asked is told is None else _arrow(asked, told)


def _cost(turn: Turn) -> str:
    return "" if turn.price is None else str(turn.price)


def _arrow(asked: int | None, told: int | None) -> str:
    return f"{'?' if asked is None else asked} → {'?' if told is None else told} tokens"


def _duration(turn: Turn) -> str:
    return _milliseconds(turn.call or turn.span)


def _milliseconds(span: ReceivedSpan) -> str:
    return f"{(span.end - span.start) / MILLISECOND:.0f} ms"


def _status(turn: Turn) -> str:
    return str(turn.attribute(semconv.ERROR_TYPE) or "error") if turn.failed else "ok"


def _source(turn: Turn) -> str:
    source = turn.attribute(semconv.LLM_SESSION_SOURCE)
    return f"found by {source}" if source else ""


def _words(turn: Turn) -> str:
    said = asked_in((turn.call or turn.span).attributes)
    return f"“{first_words(said)}”" if said else ""


def _place(turn: Turn) -> str:
    """Where the call itself stands, when that is not the session's trace."""
    if turn.call is None:
        return "──▶ a span that did not arrive"
    if turn.request is None and not turn.is_marker:
        return ""
    arrow = "──▶" if turn.is_marker else "in"
    return f"{arrow} {(turn.request or turn.call).name} (trace {turn.call.trace_id[:8]}…)"


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
