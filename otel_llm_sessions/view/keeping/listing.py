"""Queries, answered from the rows: filters, orders and pages as SQL."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from typing import Any, Final

from otel_llm_sessions.view.keeping.summing import INT64, listed
from otel_llm_sessions.view.query import Query, Sort
from otel_llm_sessions.view.source import Page
from otel_llm_sessions.view.summaries import Summary

COLUMNS: Final = (
    "said, name, user, tags, services, turns, models, input, output, cost, currency, errors, first, last, id"
)
ORDERS: Final[dict[Sort, str]] = {
    "last": "last",
    "turns": "turns",
    "tokens": "(ifnull(input, 0) + ifnull(output, 0))",
    "cost": "ifnull(cost, 0.0)",
    "duration": "max(0, last - first)",
}
SAYING: Final = """
SELECT ifnull(span.session, member.session)
FROM (SELECT rowid AS id FROM words WHERE words MATCH :words ORDER BY rowid DESC LIMIT :most) AS turn
JOIN span ON span.id = turn.id LEFT JOIN member ON span.session IS NULL AND member.trace = span.trace
UNION
SELECT member.session FROM (SELECT -rowid AS id FROM words WHERE words MATCH :words AND rowid < 0 LIMIT :most) AS event
JOIN log ON log.id = event.id JOIN member ON member.trace = log.trace
"""
IN_WORDS: Final = f"family IN (SELECT family FROM session WHERE id IN ({SAYING}))"
MOST: Final = 10_000
"""Turns that say what is looked for: of more, those that arrived last are taken."""
WORD: Final = re.compile(r"\w+")


def page_of(connection: sqlite3.Connection, query: Query, *, has_words: bool) -> Page:
    """The sessions that a query asks for.

    Raises:
        ValueError: its cursor is none.
    """
    order = ORDERS[query.sort]
    values: dict[str, Any] = {"limit": query.limit + 1}
    conditions = _conditions(connection, query, values, has_words=has_words)
    if query.cursor:
        values |= _from_cursor(query)
        conditions.append(
            f"({order} < :key OR ({order} = :key AND (last < :at OR (last = :at AND said > :after))))"
            + (" AND last <= :at" if query.sort == "last" else "")
        )
    direction = f"{order} DESC, last DESC, said" if query.sort != "last" else "last DESC, said"
    sql = f"SELECT {COLUMNS}, {order} FROM session WHERE {' AND '.join(conditions)} ORDER BY {direction} LIMIT :limit"
    rows = connection.execute(sql, values).fetchall()
    following = _cursor(rows[query.limit - 1]) if len(rows) > query.limit else None
    found = tuple(one for one in map(summary_of, rows[: query.limit]) if query.matches(one))
    return Page(found, following, _notices(connection, query, values, has_words=has_words))


def summary_of(row: tuple[Any, ...]) -> Summary:
    """A row of ``COLUMNS`` as a summary."""
    (said, name, user, tags, services, turns, models, read, written, cost, currency, errors, first, last, *_) = row
    return Summary(
        said, name, user, listed(tags), listed(services), turns, listed(models), read, written, cost, currency, errors,
        first, last,
    )  # fmt: skip


def _conditions(connection: sqlite3.Connection, query: Query, values: dict[str, Any], *, has_words: bool) -> list[str]:
    """What rows have to be; ``values`` gets what the conditions compare with."""
    asked: tuple[tuple[object, str, object], ...] = (
        (query.since is not None, "last >= :since", min(query.since or 0, INT64)),
        (query.until is not None, "first <= :until", min(query.until or 0, INT64)),
        (query.service, "instr(services, :service)", _quoted(query.service)),
        (query.user, "user = :user", query.user),
        (query.model, "instr(models, :model)", _quoted(query.model)[:-1]),
        (query.name, "instr(folded, :name)", query.name.casefold()),
        (query.errors, "errors > 0", None),
        (query.min_turns, "turns >= :min_turns", query.min_turns),
    )
    conditions = ["shown"]
    for said, condition, value in asked:
        if said:
            conditions.append(condition)
            values[condition.rpartition(":")[2].rstrip(")")] = value
    if query.text:
        values |= {"text": query.text.casefold(), "words": words_asked(query.text), "most": MOST}
        in_words = f" OR {IN_WORDS}" if has_words and values["words"] else ""
        conditions.append(f"(instr(found, :text){in_words})")
    return conditions


def words_asked(text: str) -> str:
    """What FTS5 is asked for: every word of a text, the last of which may go on; empty if it has none."""
    words = WORD.findall(text)
    return " ".join(f'"{word}"' for word in words) + "*" if words else ""


def _notices(
    connection: sqlite3.Connection, query: Query, values: dict[str, Any], *, has_words: bool
) -> tuple[str, ...]:
    if not query.text:
        return ()
    if not has_words:
        return ("words are not looked for: this Python's SQLite is built without FTS5",)
    if not values["words"]:
        return ()
    sql = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH :words LIMIT :most)"
    (found,) = connection.execute(sql, values).fetchone()
    return (f"more than {MOST:,} turns say this: only those that arrived last are looked at",) if found >= MOST else ()


def _quoted(text: str) -> str:
    """A text as it stands in a column that is a JSON array."""
    return json.dumps(text, ensure_ascii=False)


def _cursor(row: tuple[Any, ...]) -> str:
    said, last, key = row[0], row[13], row[-1]
    return base64.urlsafe_b64encode(json.dumps([key, last, said]).encode()).decode().rstrip("=")


def _from_cursor(query: Query) -> dict[str, Any]:
    try:
        padded = query.cursor + "=" * (-len(query.cursor) % 4)
        key, at, after = json.loads(base64.urlsafe_b64decode(padded.encode()))
        values = {"key": key + 0, "at": at + 0, "after": after + ""}
    except (ValueError, TypeError):
        raise ValueError("cursor is not valid: expected the next_cursor of the page before") from None
    return values
