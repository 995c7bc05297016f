"""Queries, answered from the rows: filters, orders and pages as SQL."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from contextlib import closing
from typing import Any, Final

from otel_llm_sessions.view.keeping.families import digest_of
from otel_llm_sessions.view.keeping.schema import TOKENS
from otel_llm_sessions.view.keeping.summing import INT64, listed
from otel_llm_sessions.view.query import Query, Sort
from otel_llm_sessions.view.source import Page
from otel_llm_sessions.view.summaries import Summary

COLUMNS: Final = (
    "said, name, user, tags, services, turns, models, input, output, cost, currency, errors, first, last, id"
)
NEWEST: Final = """
SELECT {columns}, {order} FROM (
  SELECT * FROM session WHERE {place} ORDER BY {direction} LIMIT :near
) WHERE {condition} ORDER BY {direction} LIMIT :limit
"""
"""Those that are asked for among the first, by the order's index."""
NEAR: Final = 5_000
"""The first that are looked at before all are."""
ALL: Final = """
SELECT {columns}, {order} FROM (
  SELECT id AS top FROM session WHERE {place} AND {condition} ORDER BY +{direction} LIMIT :limit
) JOIN session ON id = top ORDER BY {direction}
"""
"""Those that are asked for among all, one after the other as they are kept (hence the plus: by no index)."""
ORDERS: Final[dict[Sort, str]] = {
    "last": "last",
    "turns": "turns",
    "tokens": "ifnull(input, 0) + ifnull(output, 0)",
    "cost": "ifnull(cost, 0.0)",
    "duration": "max(0, last - first)",
}
SAYING: Final = """
WITH turn (id) AS (SELECT rowid FROM words WHERE words MATCH :words ORDER BY rowid DESC LIMIT :most)
SELECT span.session FROM turn JOIN span USING (id) WHERE span.session IS NOT NULL
UNION SELECT member.session FROM turn JOIN span USING (id) JOIN member USING (trace) WHERE span.session IS NULL
UNION SELECT member.session FROM turn JOIN span USING (id) JOIN marked ON marked.target = span.trace
  JOIN member ON member.trace = marked.trace WHERE span.session IS NULL
UNION SELECT member.session FROM turn JOIN log ON log.id = -turn.id JOIN member USING (trace)
UNION SELECT member.session FROM turn JOIN log ON log.id = -turn.id JOIN marked ON marked.target = log.trace
  JOIN member ON member.trace = marked.trace
"""
LEADS_TO: Final = """
SELECT session FROM response WHERE digest = :digest
UNION SELECT session FROM member WHERE trace = :trace
UNION SELECT member.session FROM marked JOIN member USING (trace) WHERE marked.target = :trace
"""
"""The sessions to which the id of a response or of a trace leads."""
IN_IDS: Final = f"family IN (SELECT family FROM session WHERE id IN ({LEADS_TO}))"
IN_WORDS: Final = f"family IN (SELECT family FROM session WHERE id IN ({SAYING}))"
MOST: Final = 2_000
"""Turns that say what is looked for: of more, those that arrived last are taken."""
AFTER: Final = "({order} < :key OR ({order} = :key AND (last < :at OR (last = :at AND said > :after))))"
"""What comes after a page's last session."""
TRACE: Final = re.compile("[0-9A-Fa-f]{32}")
TOKENIZED: Final = f"""
CREATE VIRTUAL TABLE asked USING fts5(said, {TOKENS});
CREATE VIRTUAL TABLE token USING fts5vocab(asked, instance);
"""


def page_of(connection: sqlite3.Connection, query: Query, *, has_words: bool) -> Page:
    """The sessions that a query asks for.

    Raises:
        ValueError: its cursor is none.
    """
    order = ORDERS[query.sort]
    values: dict[str, Any] = {"limit": query.limit + 1}
    if query.text and has_words:
        values |= {"words": _words_asked(connection, query.text), "most": MOST}
    place = ["shown"]
    if query.cursor:
        values |= _from_cursor(query)
        place.append(AFTER.format(order=order))
    conditions = _conditions(query, values)
    values["near"] = NEAR if conditions else query.limit + 1
    parts = {
        "columns": COLUMNS,
        "order": order,
        "place": " AND ".join(place),
        "condition": " AND ".join(conditions) or "1",
        "direction": "last DESC, said" if query.sort == "last" else f"{order} DESC, last DESC, said",
    }
    rows = connection.execute(NEWEST.format(**parts), values).fetchall()
    if conditions and len(rows) <= query.limit:
        rows = connection.execute(ALL.format(**parts), values).fetchall()
    following = _cursor(rows[query.limit - 1]) if len(rows) > query.limit else None
    found = tuple(one for one in map(summary_of, rows[: query.limit]) if query.matches(one))
    return Page(found, following, _notices(connection, query, values))


def summary_of(row: tuple[Any, ...]) -> Summary:
    """A row of ``COLUMNS`` as a summary."""
    (said, name, user, tags, services, turns, models, read, written, cost, currency, errors, first, last, *_) = row
    return Summary(
        said, name, user, listed(tags), listed(services), turns, listed(models), read, written, cost, currency, errors,
        first, last,
    )  # fmt: skip


def _conditions(query: Query, values: dict[str, Any]) -> list[str]:
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
    conditions = []
    for said, condition, value in asked:
        if said:
            conditions.append(condition)
            values[condition.rpartition(":")[2].rstrip(")")] = value
    if query.text:
        values |= {"text": query.text.casefold(), "digest": digest_of(query.text), "trace": _trace_of(query.text)}
        in_words = f" OR {IN_WORDS}" if values.get("words") else ""
        conditions.append(f"(instr(found, :text) OR {IN_IDS}{in_words})")
    return conditions


def _trace_of(text: str) -> bytes | None:
    """The id of a trace as its column has it; None for what is none."""
    return bytes.fromhex(text) if TRACE.fullmatch(text) else None


def _words_asked(connection: sqlite3.Connection, text: str) -> str:
    """What FTS5 is asked for: every word of a text; empty if it has none.

    The last word may be the beginning of one where it is none itself. That is not asked at once, since FTS5 then
    gathers all turns that have such words before it gives the first.
    """
    words = " ".join(f'"{word}"' for word in _tokens(text))
    if not words or connection.execute("SELECT 1 FROM words WHERE words MATCH ? LIMIT 1", (words,)).fetchone():
        return words
    return f"{words}*"


def _tokens(text: str) -> list[str]:
    """What FTS5 takes for the words of a text; it refuses two of them between one pair of quotes."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(TOKENIZED)
        connection.execute("INSERT INTO asked VALUES (?)", (text,))
        return [token for (token,) in connection.execute("SELECT term FROM token ORDER BY offset")]


def _notices(connection: sqlite3.Connection, query: Query, values: dict[str, Any]) -> tuple[str, ...]:
    if not query.text:
        return ()
    if "words" not in values:
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
        if max(abs(key), abs(at)) > INT64:
            raise ValueError
        values = {"key": key + 0, "at": at + 0, "after": after + ""}
    except (ValueError, TypeError, RecursionError):
        raise ValueError("cursor is not valid: expected the next_cursor of the page before") from None
    return values
