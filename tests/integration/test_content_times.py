"""What contents cost late in a conversation: to know that it goes on, its history is looked at, not written anew."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from content_kit import EXTENT
from delta_kit import CONTENT
from openai import OpenAI

from otel_llm_sessions import session
from otel_llm_sessions.openai.content import CallContent
from otel_llm_sessions.testing import capture_spans

MOST_LONGER = 200e-6
"""Seconds by which all of content may take longer in turn 100 than in turn 10."""

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
        transport = httpx2.MockTransport(self._answer)
        self._client = OpenAI(
            api_key="key", base_url="http://model.test/v1", http_client=httpx2.Client(transport=transport)
        )

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        message = self.history[len(json.loads(request.content)["messages"])]
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        id_ = f"chatcmpl-{random.getrandbits(120):030x}"
        reply = {"id": id_, "object": "chat.completion", "created": 1, "model": "model", "choices": [choice]}
        return httpx2.Response(200, json=reply)

    def turn(self, number: int) -> None:
        sent: Any = self.history[: 2 * number - 1]
        if self.is_rebuilt:  # as one is that was kept in a database
            sent = json.loads(json.dumps(sent))
        self._client.chat.completions.create(model="model", messages=sent, tools=TOOLS)  # type: ignore[arg-type]


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

    for name in ("__init__", "tell"):
        monkeypatch.setattr(CallContent, name, timed(getattr(CallContent, name)))
    return steps


@pytest.mark.parametrize("is_rebuilt", [False, True], ids=["appended to", "rebuilt"])
def test_all_of_content_takes_hardly_longer_in_a_late_turn_than_in_an_early_one(monkeypatch, spent, is_rebuilt):
    def took(number: int) -> float:
        """Return what the content of a turn takes that goes on from the one before it."""
        with session():
            talk.turn(number - 1)
            spent.clear()
            talk.turn(number)
        return sum(spent)

    monkeypatch.setenv(CONTENT, "SPAN_ONLY")
    talk, early, late = Talk(is_rebuilt), 1.0, 1.0
    with capture_spans() as spans:
        for number in range(TRIES):
            early, late = min(early, took(10)), min(late, took(100))
            if number > 4 and late - early < MOST_LONGER:
                break
    extents = [span.attributes[EXTENT] for span in spans if EXTENT in span.attributes]
    assert extents == ["full", "delta"] * (len(extents) // 2)
    assert late - early < MOST_LONGER
