"""Many rows in one statement.

SQLite's module gives other threads their turn at each step of a statement, and gets its own back from one that computes
after milliseconds: a statement a row would be as many waits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final

AT_ONCE: Final = 900
"""Values in one statement; older versions of SQLite take 999."""


def each(connection: sqlite3.Connection, sql: str, rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Execute a statement over rows, a great many at once.

    Args:
        connection: where.
        sql: the statement; ``{}`` stands for the rows, as ``(?, ?), (?, ?)``.
        rows: the rows, all of one length.

    Returns:
        What the statement answers.
    """
    rows = list(rows)
    found: list[tuple[Any, ...]] = []
    if not rows:
        return found
    width = len(rows[0])
    place = f"({', '.join('?' * width)})"
    for start in range(0, len(rows), AT_ONCE // width):
        some = rows[start : start + AT_ONCE // width]
        statement = sql.format(", ".join([place] * len(some)))
        found += connection.execute(statement, tuple(chain.from_iterable(some))).fetchall()
    return found
