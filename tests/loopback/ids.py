"""Ids as servers other than OpenAI make them."""

from __future__ import annotations

from otel_llm_sessions.demo.provider.ids import Ids, letters

LONG = 470


class ShortIds(Ids):
    """Ids of servers that count: the same ones stand in replies that have nothing to do with each other."""

    def __init__(self) -> None:
        self._calls = 0

    def response(self) -> str:
        """The id of a response."""
        return "resp_1"

    def completion(self) -> str:
        """The id of a chat completion."""
        return "chatcmpl-150"

    def item(self, prefix: str) -> str:
        """The id of an output item."""
        return f"{prefix}_1"

    def call(self) -> str:
        """The next number."""
        self._calls += 1
        return f"call_{self._calls - 1}"


class LongIds(Ids):
    """Reply ids of gateways that put an encrypted route into them: 470 characters."""

    def response(self) -> str:
        """The id of a response."""
        return "resp_" + letters(LONG - len("resp_"))

    def completion(self) -> str:
        """The id of a chat completion."""
        return "chatcmpl-" + letters(LONG - len("chatcmpl-"))
