"""The output of a streamed response, put together from what has been read of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.words.plain import fields_in

ITEM_ADDED: Final = "response.output_item.added"
ITEM_DONE: Final = "response.output_item.done"
DELTA: Final = ".delta"

MOST: Final = 1024
"""Items of one output."""

MAX_SIZE: Final = 4 * 1024 * 1024
"""Characters that are kept of items which are not done."""

PARTS: Final = {
    "response.output_text.delta": ("message", "content", "output_text", "text"),
    "response.refusal.delta": ("message", "content", "refusal", "refusal"),
    "response.reasoning_text.delta": ("reasoning", "content", "reasoning_text", "text"),
    "response.reasoning_summary_text.delta": ("reasoning", "summary", "summary_text", "text"),
}
"""Events that bring a piece of a part: of which kind of item, in which of its fields, of what kind, and where in it."""

FIELDS: Final = {
    "response.function_call_arguments.delta": ("function_call", "arguments"),
    "response.custom_tool_call_input.delta": ("custom_tool_call", "input"),
    "response.mcp_call_arguments.delta": ("mcp_call", "arguments"),
    "response.code_interpreter_call_code.delta": ("code_interpreter_call", "code"),
}
"""Events that bring a piece of a field: of which kind of item, and of which field."""

Piece = tuple[int, str, int]
"""What a piece is of: the item, by its place in the output; the kind of event; the part, by its place in the item."""


class Events:
    """What has come of one response's output.

    Example::

        events = Events()
        for event in stream:
            events.add(event)
        events.items()  # as ``output`` has them; the last may have come in part
    """

    __slots__ = ("_begun", "_done", "_pieces", "_size")

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}
        self._begun: dict[int, Any] = {}
        self._pieces: dict[Piece, list[str]] = {}
        self._size = 0

    def add(self, event: Any) -> bool:
        """Take in an event: a model, a dict, or whatever a server sent in its place; it never ends a choice."""
        try:
            said = event.__dict__
            kind = said["type"]
        except (AttributeError, KeyError, TypeError) as odd:
            pass_on(odd)
            said = fields_in(event) or {}
            kind = said.get("type")
        if type(kind) is not str:
            return False
        if kind.endswith(DELTA):
            self._add_piece(kind, said.get)
        elif kind in (ITEM_DONE, ITEM_ADDED):
            self._add_item(kind, said.get("output_index"), said.get("item"))
        return False

    def _add_piece(self, kind: str, get: Callable[[str], Any]) -> None:
        text, place = get("delta"), get("output_index")
        if type(text) is not str or self._size > MAX_SIZE:
            return
        self._size += len(text)
        part = get("content_index")
        if part is None:
            part = get("summary_index")
        key = (place if type(place) is int else MOST, kind, part if type(part) is int else 0)
        pieces = self._pieces.get(key)
        if pieces is None:
            self._pieces[key] = [text]
        else:
            pieces.append(text)

    def _add_item(self, kind: str, place: Any, item: Any) -> None:
        items = self._done if kind == ITEM_DONE else self._begun
        if type(place) is not int:
            place = len(items)
        if len(items) < MOST:
            items[place] = item
        if kind == ITEM_DONE:
            for key in [key for key in self._pieces if key[0] == place]:
                self._size -= sum(map(len, self._pieces.pop(key)))

    def items(self) -> list[Any]:
        """Return the items so far, in order; those that are not done as far as they have come."""
        begun = {place: fields_in(item) or {} for place, item in self._begun.items() if place not in self._done}
        unfinished: dict[int, dict[Any, Any]] = {place: dict(fields) for place, fields in begun.items()}
        for key, pieces in self._pieces.items():
            _add_to(unfinished.setdefault(key[0], {}), key[1], "".join(pieces))
        items = {**unfinished, **self._done}
        return [items[place] for place in sorted(items)]


def _add_to(item: dict[Any, Any], event: str, text: str) -> None:
    """Add what the pieces of one kind of event have brought to an item that is not done."""
    if event in PARTS:
        kind, name, part, inner = PARTS[event]
        parts = item.get(name)
        item[name] = [*(parts if isinstance(parts, (list, tuple)) else ()), {"type": part, inner: text}]
    elif event in FIELDS:
        kind, name = FIELDS[event]
        item[name] = text
    else:
        kind = event.removeprefix("response.").removesuffix(DELTA)
        item[kind] = text
    item.setdefault("type", kind)
