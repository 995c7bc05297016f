"""A viewer that runs on loopback, over what arrived here, for tests that look at its page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from viewer_kit import app_of, serving

from otel_llm_sessions.view.database import Database
from otel_llm_sessions.view.spans import ReceivedSpan


@dataclass
class Viewer:
    """A viewer that is running, and where what arrives is kept."""

    url: str
    database: Database

    def add(self, *spans: ReceivedSpan) -> None:
        self.database.add(spans)
        self.database.settle()


def unfold(page: Any) -> None:
    """Open all of the page that can be opened."""
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")


@contextmanager
def viewing(*spans: ReceivedSpan, **options: Any) -> Iterator[Viewer]:
    database = Database()
    try:
        app = app_of(
            database,
            **{
                "changes": database.changes,
                "receiver": "127.0.0.1:4317",
                "trace_url": "http://jaeger.test/trace/{trace_id}?uiFind={span_id}",
                **options,
            },
        )
        with serving(app) as url:
            running = Viewer(url, database)
            running.add(*spans)
            yield running
    finally:
        database.close()
