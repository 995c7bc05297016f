"""The database's tables, and whether a file holds them."""

from __future__ import annotations

import sqlite3
from typing import Final

VERSION: Final = 1
APPLICATION: Final = 0x6F6C7376
"""What marks a file as a viewer's: "olsv"."""

TABLES: Final = f"""
PRAGMA application_id = {APPLICATION};
-- Where spans and logs came from: a serialized Resource, the scope's name (serialized, too, where it has a version).
CREATE TABLE origin (
  id INTEGER PRIMARY KEY AUTOINCREMENT, resource BLOB NOT NULL, scope TEXT NOT NULL, UNIQUE (resource, scope)
);
-- Spans and logs as they came, serialized, in the order of arrival.
CREATE TABLE span (
  id INTEGER PRIMARY KEY, trace BLOB NOT NULL, span BLOB NOT NULL, origin INTEGER NOT NULL, session INTEGER,
  body BLOB NOT NULL
);
CREATE UNIQUE INDEX span_by_ids ON span (trace, span);
CREATE INDEX span_by_origin ON span (origin);
CREATE TABLE log (
  id INTEGER PRIMARY KEY, trace BLOB NOT NULL, digest BLOB NOT NULL, origin INTEGER NOT NULL, body BLOB NOT NULL,
  UNIQUE (trace, digest)
);
CREATE INDEX log_by_origin ON log (origin);
-- The traces that have a span which names the session.
CREATE TABLE member (trace BLOB NOT NULL, session INTEGER NOT NULL, PRIMARY KEY (trace, session)) WITHOUT ROWID;
CREATE INDEX member_by_session ON member (session, trace);
-- The traces that no session claims, and since when they are here.
CREATE TABLE stray (trace BLOB PRIMARY KEY, arrived INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX stray_by_arrival ON stray (arrived);
-- Markers in one trace that stand for calls in another.
CREATE TABLE marked (trace BLOB NOT NULL, target BLOB NOT NULL, PRIMARY KEY (trace, target)) WITHOUT ROWID;
CREATE INDEX marked_by_target ON marked (target);
-- Roots of sessions that were started inside of others.
CREATE TABLE parent (
  trace BLOB NOT NULL, span BLOB NOT NULL, target BLOB NOT NULL, target_span BLOB NOT NULL,
  PRIMARY KEY (trace, span, target)
) WITHOUT ROWID;
CREATE INDEX parent_by_target ON parent (target);
-- The sessions in which a response was given, by a digest of its id.
CREATE TABLE response (digest INTEGER NOT NULL, session INTEGER NOT NULL, PRIMARY KEY (digest, session)) WITHOUT ROWID;
CREATE INDEX response_by_session ON response (session);
-- Every id that names a session, and what a list says of it. Those of one family are read together: parts of them may
-- have been filed under each other's ids.
CREATE TABLE session (
  id INTEGER PRIMARY KEY, said TEXT NOT NULL UNIQUE, family INTEGER NOT NULL, shown INTEGER NOT NULL DEFAULT 0,
  turns INTEGER NOT NULL DEFAULT 0, input INTEGER, output INTEGER, cost REAL, currency TEXT,
  errors INTEGER NOT NULL DEFAULT 0, first INTEGER NOT NULL DEFAULT 0, last INTEGER NOT NULL DEFAULT 0,
  name TEXT, user TEXT, tags TEXT NOT NULL DEFAULT '[]', services TEXT NOT NULL DEFAULT '[]',
  models TEXT NOT NULL DEFAULT '[]', folded TEXT NOT NULL DEFAULT '', found TEXT NOT NULL DEFAULT ''
);
CREATE INDEX session_by_family ON session (family);
CREATE INDEX session_by_last ON session (last DESC, said);
CREATE INDEX session_by_turns ON session (turns DESC, last DESC, said);
CREATE INDEX session_by_tokens ON session ((ifnull(input, 0) + ifnull(output, 0)) DESC, last DESC, said);
CREATE INDEX session_by_cost ON session (ifnull(cost, 0.0) DESC, last DESC, said);
CREATE INDEX session_by_duration ON session (max(0, last - first) DESC, last DESC, said);
-- Families whose rows do not say yet what arrived, by how long.
CREATE TABLE stale (id INTEGER PRIMARY KEY, family INTEGER NOT NULL UNIQUE);
-- How many sessions left, by why.
CREATE TABLE gone (why TEXT PRIMARY KEY, sessions INTEGER NOT NULL) WITHOUT ROWID;
"""

TOKENS: Final = 'tokenize="unicode61 remove_diacritics 2"'
"""What words are: accents and capitals make no other."""
WORDS: Final = f"CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(said, detail=none, columnsize=0, {TOKENS})"
"""What was said, by the id of its span, or by the id of its log with a minus: for those whose SQLite has FTS5."""


class Unusable(Exception):
    """A database cannot be used; the message says in one line why, and what to do."""


def checked(connection: sqlite3.Connection, path: str) -> bool:
    """Whether a file is empty, and so to be prepared.

    Raises:
        Unusable: it holds something else than a viewer's database, or a newer viewer's.
        sqlite3.Error: SQLite cannot read it.
    """
    (version,), (application,) = (
        connection.execute(f"PRAGMA {it}").fetchone() for it in ("user_version", "application_id")
    )
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables:
        return True
    if application != APPLICATION:
        raise Unusable(f"{path} holds something else than a viewer's database: name another --db")
    if version > VERSION:
        raise Unusable(
            f"{path} was written by a newer version of otel-llm-sessions (its schema is {version}, this one knows "
            f"{VERSION}): use that version, or name another --db"
        )
    return False
