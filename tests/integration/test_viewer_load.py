"""The viewer under load, and killed amid it: what it acknowledged is there."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time

import httpx
import pytest
from viewer_process import Viewer

from benchmarks import viewer as benchmark
from otel_llm_sessions.view.database import Database
from otel_llm_sessions.view.query import Query

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def test_thirty_seconds_of_load_lose_nothing(tmp_path):
    """With patience: what a machine that does nothing else holds is measured by ``python -m benchmarks.viewer``."""
    path = tmp_path / "kept.db"
    benchmark.make_database(path, 500)
    measured = benchmark.measure(path, 30, 200_000)
    assert measured.sent >= 10 * benchmark.SPANS
    assert measured.faults(patience=5) == [], benchmark.report(measured)


@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_killed_while_it_writes_it_has_all_that_it_acknowledged(tmp_path, seconds):
    path = tmp_path / "kept.db"
    viewer = Viewer("--db", path)
    acknowledged: list[set[bytes]] = []

    def send(number: int) -> None:
        load = benchmark.Load(f"sender{number}")
        with contextlib.suppress(httpx.HTTPError), httpx.Client(timeout=60) as client:
            while True:
                request = load.request(100)
                body = request.SerializeToString()
                answer = client.post(
                    f"{viewer.url}/v1/traces", content=body, headers={"Content-Type": "application/x-protobuf"}
                )
                if answer.status_code == 200:
                    acknowledged.append({span.span_id for span in request.resource_spans[0].scope_spans[0].spans})

    senders = [threading.Thread(target=send, args=(number,)) for number in range(3)]
    for sender in senders:
        sender.start()
    while len(acknowledged) < 5:
        time.sleep(0.01)
    time.sleep(seconds)
    viewer.kill()
    for sender in senders:
        sender.join()
    database = Database(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        kept = {span for (span,) in connection.execute("SELECT span FROM span")}
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert set().union(*acknowledged) <= kept
    database.settle()
    turns, cursor = 0, ""
    while cursor is not None:
        page = database.sessions(Query(limit=1000, cursor=cursor))
        turns, cursor = turns + sum(one.turns for one in page.sessions), page.next_cursor
    assert turns == len(kept), "each turn is in a row, also of those whose rows were not counted when it was killed"
    database.close()
