"""What the server remembers: responses and conversations, the newest of each."""

from __future__ import annotations

from dataclasses import dataclass, field

from otel_llm_sessions.demo.provider.reply import Json

CAPACITY = 10_000
"""How many of each."""

FETCHES = 2
"""How often a background response is fetched until it is complete: first it is in progress."""


@dataclass
class StoredResponse:
    """A finished response; `pending` tells how many fetches still find a background response unfinished."""

    response: Json
    input_items: list[Json]
    context: int
    pending: int = 0


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
