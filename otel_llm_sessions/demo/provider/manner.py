"""How the server answers a request; a server for tests has other manners."""

from __future__ import annotations

from otel_llm_sessions.demo.provider.ids import Ids
from otel_llm_sessions.demo.provider.reply import DONE, EVENT_STREAM, Json, Reply, chat_event, document, typed_event


class Manner:
    """How OpenAI answers when all goes well.

    Attributes:
        status: how a response ends: ``completed``, ``incomplete`` or ``failed``.
        counts: whether replies say how many tokens were used.
        charges: whether replies say what they cost, as OpenRouter's do.
    """

    status = "completed"
    counts = True
    charges = False

    def ids(self) -> Ids:
        """Return what makes the ids of one reply."""
        return Ids()

    def plain(self, value: Json) -> Reply:
        """Return a document as a reply."""
        return document(value)

    def stream(self, events: list[Json], typed: bool) -> Reply:
        """Return events as a stream, one chunk for each; ``typed`` ones are the Responses API's."""
        chunks = [*map(typed_event, events)] if typed else [*map(chat_event, events), DONE]
        return Reply(content_type=EVENT_STREAM, chunks=tuple(chunks))


class Charging(Manner):
    """How OpenRouter answers: as OpenAI, and with what it costs."""

    charges = True
