"""Requests to ``/conversations``: which items belong to a conversation, for the turns that only echo those.

They have no span and no metrics. What they say is remembered as what a turn leaves is: under the keys of the items, and
of what stands for the conversation in requests, there is the conversation's newest turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from opentelemetry.context import Context

from otel_llm_sessions.openai.added import note
from otel_llm_sessions.openai.call import NOWHERE, Call
from otel_llm_sessions.openai.evidence import left_by_conversation, left_by_items
from otel_llm_sessions.openai.fields import field, mapping
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.routes import Match
from otel_llm_sessions.openai.runtime import Runtime
from otel_llm_sessions.openai.server import Server
from otel_llm_sessions.sessions.link import Record, SessionId, SessionLink
from otel_llm_sessions.sessions.names import name_of_conversation
from otel_llm_sessions.sessions.resolver import NOTHING_TOLD, Evidence
from otel_llm_sessions.sessions.sources import Given
from otel_llm_sessions.telemetry.call_span import UnseenSpan

NO_TURN: Final = 0
"""The number of the newest turn of a conversation of which no turn is known."""


class ConversationCall(Call):
    """A request to ``/conversations`` on its way: a call that nobody sees."""

    __slots__ = ("_items",)

    def __init__(
        self,
        runtime: Runtime,
        match: Match,
        server: Server,
        sent: tuple[Any, ...],
        made_in: Context,
        sending: list[object],
    ) -> None:
        """Begin a call.

        Args:
            runtime: the running instrumentation.
            match: the route of the request.
            server: whom the client talks to.
            sent: what ``request.SENT`` reads of the client's options.
            made_in: the context in which it is made.
            sending: what tells the request from others, to be emptied when it has been sent.
        """
        super().__init__(runtime, _request_of(match, server, runtime), made_in, made_in, sending=sending)
        self.span = UnseenSpan(made_in, {})
        _, _, _, body, extra = sent
        self._items = mapping(extra).get("items") or mapping(body).get("items")

    def read(self, reply: Any) -> None:
        """Take in a reply: a conversation, or a page of its items."""
        self.reply.add_id(field(reply, "id"))
        self.reply.keep(reply)
        if self.conversation is not None and self._is_answered:
            note(self.conversation, self._items, self.request.server)

    def leaves_under(self) -> list[str]:
        """Return the keys that it will leave, as far as they are known."""
        return list(self._keys())

    def _keys(self) -> Iterator[str]:
        server, digests = self.request.server, self.request.digests
        if self.conversation is not None:
            yield from left_by_conversation(self.conversation, server)
        for items in (self._items, *self.reply.said("data")):
            yield from left_by_items(items, server, digests)

    @property
    def conversation(self) -> str | None:
        """The conversation that is meant; None while it has not been made."""
        named = self.request.conversation
        return named if named is not None or not self.reply.ids else self.reply.ids[0]

    @property
    def _is_answered(self) -> bool:
        """Whether the provider has said what it should."""
        return bool(self.reply.ids or self.reply.kept)

    def leave(self, ended: int) -> Record | None:
        """Put what is to be remembered of the items into the outbox, once the provider has answered."""
        conversation = self.conversation
        # Which turn is the newest is still to be heard; what is said of the session meanwhile has no number.
        is_untold = self.gate is not None and self.gate.is_closed and not self.turn.resolution.turn
        if not ended or conversation is None or is_untold or not self._is_answered:
            return None
        session_id = name_of_conversation(conversation, self.request.server.name)
        keys = list(dict.fromkeys(self._keys()))
        record = keys, self._newest(session_id, ended)
        if keys:
            self.outbox.append(record)
        return record

    def _newest(self, session_id: SessionId, ended: int) -> SessionLink:
        """Return the newest turn of the conversation; of one that has none, what says only which session it is."""
        previous = self.turn.resolution.previous
        if previous is not None and previous.session_id == session_id:
            return previous
        return SessionLink(session_id, "conversation", NO_TURN, NOWHERE, self.started, ended)


def _request_of(match: Match, server: Server, runtime: Runtime) -> Request:
    conversation, evidence = match.conversation_id, NOTHING_TOLD
    if conversation is not None:
        evidence = Evidence(Given(name_of_conversation(conversation, server.name), "conversation"))
    return Request(
        match,
        server,
        name="",
        model=None,
        attributes={},
        evidence=evidence,
        stream=False,
        stored=True,
        conversation=conversation,
        digests=runtime.keys.digests,
    )
