"""Resources and scopes, each kept once."""

from __future__ import annotations

import sqlite3
from typing import Final

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_llm_sessions.view.otlp import attributes_of
from otel_llm_sessions.view.spans import Attributes

MOST: Final = 1_000
"""Origins that are remembered in memory."""


class Origins:
    """Where spans came from, by number. What is remembered is remembered for one connection's database."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[bytes, str | bytes], int] = {}
        self._values: dict[int, tuple[Attributes, str, str]] = {}

    def number(self, connection: sqlite3.Connection, resource: bytes, scope: InstrumentationScope) -> int:
        """The number of an origin; it is given one if it has none."""
        key = resource, _written(scope)
        number = self._numbers.get(key)
        if number is None:
            connection.execute("INSERT OR IGNORE INTO origin (resource, scope) VALUES (?, ?)", key)
            (number,) = connection.execute("SELECT id FROM origin WHERE resource = ? AND scope = ?", key).fetchone()
            if len(self._numbers) >= MOST:
                self._numbers.clear()
            self._numbers[key] = number
        return int(number)

    def value(self, connection: sqlite3.Connection, number: int) -> tuple[Attributes, str, str]:
        """The resource's attributes, the scope's name and its version."""
        value = self._values.get(number)
        if value is None:
            row = connection.execute("SELECT resource, scope FROM origin WHERE id = ?", (number,)).fetchone()
            resource, scope = row or (b"", "")
            value = attributes_of(Resource.FromString(resource).attributes), *_read(scope)
            if len(self._values) >= MOST:
                self._values.clear()
            self._values[number] = value
        return value

    def forget(self) -> None:
        """Remember nothing: a transaction was undone, or origins were deleted."""
        self._numbers.clear()
        self._values.clear()


def _written(scope: InstrumentationScope) -> str | bytes:
    """A scope as its column has it: its name alone, or serialized with its version."""
    if not scope.version:
        return scope.name
    written: bytes = InstrumentationScope(name=scope.name, version=scope.version).SerializeToString()
    return written


def _read(column: str | bytes) -> tuple[str, str]:
    if isinstance(column, str):
        return column, ""
    scope = InstrumentationScope.FromString(column)
    return scope.name, scope.version
