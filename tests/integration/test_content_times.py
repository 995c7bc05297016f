"""What contents cost late in a conversation: to know that it goes on, its history is looked at, not written anew.

In microseconds: ``python -m benchmarks.content``.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from answered import client_of
from content_kit import EXTENT
from delta_kit import CONTENT
from effort_kit import Effort, Efforts

from otel_llm_sessions import session
from otel_llm_sessions.openai.content import CallContent
from otel_llm_sessions.testing import capture_spans

MOST_STEPS = 20
"""Instructions of Python's that turn 100 may take more than turn 10, which has 180 messages fewer before it."""

MOST_OF_CLIENT = 0.008
"""What of the client's own work for a longer history all that contents cost for it may be; 200 of 26,000 us."""

TRIES = 1000
"""Measured turns, on a machine that has much else to do, until it has a moment for this."""

FUNCTION = {"description": "d" * 100, "parameters": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": {"name": f"tool_{number}", **FUNCTION}} for number in range(5)]


class Talk:
    """A conversation of texts of 400 characters, with a model that answers without a server."""

    def __init__(self, is_rebuilt: bool) -> None:
        chance = random.Random(1)
        self.history = [
            {"role": role, "content": "".join(chance.choices("abcdefgh ", k=400))}
            for _ in range(100)
            for role in ("user", "assistant")
        ]
        self.is_rebuilt = is_rebuilt
        self.answering = 0.0
        """Seconds that the model took, which is neither the client nor the package."""
        self._client = client_of(self._answer)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        begun = time.thread_time()
        message = self.history[len(json.loads(request.content)["messages"])]
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        id_ = f"chatcmpl-{random.getrandbits(120):030x}"
        reply = {"id": id_, "object": "chat.completion", "created": 1, "model": "model", "choices": [choice]}
        answer = httpx2.Response(200, json=reply)
        self.answering += time.thread_time() - begun
        return answer

    def sent(self, number: int) -> Any:
        """What a turn sends."""
        sent = self.history[: 2 * number - 1]
        return json.loads(json.dumps(sent)) if self.is_rebuilt else sent  # as one is that was kept in a database

    def send(self, messages: Any) -> None:
        self._client.chat.completions.create(model="model", messages=messages, tools=TOOLS)  # type: ignore[arg-type]


@pytest.fixture(params=[False, True], ids=["appended to", "rebuilt"])
def talk(request, monkeypatch):
    """A conversation whose every second turn goes on from the one before it."""
    monkeypatch.setenv(CONTENT, "SPAN_ONLY")
    with capture_spans() as spans:
        yield Talk(request.param)
    extents = [span.attributes[EXTENT] for span in spans if EXTENT in span.attributes]
    assert extents == ["full", "delta"] * (len(extents) // 2)


def test_the_contents_of_a_late_turn_take_no_more_steps_than_those_of_an_early_one(talk, monkeypatch):
    def effort(number: int) -> Effort:
        with session():
            talk.send(talk.sent(number - 1))
            taken.clear()
            talk.send(talk.sent(number))
        return Effort(*map(sum, zip(*taken, strict=True)))

    efforts, taken = Efforts(monkeypatch), list[Effort]()

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            returned = list[Any]()
            taken.append(efforts.of(lambda: returned.append(step(*arguments))))
            return returned[0]

        return run

    around(monkeypatch, counted)
    effort(10)  # the first calls of a process take other ways
    early, late = effort(10), effort(100)
    assert late.digested == early.digested == 2
    assert late.steps - early.steps <= MOST_STEPS


def around(monkeypatch: pytest.MonkeyPatch, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Wrap all that is done for a call's contents."""
    for name in ("__init__", "tell"):
        monkeypatch.setattr(CallContent, name, wrap(getattr(CallContent, name)))


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long a call's content has taken, in seconds, one for each of its steps."""
    steps: list[float] = []

    def timed(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            begun = time.thread_time()
            try:
                return step(*arguments)
            finally:
                steps.append(time.thread_time() - begun)

        return run

    around(monkeypatch, timed)
    return steps


def test_a_longer_history_costs_contents_a_small_part_of_what_it_costs_the_client(talk, spent):
    def took(number: int) -> tuple[float, float]:
        """Return what the content of a turn takes, and what the client does, that goes on from the one before it."""
        with session():
            talk.send(talk.sent(number - 1))
            sent = talk.sent(number)
            spent.clear()
            talk.answering, begun = 0.0, time.thread_time()
            talk.send(sent)
            taken = time.thread_time() - begun
        return sum(spent), taken - sum(spent) - talk.answering

    early = late = (1.0, 1.0)
    share = 1.0
    for number in range(TRIES):
        early, late = (tuple(map(min, best, took(turn))) for best, turn in ((early, 10), (late, 100)))
        share = (late[0] - early[0]) / (late[1] - early[1])
        if number > 4 and share < MOST_OF_CLIENT:
            break
    assert share < MOST_OF_CLIENT
