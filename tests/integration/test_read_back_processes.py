"""Conversations whose every turn is made in another process: over a shared store, what is new in each is recorded."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from delta_kit import CONTENT, Recorded, context_of
from visitors_kit import hold

from otel_llm_sessions.demo.provider.text import answer

pytestmark = pytest.mark.slow

CONVERSATIONS, TURNS, CALLS_AT_ONCE = 24, 6, 8

Said = tuple[str, str]


@dataclass
class Conversation:
    """What a visitor's browser keeps."""

    number: int
    chance: random.Random
    messages: list[dict[str, Any]] = field(default_factory=list)
    responses: list[str] = field(default_factory=list)
    contexts: dict[str, list[Said]] = field(default_factory=dict)
    """What the model was told in each turn."""
    forgot: set[str] = field(default_factory=set)
    """Turns that go on from nothing."""
    _context: list[Said] = field(default_factory=list)

    @property
    def is_chain(self) -> bool:
        return self.number % 3 == 0

    @property
    def api(self) -> str:
        return "responses" if self.is_chain else "chat"

    def ask(self) -> dict[str, Any]:
        """The arguments of the next call."""
        asked = {"role": "user", "content": f"question {len(self.responses)} of {self.number}"}
        if self.is_chain:
            self._context.append(("user", asked["content"]))
            before = {"previous_response_id": self.responses[-1]} if self.responses else {}
            return {"input": asked["content"], **before}
        if len(self.messages) > 4 and self.chance.random() < 0.2:
            del self.messages[:2]
            self.forgot.add("next")
        self.messages.append(asked)
        self._context = [(message["role"], message["content"]) for message in self.messages]
        named = {"x-session-id": f"conversation-{self.number}"}
        return {"messages": self.messages, "stream": self.number % 3 == 1, "extra_headers": named}

    def take(self, response: str) -> None:
        """Keep what the model has said, which the loopback server's always says."""
        if "next" in self.forgot or not self.responses:
            self.forgot.add(response)
            self.forgot.discard("next")
        self.responses.append(response)
        self.contexts[response] = [*self._context]
        said = {"role": "assistant", "content": answer(self._context[-1][1], 0)}
        self._context.append(("assistant", said["content"]))
        self.messages.append(said)


def texts_in(messages: Any) -> list[Said]:
    return [(message["role"], part["content"]) for message in messages for part in message["parts"]]


def test_what_another_process_has_recorded_is_not_recorded_again(shared_url, server, monkeypatch):
    monkeypatch.setenv(CONTENT, "SPAN_ONLY")
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    conversations = [Conversation(number, chance) for number in range(CONVERSATIONS)]
    fleet = {"kinds": ["sync", "async"], "store": shared_url, "base_url": server.base_url}
    spans, printed = hold(conversations, TURNS, chance, at_once=CALLS_AT_ONCE, **fleet)
    recorded = read(spans)
    kinds = Counter[str]()
    for conversation in conversations:
        for response, context in conversation.contexts.items():
            found = recorded[response]
            assert context_of(response, recorded, texts_in) == context, f"seed {seed}\n{printed}"
            assert found.kind == ("full" if response in conversation.forgot else "delta"), f"seed {seed}\n{printed}"
            kinds[found.kind] += 1
    assert kinds["delta"] > kinds["full"]


def read(spans: Any) -> dict[str, Recorded]:
    """What a reader sees: turns by their responses."""
    calls = {span.span_id: span for span in spans if span.name.startswith("chat ")}
    responses = {id_: span.attributes["gen_ai.response.id"] for id_, span in calls.items()}
    found = {}
    for id_, span in calls.items():
        before = [link.span_id for link in span.links if link.attributes.get("llm_session.link") == "previous_turn"]
        said = (json.loads(span.attributes.get(f"gen_ai.{name}.messages", "[]")) for name in ("input", "output"))
        kind = span.attributes["llm_session.content"]
        found[responses[id_]] = Recorded(kind, responses[before[0]] if before else None, *said)
    return found
