"""A session's root is there also if who claimed it was interrupted."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from lookup_kit import nothing_is_held
from waiting import auntil

from otel_llm_sessions import session
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans


class Shared(MemoryStore):
    """A store that has to be waited for; it takes back a claim whose caller was cancelled, as ``GuardedStore`` does."""

    waits = True

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()

    async def aclaim(self, key: str) -> bool:
        if not self.claim(key):
            return False
        self.asked.set()
        try:
            await self.answers.wait()
        except asyncio.CancelledError:
            self.withdraw(key)
            raise
        return True


async def ask(client: Any) -> None:
    await client.chat.completions.create(model="m", messages=[], extra_headers={"x-session-id": "X"})


async def cancelled_amid_its_claim(client: Any, store: Shared) -> None:
    first = asyncio.ensure_future(ask(client))
    await store.asked.wait()
    await ask(client)  # does not wait for the first: whose root it is is not known yet
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    store.answers.set()


async def in_a_block(client: Any) -> None:
    async with session("X"):
        await ask(client)


@pytest.mark.parametrize("turn", [ask, in_a_block], ids=["a call", "a block"])
async def test_the_next_turn_emits_the_root_of_a_cancelled_one(async_client, turn):
    store = Shared()
    with capture_spans(store=store) as spans:
        await cancelled_amid_its_claim(async_client, store)
        await turn(async_client)
        await ask(async_client)
    (root,) = [span for span in spans if span.attributes.get("llm_session.root")]
    calls = [span for span in spans if span.name == "chat m" and span.parent is not None]
    assert {span.parent.span_id for span in calls} == {root.context.span_id}


async def test_to_fetch_a_response_meanwhile_stays_in_the_sessions_trace_and_opens_nothing(async_client):
    store = Shared()
    with capture_spans(store=store) as spans:
        first = asyncio.ensure_future(ask(async_client))
        await store.asked.wait()
        response = await async_client.responses.create(model="m", input="x", extra_headers={"x-session-id": "X"})
        await async_client.responses.retrieve(response.id)
        store.answers.set()
        await first
        await auntil(nothing_is_held)  # on a busy machine the claim is answered late
    assert len([span for span in spans if span.attributes.get("llm_session.root")]) == 1
    assert len({span.context.trace_id for span in spans}) == 1


async def test_a_root_of_another_process_is_claimed_twice_and_no_more(async_client):
    class Elsewhere(MemoryStore):
        claims = 0

        def claim(self, key: str) -> bool:
            self.claims += 1
            return False

    store = Elsewhere()
    with capture_spans(store=store) as spans:
        for _ in range(5):
            await ask(async_client)
    assert store.claims == 2
    assert {span.name for span in spans} == {"chat m"}
