"""What the server remembers: responses and conversations, the newest of each."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from otel_llm_sessions.demo.provider.reply import Json

CAPACITY = 10_000

Kept = TypeVar("Kept")


@dataclass
class StoredResponse:
    """A finished response; `pending` while a background response has not been asked for."""

    response: Json
    input_items: list[Json]
    context: int
    pending: bool = False


@dataclass
class Conversation:
    """A conversation and its items, oldest first."""

    id: str
    created_at: int
    metadata: Json
    items: list[Json] = field(default_factory=list)
    context: int = 0

    def document(self) -> Json:
        """The object the API shows."""
        shown: Json = {"id": self.id, "object": "conversation", "created_at": self.created_at}
        return {**shown, "metadata": self.metadata}


class Shelf(Generic[Kept]):
    """A bounded dictionary for many threads; the oldest entry gives way."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, Kept] = OrderedDict()

    def put(self, key: str, entry: Kept) -> None:
        """Remember the entry, as the newest."""
        with self._lock:
            self._entries[key] = entry
            self._entries.move_to_end(key)
            if len(self._entries) > self._capacity:
                self._entries.popitem(last=False)

    def get(self, key: str) -> Kept | None:
        """The entry, or None."""
        with self._lock:
            return self._entries.get(key)

    def pop(self, key: str) -> Kept | None:
        """Forget the entry and return it, or None."""
        with self._lock:
            return self._entries.pop(key, None)
