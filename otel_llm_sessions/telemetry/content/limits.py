"""How much of a content is recorded: what is left of it, as the JSON of its attributes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from otel_llm_sessions import semconv
from otel_llm_sessions.cheap import value
from otel_llm_sessions.telemetry.content.plain import UNLIMITED, Plain, encode
from otel_llm_sessions.telemetry.content.values import Content, Json

MAX_BYTES: Final = 256 * 1024
"""Bytes of all contents of one span."""

BRACKETS: Final = 2

ATTRIBUTES: Final = (
    semconv.INPUT_MESSAGES,
    semconv.OUTPUT_MESSAGES,
    semconv.SYSTEM_INSTRUCTIONS,
    semconv.TOOL_DEFINITIONS,
)
"""The attributes that the lists of a content become, in their order."""


@value
class Limited:
    """What is recorded of a content."""

    content: Content
    texts: dict[str, str]
    """Its lists in JSON, by attribute; those that are empty are left out."""
    cut: int
    """How many characters are left out."""


def limited(content: Content, limit: int, longest: int | None) -> Limited:
    """Return what may be recorded of a content.

    Args:
        content: the content, of anything that JSON can say.
        limit: characters of one text.
        longest: characters of one attribute; None if it may have any number.
    """
    plain = Plain(limit)
    kept = plain.content(content)
    room = _Room(UNLIMITED if longest is None else longest)
    # What is most of use comes first: the reply and what it replies to, then what holds for all of the conversation.
    output = _Shelf(room).fill(kept.output)
    newest = _Shelf(room).fill(kept.input[-1:])
    instructions, tools = _Shelf(room).fill(kept.system_instructions), _Shelf(room).fill(kept.tool_definitions)
    messages = newest.fill_before(kept.input[:-1])
    shelves = (messages, output, instructions, tools)
    texts = {name: shelf.text() for name, shelf in zip(ATTRIBUTES, shelves, strict=True) if shelf.texts}
    left = Content(messages.items, output.items, instructions.items, tools.items, kept.error)
    return Limited(left, texts, plain.cut + room.cut)


class _Room:
    """How much there is room for, in all and in each attribute."""

    __slots__ = ("cut", "left", "longest")

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.left = MAX_BYTES
        self.cut = 0


class _Shelf:
    """The elements of one attribute."""

    __slots__ = ("_is_full", "_left", "_room", "items", "texts")

    def __init__(self, room: _Room) -> None:
        self._room = room
        self._left = room.longest - BRACKETS
        self._is_full = False
        self.items: list[Json] = []
        self.texts: list[str] = []

    def fill(self, items: Iterable[Json]) -> _Shelf:
        """Take elements as long as there is room; the first is cut where it would not fit."""
        for item in items:
            if not self._take(item, encode(item)) and not self.texts:
                self._take_cut(item)
        return self

    def fill_before(self, items: Iterable[Json]) -> _Shelf:
        """Take elements in front of what is there, the last ones first, as long as there is room."""
        newest, texts = self.items, self.texts
        self.items, self.texts = [], []
        for item in reversed([*items]):
            self._take(item, encode(item))
        self.items, self.texts = [*reversed(self.items), *newest], [*reversed(self.texts), *texts]
        return self

    def text(self) -> str:
        """Return the JSON of all."""
        return f"[{','.join(self.texts)}]"

    def _take(self, item: Json, text: str) -> bool:
        size = _size(text)
        if self._is_full or len(text) > self._left or size > self._room.left:
            self._is_full = True
            self._room.cut += len(text)
            return False
        self._left -= len(text) + 1
        self._room.left -= size + 1
        self.items.append(item)
        self.texts.append(text)
        return True

    def _take_cut(self, item: Json) -> None:
        """Take an element with as much of its texts and parts as there is room for, instead of none of it."""
        room, limit = self._room, min(self._left, self._room.left)
        without = room.cut
        if _size(encode(Plain(0).of(item))) > limit // 2:  # it is not its texts that are long
            item = _fewer(item, limit // 2)
        while limit > 0:
            plain = Plain(limit)
            shorter = plain.of(item)
            self._is_full = False
            if self._take(shorter, encode(shorter)):
                room.cut = max(0, without - len(encode(item)) + plain.cut)
                break
            room.cut = without
            limit //= 2
        self._is_full = True


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _fewer(item: Json, room: int) -> Json:
    """Return a message with as many of its parts as there is room for; of anything else its lists as texts."""
    parts = item.get("parts") if isinstance(item, dict) else None
    if not parts or not isinstance(parts, list):
        return _flat(item)
    kept: list[Json] = []
    for part in parts:
        room -= _size(encode(part))
        if room < 0:
            break
        kept.append(part)
    return {**item, "parts": kept or [_flat(parts[0])]}


def _flat(item: Json) -> Json:
    """Return a value in which texts stand for what is made of several, so that it can be cut."""
    if not isinstance(item, dict):
        return encode(item)
    return {name: encode(said) if isinstance(said, (dict, list)) else said for name, said in item.items()}
