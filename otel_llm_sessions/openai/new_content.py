"""What of a call's content is new against the turn before it, and what it leaves for the turn after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm_sessions import semconv
from otel_llm_sessions.openai.delta import ALL, Deltas, Saying, is_chained
from otel_llm_sessions.openai.fields import field, items_of
from otel_llm_sessions.openai.pieces import Pieces
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.response import Reply
from otel_llm_sessions.openai.turn import Turn
from otel_llm_sessions.openai.words.replied import output_of


class NewContent:
    """What of a turn is to be recorded.

    Example::

        new = NewContent(deltas, asked, request, turn)
        if new.news.tools:
            ...  # they are others than before
        new.record(reply)
    """

    __slots__ = ("_api", "_deltas", "_said", "news")

    def __init__(self, deltas: Deltas | None, asked: Mapping[str, Any], request: Request, turn: Turn) -> None:
        """Tell what is new.

        Args:
            deltas: tells it; None where everything is recorded each time.
            asked: the body that was sent.
            request: the request.
            turn: the session, and the place in it; ``turn.resolution.previous`` is the linked turn.
        """
        resolution, self.news = turn.resolution, ALL
        self._deltas, self._api = deltas, request.match.route.api
        self._said: Saying | None = None
        if deltas is not None and (turn.session_id is not None or resolution.session_id is not None):
            self._said = deltas.said(self._api, asked, request.conversation)
            told = None if resolution.previous is None else resolution.previous.told
            self.news = deltas.news(self._said, told, is_chained(request.evidence.previous_id, resolution))

    @property
    def gone(self) -> Sequence[str]:
        """The attributes of what the linked turn had and this one has not: of instructions, of tools."""
        said, news = self._said, self.news
        if said is None or news.kind == "full":
            return ()
        looked_at = (
            (semconv.SYSTEM_INSTRUCTIONS, news.instructions, said.instructions),
            (semconv.TOOL_DEFINITIONS, news.tools, said.tools),
        )
        return [attribute for attribute, differs, digest in looked_at if differs and not digest]

    def record(self, reply: Reply) -> None:
        """Have the turn leave what tells whether a later one goes on from it: it has been recorded.

        Args:
            reply: what came back.
        """
        if self._deltas is not None and self._said is not None:
            reply.told = self._deltas.told(self._api, self._said, replied(reply), reply.conversation)


def replied(reply: Reply) -> Sequence[Any]:
    """Return the messages of a chat reply, one for each choice, or the output items of a response, as they came."""
    if reply.route.api == "responses":
        return output_of(reply)
    if isinstance(reply.pieces, Pieces) and (heard := reply.pieces.so_far()):
        return [message for _, message in heard]
    return [field(choice, "message") for choice in items_of(reply.kept.get("choices"))]
