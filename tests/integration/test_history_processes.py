"""Conversations that carry no id, each turn made in another process: over a shared store each is one session."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from fleet import Fleet
from otlp_receiver import OtlpReceiver

from otel_llm_sessions.demo.provider.text import answer

pytestmark = pytest.mark.slow

CALLS_AT_ONCE = 16
PATIENT = 5.0
"""The store's time limit: a machine that has too much to do makes no answer late."""


@dataclass
class Conversation:
    """What a visitor's browser keeps."""

    number: int
    messages: list[dict[str, Any]] = field(default_factory=list)
    responses: list[str] = field(default_factory=list)

    def ask(self) -> dict[str, Any]:
        """The arguments of the next call. Five visitors have the same system prompt, and the first question."""
        turn = len(self.responses)
        if not turn:
            self.messages.append({"role": "system", "content": f"You help with {self.number // 5}"})
        text = f"question {turn} of {self.number if turn else self.number // 5}"
        self.messages.append({"role": "user", "content": text})
        return {"messages": self.messages, "stream": self.number % 3 == 0}

    def take(self, response: str) -> None:
        """Keep what the model has said, which the loopback server's always says."""
        self.responses.append(response)
        self.messages.append({"role": "assistant", "content": answer(self.messages[-1]["content"], 0)})


def hold(fleet: Fleet, conversations: list[Conversation], turns: int, chance: random.Random) -> None:
    """Have all conversations held, many at once, each turn in a process chosen at random."""
    waiting, in_flight = list(conversations), dict[int, Conversation]()
    while waiting or in_flight:
        while waiting and len(in_flight) < CALLS_AT_ONCE:
            conversation = waiting.pop(chance.randrange(len(waiting)))
            in_flight[fleet.order(chance.randrange(len(fleet.workers)), "chat", conversation.ask())] = conversation
        done = fleet.next_answer()
        assert done["error"] is None, done["error"]
        conversation = in_flight.pop(done["order"])
        conversation.take(done["response"])
        if len(conversation.responses) < turns:
            waiting.append(conversation)


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_no_turn_is_in_a_strangers_session(kind, request, tmp_path, server, monkeypatch):
    monkeypatch.setenv("OTEL_LLM_SESSIONS_HISTORY", "true")
    store = request.getfixturevalue("redis").url if kind == "redis" else f"sqlite:///{tmp_path}/sessions.db"
    seed = random.randrange(1 << 32)
    conversations = [Conversation(number) for number in range(50)]
    with OtlpReceiver() as receiver:
        options = {"store": store, "base_url": server.base_url, "endpoint": receiver.endpoint, "time_limit": PATIENT}
        with Fleet(["sync", "async", "sync"], **options) as fleet:
            hold(fleet, conversations, 5, random.Random(seed))
            fleet.finish()
            printed = fleet.printed
    calls = {span.attributes["gen_ai.response.id"]: span for span in receiver.spans if span.name.startswith("chat ")}
    sessions = [[calls[id_].attributes["session.id"] for id_ in each.responses] for each in conversations]
    # All open as four others do: who goes on from there begins anew, unless the others had not begun yet.
    assert [found[2:] for found in sessions] == [[found[1]] * 3 for found in sessions], f"seed {seed}\n{printed}"
    assert len({found[1] for found in sessions}) == len(conversations), f"seed {seed}\n{printed}"
    roots = [span.attributes["session.id"] for span in receiver.spans if span.attributes.get("llm_session.root")]
    assert sorted(roots) == sorted(found[1] for found in sessions), f"seed {seed}\n{printed}"
