"""Conversations that carry no id, of people who say the same few things: no two of them ever share a session."""

from __future__ import annotations

import random
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_kit import a_link

from otel_llm_sessions.openai.claims import ask_put
from otel_llm_sessions.openai.history import HistoryReader
from otel_llm_sessions.sessions.digest import DigestSource
from otel_llm_sessions.sessions.link import SessionId
from otel_llm_sessions.sessions.resolver import NOTHING_TOLD, lookup_keys, resolve
from otel_llm_sessions.stores.memory import MemoryStore


class Visitor:
    """Somebody who keeps a conversation, whose turns have two steps: what is asked, and what comes back."""

    def __init__(self, number: int, reader: HistoryReader, store: MemoryStore) -> None:
        self.number = number
        self.messages: list[dict[str, str]] = []
        self.sessions: list[str] = []
        self._reader = reader
        self._store = store
        self._asked: Any = None

    def step(self, text: str) -> None:
        if self._asked is None:
            self.messages.append({"role": "user", "content": text})
            history = self._reader.read(self.messages)
            assert history is not None
            evidence = history.tied(NOTHING_TOLD)
            self._asked = history, resolve(evidence, self._store.get_all(lookup_keys(evidence)), True)
            return
        (history, resolution), self._asked = self._asked, None
        reply = {"role": "assistant", "content": text}
        session = resolution.session_id or f"{self.number}-{len(self.sessions)}"
        link = a_link(turn=resolution.turn, session=SessionId(session))
        call: Any = SimpleNamespace(
            request=SimpleNamespace(history=history), runtime=SimpleNamespace(asked=self._store)
        )
        ask_put(call, (history.left([reply]), link))
        self.messages.append(reply)
        self.sessions.append(session)


def mistakes(visitors: list[Visitor]) -> list[set[int]]:
    """Who shares a session with whom."""
    of: dict[str, set[int]] = defaultdict(set)
    for visitor in visitors:
        for session in visitor.sessions:
            of[session].add(visitor.number)
    return [numbers for numbers in of.values() if len(numbers) > 1]


def some_visitors(number: int) -> list[Visitor]:
    store = MemoryStore()
    reader = HistoryReader(DigestSource(None, lambda: store.scope), is_sure=True)
    return [Visitor(each, reader, store) for each in range(number)]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab")), max_size=60))
@settings(max_examples=250)
def test_whoever_says_what_when_nobody_is_in_a_strangers_session(steps):
    visitors = some_visitors(4)
    for number, text in steps:
        visitors[number].step(text)
    assert mistakes(visitors) == []


@pytest.mark.parametrize("number", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_of_interleaved_conversations_are_as_many(number):
    chance = random.Random(12)
    visitors = some_visitors(number)
    order = [visitor for visitor in visitors for _ in range(8)]
    chance.shuffle(order)
    for visitor in order:
        visitor.step(chance.choice(["Hello", "Hi there", "Thanks", f"I am {visitor.number}"]))
    assert mistakes(visitors) == []
    # Most say soon who they are, and stay in one session from then on.
    assert sum(len({*visitor.sessions}) <= 2 for visitor in visitors) > number / 2
