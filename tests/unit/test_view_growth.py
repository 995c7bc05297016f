"""Sessions are read in a time that grows as what arrived does, however odd that is."""

from __future__ import annotations

from typing import Any

import pytest
from effort_kit import own_seconds
from view_kit import call, link, response, root, span

from otel_llm_sessions.view.server.conversation import rows
from otel_llm_sessions.view.server.strip import strip_of
from otel_llm_sessions.view.sessions import sessions_of
from otel_llm_sessions.view.sources.slim import slim
from otel_llm_sessions.view.turns import Turn


def nested(number: int) -> list[Any]:
    """Calls inside each other; of all but the first, only those around it name the session."""
    spans = [call(at=0)]
    for at in range(1, number):
        answered = {"gen_ai.response.id": str(at), "gen_ai.evaluation.name": "thumbs"}
        spans.append(call(parent=spans[-1], at=at, session=None, attributes=answered))
    return spans


def filed(number: int) -> list[Any]:
    """Turns that are filed each under the response before."""
    first = response("r0", session="s")
    return [first, *(response(f"r{at}", f"r{at - 1}", session=f"r{at - 1}", at=at) for at in range(1, number))]


def followers(number: int) -> list[Any]:
    """Turns that all go on from the first."""
    return [response("r0"), *(response(f"r{at}", "r0", at=at) for at in range(1, number))]


def started(number: int) -> list[Any]:
    """Sessions that were all started in one."""
    top = root("s0", "f" * 32)
    return [top, *(root(f"s{at}", f"{at:032x}", links=(link(top, "parent_session"),)) for at in range(1, number))]


def judged(number: int) -> list[Any]:
    """Turns of one response, and judgements of it that name another session."""
    said = {"session.id": "other", "gen_ai.evaluation.name": "thumbs", "gen_ai.response.id": "r"}
    return [response("r", at=at) for at in range(number)] + [
        root("other", "f" * 32, attributes={**said, "gen_ai.evaluation.score.value": at}) for at in range(number)
    ]


def overlapping(number: int) -> list[Any]:
    """Turns of which each begins before the one before has ended."""
    spans = (span(start=10 * at, end=10 * at + 15) for at in range(number))
    return [Turn(each, each) for each in spans]


def read(spans: list[Any]) -> None:
    for session in sessions_of(spans):
        rows(session.turns)


@pytest.mark.parametrize(
    ("work", "scene", "number"),
    [
        (read, nested, 100),
        (read, filed, 100),
        (read, followers, 100),
        (read, started, 600),
        (read, judged, 600),
        (slim, nested, 100),
        (strip_of, overlapping, 2_000),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_ten_times_as_much_takes_about_ten_times_as_long(work, scene, number):
    fewer, more = scene(number), scene(10 * number)
    few = min(own_seconds(lambda: work(fewer)) for _ in range(3))
    # Of three times the least, which is not waited for where the first is short enough.
    assert any(own_seconds(lambda: work(more)) < 25 * few for _ in range(3))
