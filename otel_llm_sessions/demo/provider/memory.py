"""What the server remembers: responses and conversations, the newest of each."""

from __future__ import annotations

from dataclasses import dataclass, field

from otel_llm_sessions.demo.provider.reply import Json

CAPACITY = 10_000
"""How many of each."""


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
