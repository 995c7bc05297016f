"""Keyed digests of what a call says: what tells two calls apart, without a word of it being kept."""

from __future__ import annotations

import functools
import hmac
import json
from collections.abc import Callable
from typing import Any, Final

from otel_llm_sessions.guard import pass_on

DIGITS: Final = 16
"""Hexadecimal digits of a digest: 64 bits."""

MAX_JSON: Final = 64 * 1024
"""Characters of a text that is read as JSON; a longer one is digested as it is written."""

NOTHING: Final = "{}"
"""What arguments are that are missing or empty: clients write an object for what a server left out."""


class Digests:
    """Makes the digests of all who have a secret in common.

    With the setting ``KEY`` nobody else can tell of a digest what it was made from. Without it the secret is what the
    store's users share, which keeps ready-made tables off, but not somebody who has the store and guesses the text.
    Example::

        digests = Digests(settings.key, store.scope)
        digests.of("user", "Hello") != digests.of("userHello")
        digests.of_call("add", '{"a": 1}') == digests.of_call("add", {"a": 1})
    """

    __slots__ = ("_keyed",)

    def __init__(self, key: str | None, scope: str) -> None:
        """Make digests with the setting ``KEY``, or where there is none with the ``scope`` of the store."""
        # The two never give the same secret, lest a scope that was chosen to be somebody's key give its digests.
        secret = (f"key:{key}" if key else f"scope:{scope}").encode("utf-8", "surrogatepass")
        self._keyed = hmac.new(secret, digestmod="sha256")  # a copy takes half the time of one that is keyed anew

    def of(self, *parts: str) -> str:
        """Return the digest of some texts, in order; where one ends and the next begins counts."""
        # As many bytes as a part says that it has are its own, whatever stands in them.
        data = [part.encode("utf-8", "surrogatepass") for part in parts]
        framed = b"".join([b"%d:%b" % (len(part), part) for part in data])
        keyed = self._keyed.copy()
        keyed.update(framed)
        return keyed.hexdigest()[:DIGITS]

    def of_call(self, name: str, arguments: Any) -> str:
        """Return the digest of a tool call: of the tool's name, and of the arguments as JSON, however written."""
        return self.of(name, canonical(arguments))


@functools.lru_cache(maxsize=4)
def digests_of(key: str | None, scope: str) -> Digests:
    """Return what makes the digests of a key, or of a store's scope: a scope is known once the store has answered."""
    return Digests(key, scope)


class DigestSource:
    """Hands out what makes the digests of a running instrumentation, asked for when there is something to digest."""

    __slots__ = ("_key", "_scope")

    def __init__(self, key: str | None, scope: Callable[[], str]) -> None:
        """Args: the setting ``KEY``, and what returns the store's scope."""
        self._key = key
        self._scope = scope

    def get(self) -> Digests:
        """Return what makes digests now."""
        return digests_of(self._key, "" if self._key else self._scope())


UNSHARED: Final = DigestSource(None, str)
"""For what is made by hand, and shares nothing with anybody."""


def canonical(value: Any) -> str:
    """Return JSON in the one form that all ways to write it have: keys in order, no blanks, ``1`` for ``1.0``.

    Args:
        value: JSON as text, or what it says (dicts, lists, …). A text that is no JSON is returned as it is; what is
            missing or empty is an object without anything.
    """
    try:
        text = value if isinstance(value, str) else json.dumps(value, default=_odd)
        if len(text) > MAX_JSON:
            return text
        said = _decoder.decode(text) if text else None
        return NOTHING if said is None else _encoder.encode(said)
    except (ValueError, TypeError, RecursionError) as error:
        pass_on(error)
        return str.__str__(value) if isinstance(value, str) else _odd(value)


def _odd(value: Any) -> str:
    return f"<{type(value).__name__}>"


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


_decoder: Final = json.JSONDecoder(parse_float=_number)
_encoder: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
