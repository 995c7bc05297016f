"""Conversations that carry no id, each turn made in another process: over a shared store each is one session."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from visitors_kit import hold

from otel_llm_sessions.demo.provider.text import answer

pytestmark = pytest.mark.slow


@dataclass
class Conversation:
    """What a visitor's browser keeps."""

    api = "chat"
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


def test_no_turn_is_in_a_strangers_session(shared_url, server, monkeypatch):
    monkeypatch.setenv("OTEL_LLM_SESSIONS_HISTORY", "true")
    seed = random.randrange(1 << 32)
    conversations = [Conversation(number) for number in range(50)]
    fleet = {"kinds": ["sync", "async", "sync"], "store": shared_url, "base_url": server.base_url}
    spans, printed = hold(conversations, 5, random.Random(seed), at_once=16, **fleet)
    calls = {span.attributes["gen_ai.response.id"]: span for span in spans if span.name.startswith("chat ")}
    sessions = [[calls[id_].attributes["session.id"] for id_ in each.responses] for each in conversations]
    # All open as four others do: who goes on from there begins anew, unless the others had not begun yet.
    assert [found[2:] for found in sessions] == [[found[1]] * 3 for found in sessions], f"seed {seed}\n{printed}"
    assert len({found[1] for found in sessions}) == len(conversations), f"seed {seed}\n{printed}"
    roots = [span.attributes["session.id"] for span in spans if span.attributes.get("llm_session.root")]
    assert sorted(roots) == sorted(found[1] for found in sessions), f"seed {seed}\n{printed}"
