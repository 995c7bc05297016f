"""The rows of lists: what a session's spans come to, counted again when some arrived."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from otel_llm_sessions.view.keeping.gathering import Gathered
from otel_llm_sessions.view.keeping.origins import Origins
from otel_llm_sessions.view.sessions import sessions_of
from otel_llm_sessions.view.summaries import Summary

logger = logging.getLogger(__name__)

REST: Final = 4.0
"""For how many times as long as counting a session took it is left alone: one of 500 turns is not counted 500 times."""
SHORTEST: Final = 0.2
"""Seconds for which a session is left alone at least, once it was counted."""
LONGEST: Final = 30.0
AT_ONCE: Final = 500
"""Sessions that one transaction counts at most."""

INT64: Final = (1 << 63) - 1

ROW: Final = """
UPDATE session SET shown = 1, turns = ?, input = ?, output = ?, cost = ?, currency = ?, errors = ?, first = ?, last = ?,
name = ?, user = ?, tags = ?, services = ?, models = ?, folded = ?, found = ? WHERE id = ?
"""
TOGETHER: Final = """
UPDATE session SET last = ifnull((SELECT max(last) FROM session WHERE family = :family AND shown), last)
WHERE family = :family AND NOT shown
"""


class Summing:
    """Keeps the rows of lists as what arrived, a few at a time.

    Args:
        origins: what is known of resources.
        clock: seconds.
    """

    def __init__(self, origins: Origins, clock: Callable[[], float] = time.monotonic) -> None:
        self._origins = origins
        self._clock = clock
        self._resting: dict[int, float] = {}
        self._told: set[type[Exception]] = set()

    def count(self, connection: sqlite3.Connection, is_over: Callable[[], bool], *, all_of_them: bool = False) -> int:
        """Count the sessions again of which some arrived, those first that wait longest, within a transaction.

        Args:
            connection: the transaction's.
            is_over: whether to stop; asked before each of them.
            all_of_them: those too that were counted a moment ago.

        Returns:
            How many families were counted.

        Raises:
            sqlite3.Error: they cannot be read or written. Whatever else fails concerns one family, whose rows stay as
                they are until more of it arrives.
        """
        begun, counted = self._clock(), 0
        self._resting = {family: until for family, until in self._resting.items() if until > begun}
        sql = "SELECT family FROM stale ORDER BY id LIMIT ?"
        for (family,) in connection.execute(sql, (AT_ONCE + len(self._resting),)).fetchall():
            if is_over():
                break
            if all_of_them or family not in self._resting:
                self._count(connection, family)
                counted += 1
        return counted

    def _count(self, connection: sqlite3.Connection, family: int) -> None:
        begun = self._clock()
        connection.execute("DELETE FROM stale WHERE family = ?", (family,))
        try:
            self._write(connection, family)
        except sqlite3.Error:
            raise
        except Exception as error:  # spans may say anything, and the other families are not to suffer for it
            if type(error) not in self._told:
                self._told.add(type(error))
                logger.warning("a session cannot be counted, its row stays as it is: %s", type(error).__name__)
        now = self._clock()
        self._resting[family] = now + min(max(SHORTEST, REST * (now - begun)), LONGEST)

    def _write(self, connection: sqlite3.Connection, family: int) -> None:
        arrived = Gathered(connection, family).arrived(self._origins)
        summaries = {session.id: session.summary() for session in sessions_of(arrived.spans, arrived.logs)}
        members = connection.execute("SELECT id, said, shown FROM session WHERE family = ?", (family,)).fetchall()
        for number, said, shown in members:
            if summary := summaries.get(said):
                connection.execute(ROW, (*row_of(summary), number))
            elif shown:
                connection.execute("UPDATE session SET shown = 0 WHERE id = ?", (number,))
        if len(members) > 1:  # they leave together
            connection.execute(TOGETHER, {"family": family})


def row_of(one: Summary) -> tuple[Any, ...]:
    """A summary as the columns of its row."""
    said = (one.id, one.name, one.user, *one.tags, *one.services, *one.models)
    return (
        *(one.turns, _whole(one.input_tokens), _whole(one.output_tokens), one.cost, one.currency, one.errors),
        *(_whole(one.first), _whole(one.last), one.name, one.user),
        *(_listed(one.tags), _listed(one.services), _listed(one.models)),
        (one.name or "").casefold(),
        "\n".join(each for each in said if each).casefold(),
    )


def listed(texts: str) -> tuple[str, ...]:
    """The texts of a column that :func:`row_of` wrote."""
    return tuple(json.loads(texts))


def _listed(texts: Sequence[str]) -> str:
    return json.dumps(texts, ensure_ascii=False)


def _whole(number: int | None) -> int | None:
    return None if number is None else min(number, INT64)
