"""Ids as OpenAI makes them."""

from __future__ import annotations

import random
import secrets
import string

ALPHABET = string.ascii_letters + string.digits


def letters(count: int) -> str:
    """That many random letters and digits, a third of them digits: none looks as if it were made of words."""
    drawn = random.choices(string.digits, k=count // 3) + random.choices(ALPHABET, k=count - count // 3)
    return "".join(random.sample(drawn, count))


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
