"""What ``memory://`` keeps is bounded in bytes: so many keys, and so much for each (docs/stores.md)."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from answered import client_of
from echo_kit import called, completion, function_call, message, output_of, response, said, tool_call, user

from otel_llm_sessions.openai.echoes import MAX_LEFT
from otel_llm_sessions.settings import Settings
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

KEYS = 50
PAGE = (Path(__file__).parents[2] / "docs/stores.md").read_text(encoding="utf-8")
BOUNDS = re.search(r"\((\d+) MB, (\d+) MB where every id is as long as it may be;", PAGE)

_numbers = itertools.count(100_000)


def wide() -> str:
    """An id as heavy as any that is kept: each of its letters takes four bytes."""
    return f"{next(_numbers)}" + "\N{GRINNING FACE}" * 250


def long() -> str:
    """An id as long as any that is kept."""
    return f"{next(_numbers)}" + "x" * 1018


def too_long() -> str:
    """An id that would weigh more than any that is kept."""
    return wide() * 4


def held(kept: Iterable[Any], seen: set[int]) -> int:
    """The bytes of some objects and of what they hold, each counted once."""
    size = 0
    for one in kept:
        if id(one) not in seen:
            seen.add(id(one))
            size += sys.getsizeof(one) + (held(one, seen) if isinstance(one, tuple) else 0)
    return size


def bytes_of(store: MemoryStore) -> int:
    """What a store holds, in bytes."""
    entries = store.snapshot()
    kept = [*(key for key, _ in entries), *(link for _, link in entries), *store._claims]
    return held(kept, set()) + sys.getsizeof(store._links) + sys.getsizeof(store._claims)


class Provider:
    """A provider whose ids are as the test has them, and a client that talks to it without a socket."""

    def __init__(self) -> None:
        self.reply: dict[str, Any] = {}
        self.client = client_of(lambda _: httpx2.Response(200, content=json.dumps(self.reply)))

    def respond(self, reply: dict[str, Any], **arguments: Any) -> None:
        self.reply = reply
        self.client.responses.create(**{"model": "m", "input": "x", **arguments})

    def chat(self, reply: dict[str, Any], **arguments: Any) -> None:
        self.reply = reply
        self.client.chat.completions.create(**{"model": "m", "messages": [user()], **arguments})


@pytest.fixture
def provider():
    provider = Provider()
    with provider.client:
        yield provider


def of_nobody(provider: Provider, id_: Callable[[], str]) -> None:
    """A turn whose response before nobody knows, opened in another session."""
    headers = {"x-parent-session-id": long()[:256]}
    provider.respond(response(id=id_()), model=id_(), previous_response_id=id_(), extra_headers=headers)


def of_a_named_session(provider: Provider, id_: Callable[[], str]) -> None:
    provider.chat(completion(said(), id=id_()), model=id_(), extra_body={"session_id": id_()[:256]})


def of_an_agent(provider: Provider, id_: Callable[[], str]) -> None:
    """A turn that sends an item back, and is replied to by another."""
    sent, back = function_call(id=None, call_id=id_()), function_call(id=id_(), call_id=id_())
    provider.respond(response(back, id=id_()), model=id_(), input=[sent, output_of(sent)])


def of_a_chat_agent(provider: Provider, id_: Callable[[], str]) -> None:
    tools = [tool_call(id_()), tool_call(id_())]
    provider.chat(completion(called(tools[0]), id=id_()), model=id_(), messages=[user(), called(tools[1])])


@pytest.mark.parametrize("id_", [wide, long, too_long])
@pytest.mark.parametrize("make", [of_nobody, of_a_named_session, of_an_agent, of_a_chat_agent])
def test_it_keeps_so_many_bytes_at_worst_whatever_ids_come(provider, monkeypatch, make, id_):
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")  # leaves digests, too
    store = MemoryStore(KEYS)
    with capture_spans(store=store, user=True):
        for _ in range(KEYS):
            make(provider, id_)
    assert len(store.snapshot()) == KEYS or id_ is too_long
    assert BOUNDS is not None
    assert bytes_of(store) / KEYS <= int(BOUNDS[2]) * 1_000_000 / Settings().max_keys


def test_it_keeps_so_many_bytes_as_a_rule(provider):
    store = MemoryStore(KEYS)
    with capture_spans(store=store):
        for number in range(KEYS):
            reply = completion(
                said(), usage={"prompt_tokens": 1_000, "completion_tokens": 1_000, "total_tokens": 2_000}
            )
            provider.chat(reply, model="gpt-4o-mini", extra_body={"session_id": f"chat-{number // 8}"})
            provider.respond(response(message()), model="gpt-4o-mini")
    assert len(store.snapshot()) == KEYS
    assert BOUNDS is not None
    assert bytes_of(store) / KEYS <= int(BOUNDS[1]) * 1_000_000 / Settings().max_keys


def test_a_call_leaves_so_many_keys_at_most(provider):
    store = MemoryStore()
    calls = [function_call(f'{{"a": {number}}}', call_id=f"0G84QF{number:03d}") for number in range(100)]
    sent = [item for call in calls for item in (call, output_of(call))]
    with capture_spans(store=store):
        provider.respond(response(*calls), input=sent, extra_body={"session_id": "mine"})
    # Of each item its own id, the call's with what it says, and the call's in this process; the response, the session,
    # what the request ends with and its following turn.
    assert MAX_LEFT <= len(store.snapshot()) <= 3 * MAX_LEFT + 4
