"""What writes goes on whatever happens: to a row, to who sends, to what is sent."""

from __future__ import annotations

import threading

import pytest
from database_kit import has_room, session
from waiting import until

from otel_llm_sessions.view.database import Database
from otel_llm_sessions.view.otlp_writing import spans_request
from otel_llm_sessions.view.server import intake as module
from otel_llm_sessions.view.server.intake import MOST_BYTES, Intake


@pytest.fixture
def database():
    database = Database()
    yield database
    database.close()


def test_rows_that_cannot_be_brought_up_to_date_hold_up_nobody(database, monkeypatch, caplog):
    tried = []

    def fails(is_over):
        tried.append(is_over)
        raise ZeroDivisionError

    monkeypatch.setattr(database, "tend", fails)
    with Intake(database) as intake:
        until(lambda: len(tried) > 1)
        assert intake.put(spans_request(session("a")), 100).result(30)
    assert [record.message for record in caplog.records] == [
        "rows of lists are not brought up to date: ZeroDivisionError"
    ]


def test_what_nobody_waits_for_any_more_is_written_too(database):
    intake = Intake(database)
    gone, waiting = (intake.put(spans_request(session(name)), 100) for name in ("a", "b"))
    assert gone.cancel()
    with intake:
        assert waiting.result(30)
        assert intake.put(spans_request(session("c")), 100).result(30)
    assert all(database.session(name) for name in ("a", "b", "c"))
    assert has_room(intake.room, MOST_BYTES)


def test_rows_are_left_alone_as_soon_as_something_waits(database, monkeypatch):
    tending = threading.Event()

    def tend(is_over):
        tending.set()
        until(is_over)
        return False

    monkeypatch.setattr(module, "IDLE", 3600.0)
    monkeypatch.setattr(database, "tend", tend)
    with Intake(database) as intake:
        assert intake.put(spans_request(session("a")), 100).result(30)
        assert tending.wait(30)
        assert intake.put(spans_request(session("b")), 100).result(30)
        monkeypatch.setattr(module, "IDLE", 0.0)
