"""Sessions as a table, one row each; on a terminal that is too narrow for one, as a few short lines each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from otel_llm_sessions.view.costs import Cost
from otel_llm_sessions.view.summaries import Summary
from otel_llm_sessions.view.terminal.facts import beginning, both_ends, grouped, moment_cut, moment_shown
from otel_llm_sessions.view.terminal.printable import printable

GAP: Final = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table."""

    title: str
    text: Callable[[Summary], str]
    style: str = ""
    right: bool = False
    least: int = 0
    """To how many columns it may be shortened; 0: never."""
    shortened: Callable[[str, int], str] = beginning
    is_needed: bool = True
    """Whether it stays where the terminal is narrow."""

    def head(self, width: int) -> Text:
        """The title, padded to the width."""
        return Text(self.padded(self.title, width), "bold dim")

    def padded(self, text: str, width: int) -> str:
        """The text with spaces before or after it."""
        space = " " * (width - cell_len(text))
        return space + text if self.right else text + space


def table(sessions: Sequence[Summary], width: int) -> Text:
    """Return the sessions as lines of a table. Columns in which no session has anything are left out.

    Args:
        sessions: in the order in which they are to stand.
        width: columns that there are; what does not fit is shortened, or everything is put below each other.
    """
    columns = [column for column in COLUMNS if any(map(column.text, sessions))]
    for shown in (columns, [column for column in columns if column.is_needed]):
        rows = [[column.text(session) for column in shown] for session in sessions]
        widths = _fitted(shown, [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)], width)
        if widths:
            lines = [_line([column.head(size) for column, size in zip(shown, widths, strict=True)])]
            lines += [_line(_cells(shown, row, widths)) for row in rows]
            return Text("\n").join(lines)
    return Text("\n\n").join(Text("\n").join(_below_each_other(session, width)) for session in sessions)


def _fitted(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int] | None:
    """How wide each column is; None if there is no way.

    Times are shortened first, since they lose least, then whichever is widest.
    """
    widths = [max(size, cell_len(column.title)) for column, size in zip(columns, natural, strict=True)]
    least = [min(size, column.least or size) for column, size in zip(columns, widths, strict=True)]
    spare = width - sum(widths) - len(GAP) * (len(widths) - 1)
    while spare < 0:
        able = [at for at, size in enumerate(widths) if size > least[at]]
        if not able:
            return None
        widths[max(able, key=lambda at: (columns[at].shortened is moment_cut, widths[at]))] -= 1
        spare += 1
    return widths


def _cells(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> Iterator[Text]:
    for column, text, width in zip(columns, row, widths, strict=True):
        yield Text(column.padded(column.shortened(text, width), width), column.style)


def _line(cells: Sequence[Text] | Iterator[Text]) -> Text:
    line = Text(GAP).join(cells)
    line.rstrip()
    return line


def _below_each_other(session: Summary, width: int) -> Iterator[Text]:
    yield Text(both_ends(_id(session), width), "bold cyan")
    line: list[Text] = []
    for fact in _facts(session):
        fact.truncate(max(width - len(GAP), 1), overflow="ellipsis")
        if line and sum(len(GAP) + each.cell_len for each in (*line, fact)) > width:
            yield Text.assemble(GAP, Text(GAP).join(line))
            line = []
        line.append(fact)
    yield Text.assemble(GAP, Text(GAP).join(line))


def _facts(session: Summary) -> Iterator[Text]:
    """What is known of a session, in words; each fact stands on one line."""
    said = [
        (_name(session), "bold"),
        (f"of {_user(session)}" if session.user else "", ""),
        (f"{grouped(session.turns)} turn{'s' if session.turns != 1 else ''}", ""),
        (_models(session), ""),
        (f"{_input(session) or '?'} → {_output(session) or '?'} tokens" if _tokens_known(session) else "", "magenta"),
        (_cost(session), "magenta"),
        (f"{_errors(session)} failed" if session.errors else "", "bold red"),
        (" to ".join(filter(None, (_first(session), moment_shown(session.last, after=session.first)))), "dim"),
    ]
    yield from (Text(text, style) for text, style in said if text)


def _id(session: Summary) -> str:
    return printable(session.id)


def _name(session: Summary) -> str:
    return printable(session.name or "")


def _user(session: Summary) -> str:
    return printable(session.user or "")


def _models(session: Summary) -> str:
    return ", ".join(map(printable, session.models))


def _input(session: Summary) -> str:
    return "" if session.input_tokens is None else grouped(session.input_tokens)


def _output(session: Summary) -> str:
    return "" if session.output_tokens is None else grouped(session.output_tokens)


def _tokens_known(session: Summary) -> bool:
    return session.input_tokens is not None or session.output_tokens is not None


def _cost(session: Summary) -> str:
    return "" if session.cost is None else printable(Cost(session.cost, session.currency or ""))


def _errors(session: Summary) -> str:
    return grouped(session.errors) if session.errors else ""


def _first(session: Summary) -> str:
    return moment_shown(session.first)


def _last(session: Summary) -> str:
    return moment_shown(session.last)


COLUMNS: Final[tuple[Column, ...]] = (
    Column("id", _id, "bold cyan", least=12, shortened=both_ends),
    Column("name", _name, "bold", least=8),
    Column("user", _user, least=8, shortened=both_ends),
    Column("turns", lambda session: grouped(session.turns), right=True),
    Column("models", _models, least=8),
    Column("in", _input, "magenta", right=True),
    Column("out", _output, "magenta", right=True),
    Column("cost", _cost, "magenta", right=True),
    Column("errors", _errors, "bold red", right=True),
    Column("first", _first, "dim", least=11, shortened=moment_cut, is_needed=False),
    Column("last", _last, "dim", least=11, shortened=moment_cut),
)
