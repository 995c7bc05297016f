"""Ids as OpenAI makes them, and as other servers do."""

from __future__ import annotations

import random
import secrets
import string

ALPHABET = string.ascii_letters + string.digits
LONG = 470


def letters(count: int) -> str:
    """That many random letters and digits."""
    return "".join(random.choices(ALPHABET, k=count))


def hexadecimal(prefix: str) -> str:
    """The prefix, an underscore, and 48 random hexadecimal digits."""
    return f"{prefix}_{secrets.token_hex(24)}"


class Ids:
    """The ids of one reply, random and long like OpenAI's."""

    def response(self) -> str:
        """The id of a response."""
        return hexadecimal("resp")

    def completion(self) -> str:
        """The id of a chat completion."""
        return f"chatcmpl-{letters(29)}"

    def item(self, prefix: str) -> str:
        """The id of an output item; the prefix says of which kind."""
        return hexadecimal(prefix)

    def call(self) -> str:
        """The id that ties a tool's output to its call."""
        return f"call_{letters(24)}"


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
