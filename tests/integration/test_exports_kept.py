"""The thirty recorded exports, as a viewer keeps and tells them: the same sessions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from exports_kit import Export, differences, load_all, now
from viewer_process import Viewer

from otel_llm_sessions.view.database import Database
from otel_llm_sessions.view.otlp_json import read_logs_json, read_spans_json
from otel_llm_sessions.view.query import Query
from otel_llm_sessions.view.sessions import Session, sessions_of

BATCH = 7
PROTOBUF = {"content-type": "application/x-protobuf"}


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


@pytest.mark.slow
def test_a_viewer_that_receives_them_tells_them_by_its_api_and_as_they_came():
    """A real process, real HTTP: what it tells of a session, and the spans that it gives back."""
    exports = load_all(now=now())
    books = [book for export in exports for book in export.sessions]
    with Viewer() as viewer:
        for export in exports:
            for path, messages in (("/v1/traces", export.traces), ("/v1/logs", export.logs_sent)):
                for message in messages:
                    viewer.client.post(path, content=message, headers=PROTOBUF).raise_for_status()
        viewer.wait_for(sum(len(book["turns"]) for book in books))
        rows = {row["id"]: row["turns"] for row in viewer.sessions(limit=1000)}
        assert rows == {book["id"]: len(book["turns"]) for book in books}
        wrong = [problem for book in books for problem in problems_of(viewer, book)]
    assert wrong == []


def problems_of(viewer: Viewer, book: dict[str, Any]) -> Iterator[str]:
    name = quote(book["id"], safe="")
    told = viewer.session(name)
    for turn, said in zip(book["turns"], told["turns"], strict=True):
        yield from (f"{book['id']}: {key} {said[key]!r}" for key, value in turn.items() if said[key] != value)
    spans = read_spans_json(told_as(viewer, name, "otlp"))
    logs = read_logs_json(told_as(viewer, name, "otlp-logs"))
    found = [session for session in sessions_of(spans, logs) if session.id == book["id"]]
    yield from differences([book], found)


def told_as(viewer: Viewer, name: str, form: str) -> bytes:
    return viewer.client.get(f"/api/sessions/{name}", params={"format": form}).raise_for_status().content
