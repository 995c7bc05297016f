"""What was said in a turn, for a terminal: roles apart, tool calls with their arguments and results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from rich.text import Text

from otel_llm_sessions.view.terminal.facts import grouped
from otel_llm_sessions.view.terminal.printable import printable, printable_lines
from otel_llm_sessions.view.turns import Turn
from otel_llm_sessions.view.words import Message, MessagePart

INDENT: Final = "  "
ROLES: Final = {"user": "bold green", "assistant": "bold cyan", "tool": "bold yellow", "system": "bold magenta"}


def said_in(turn: Turn) -> Iterator[Text]:
    """Yield each message of a turn as some lines: who says it, then what; last what went wrong, and what is missing."""
    for message in (*turn.input, *turn.output):
        yield _message(message)
    if turn.error:
        yield Text("\n").join(_block(printable(turn.error), "bold red", turn.error_text or "", "red"))
    for notice in turn.notices:
        yield Text(printable(notice), "dim yellow")


def _message(message: Message) -> Text:
    """One message; a single thing that is no text stands on the line of who says it."""
    lines = [Text(printable(message.role) or "?", ROLES.get(message.role, "bold"))]
    for part in message.parts:
        lines += _part(part)
    return Text("\n").join(lines)


def _part(part: MessagePart) -> Iterator[Text]:
    head = HEADS[part.kind](part) if part.kind in HEADS else f"[{printable(part.kind) or '?'}]"
    style = "italic dim" if part.kind == "reasoning" else "red" if part.kind == "refusal" else ""
    if head:
        yield from (Text(INDENT + line.plain, line.style) for line in _block(head, "yellow", part.text, style))
    else:
        yield from (Text(INDENT + line, style) for line in printable_lines(part.text))


def _block(head: str, head_style: str, text: str, style: str) -> Iterator[Text]:
    yield Text(head, head_style)
    if text:
        yield from (Text(INDENT + line, style) for line in printable_lines(text))


def _media(part: MessagePart) -> str:
    size = "" if part.size is None else f", {grouped(part.size)} bytes"
    return f"[{printable(part.media) or part.kind}{size}]"


HEADS: Final[dict[str, Callable[[MessagePart], str]]] = {
    "text": lambda part: "",
    "reasoning": lambda part: "reasoning",
    "refusal": lambda part: "refuses",
    "tool_call": lambda part: " ".join(filter(None, ("calls", printable(part.name), printable(part.id)))),
    "tool_call_response": lambda part: " ".join(filter(None, ("result of", printable(part.name or part.id)))),
    "blob": _media,
    "uri": _media,
}
"""What stands above a part, by its kind; nothing above words."""
