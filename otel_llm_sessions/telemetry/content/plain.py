"""Plain JSON of whatever there is: copies that share nothing with the application, and that every backend takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from otel_llm_sessions.telemetry.content.values import Content, Json
from otel_llm_sessions.telemetry.values import INT64, REPLACEMENT, encodable

UNLIMITED: Final = 2**62

NAMED: Final = frozenset({"type", "role", "name", "id", "finish_reason", "modality", "mime_type"})
"""Fields that say what something is: what is said there is no text, and is cut only where it is as long as none is."""

MAX_NAME: Final = 256

DEEPEST: Final = 64
MOST: Final = 1_000_000
"""How deep and how many values one call's content may be: a hook may return a list that holds itself."""
FOR_DEPTH: Final = MOST // 1000
"""For how many values one counts that is left out for its depth."""

LONGEST_NUMBER: Final = 10_000
"""Bits of a whole number that is written as people do: of more than 4,300 digits Python (3.11) refuses it."""

encode: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
).encode
"""Writes plain JSON, in one line."""


class Plain:
    """Makes plain JSON of values, and counts the characters that it leaves out of long texts.

    Example::

        plain = Plain(limit=5)
        plain.of({"content": "Hello, world"})  # {"content": "Hello"}
        plain.cut  # 7
    """

    __slots__ = ("_left", "_limit", "cut")

    def __init__(self, limit: int = UNLIMITED) -> None:
        """Args: how many characters of one text are kept."""
        self._limit = limit
        self._left = MOST
        self.cut = 0

    def of(self, value: Any, depth: int = 0) -> Json:
        """Return a value as plain JSON.

        Raises:
            ValueError: it is too much.
        """
        kind = type(value)
        if kind is str:
            return self._text(value)
        if value is None or kind is bool:
            return value
        self._left -= 1
        if self._left < 0:
            raise ValueError("too much content")
        if depth > DEEPEST:  # what holds itself comes here again and again
            self._left -= FOR_DEPTH
            return "..."
        if kind is dict or isinstance(value, Mapping):
            return {self._name(name): self._field(name, each, depth + 1) for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.of(each, depth + 1) for each in value]
        return self._scalar(value)

    def content(self, content: Content) -> Content:
        """Return a content as plain JSON."""
        of, error = self.of, content.error
        return Content(
            of(content.input),
            of(content.output),
            of(content.system_instructions),
            of(content.tool_definitions),
            None if error is None else self._text(error),
        )

    def _name(self, name: Any) -> str:
        return self._text(str(name), MAX_NAME) or REPLACEMENT  # an event's structure has no names that are empty

    def _field(self, name: Any, value: Any, depth: int) -> Json:
        if type(value) is str and name in NAMED:
            return self._text(value, MAX_NAME)
        return self.of(value, depth)

    def _text(self, text: str, limit: int = 0) -> str:
        limit = max(limit, self._limit)
        if len(text) > limit:
            self.cut += len(text) - limit
            text = text[:limit]
        if text.isascii() and "\0" not in text:
            return text
        return encodable(text.replace("\0", REPLACEMENT))  # databases behind a backend take none

    def _scalar(self, value: Any) -> Json:
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, int):
            number = int.__index__(value)
            if -INT64 <= number < INT64:
                return number
            return self._text(str(number) if number.bit_length() <= LONGEST_NUMBER else hex(number))
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else str(float(value))
        return f"<{type(value).__name__}>"  # nothing of the application's is called for it
