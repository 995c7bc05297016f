"""The thirty recorded exports, as a viewer keeps and tells them: the same sessions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from exports_kit import Export, differences, load_all, now

from otel_llm_sessions.view.database import Database
from otel_llm_sessions.view.query import Query
from otel_llm_sessions.view.sessions import Session, sessions_of

BATCH = 7


@pytest.fixture(scope="module")
def exports() -> list[Export]:
    return load_all(now=now())


@pytest.fixture(scope="module", params=["as they were sent", "in another order, some twice"])
def kept(request, exports) -> Iterator[Database]:
    """A database that took all exports."""
    database = Database()
    if request.param == "as they were sent":
        for export in exports:
            database.add(export.spans, export.logs)
    else:
        spans = [span for export in exports for span in export.spans]
        spans += spans[::3]
        random.Random(1).shuffle(spans)
        database.add((), [log for export in exports for log in export.logs])
        for at in range(0, len(spans), BATCH):
            database.add(spans[at : at + BATCH])
    database.settle()
    yield database
    database.close()


def session_in(database: Database, id_: str) -> list[Session]:
    arrived = database.session(id_)
    assert arrived is not None, id_
    return sessions_of(arrived.spans, arrived.logs)


def test_each_session_is_that_of_the_books_by_each_id_under_which_anything_of_it_was_filed(kept, exports):
    for book in (book for export in exports for book in export.sessions):
        for id_ in (book["id"], *book.get("aliases", ())):
            found = [session for session in session_in(kept, id_) if session.id == book["id"]]
            assert differences([book], found) == []


def test_each_row_says_what_its_session_says(kept, exports):
    rows: dict[str, Any] = {row.id: row for row in kept.sessions(Query(limit=1000)).sessions}
    assert rows.keys() == {book["id"] for export in exports for book in export.sessions}
    for id_, row in rows.items():
        (session,) = [session for session in session_in(kept, id_) if session.id == id_]
        assert session.summary() == row
