"""What a stream has brought of output items and tool calls, in the shape that whole replies have them in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from otel_llm_sessions.openai.fields import field
from otel_llm_sessions.openai.pieces import Pieces
from otel_llm_sessions.sessions.names import id_of

MAX_ITEMS: Final = 128
"""How many items, or ids of tool calls, are remembered of one stream."""


class Streamed:
    """The output items, or the tool calls, of one stream so far."""

    __slots__ = ("_calls", "_items", "_pieces")

    def __init__(self) -> None:
        self._items: dict[int, Any] = {}
        self._calls: dict[str, None] = {}
        self._pieces: Pieces | None = None

    def add_item(self, place: Any, item: Any) -> None:
        """Remember an output item.

        Args:
            place: where it stands in the output, if the event says so.
            item: the item, or as much of it as is certain.
        """
        items, key = self._items, place if type(place) is int else len(self._items)
        if len(items) == MAX_ITEMS and key not in items:
            del items[next(iter(items))]
        items[key] = item

    def add_calls(self, chunk: Any, calls: Iterable[Any]) -> bool:
        """Remember what a chunk brings of tool calls; return whether it brought the first id."""
        if self._pieces is None:
            self._pieces = Pieces()
        self._pieces.add(chunk)
        known = len(self._calls)
        for call in calls:
            id_ = id_of(field(call, "id"))
            if id_ is not None and known < MAX_ITEMS:
                self._calls[id_] = None
        return not known and bool(self._calls)

    def said(self, name: str, reasons: Mapping[Any, str | None]) -> Iterator[Any]:
        """Yield what a whole reply would say in a field.

        Args:
            name: the field.
            reasons: the finish reasons of choices so far. Of tool calls that are not complete only the ids are told.
        """
        if name == "output" and self._items:
            yield [*self._items.values()]
        elif name == "choices" and self._pieces is not None:
            if any(reason not in (None, "error") for reason in reasons.values()):
                yield [{"message": message} for message in self._pieces.messages()]
            else:
                yield [{"message": {"tool_calls": [{"id": id_} for id_ in self._calls]}}]
