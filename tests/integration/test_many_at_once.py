"""Hundreds of tasks or threads of one process at once, with the default limits: the store is never taken for down."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from loopback import LoopbackServer
from loopback_client import MODEL, options_for
from openai import AsyncOpenAI, OpenAI
from waiting import until

from otel_llm_sessions.testing import capture_spans

pytestmark = [pytest.mark.slow, pytest.mark.alone]

TASKS, THREADS, TURNS = 400, 100, 3

CONNECTING = 60.0
"""Seconds, where the client has five: a loop on which hundreds connect at once may be longer at it."""


def arguments(session: int) -> dict[str, Any]:
    return {"model": MODEL, "messages": [], "extra_headers": {"x-session-id": f"session-{session}"}}


def by_tasks(server: LoopbackServer) -> int:
    async def talk(client: AsyncOpenAI, session: int) -> None:
        for _ in range(TURNS):
            await client.chat.completions.create(**arguments(session))

    async def all_of_them() -> None:
        async with AsyncOpenAI(**options_for(server), timeout=CONNECTING) as client:
            await asyncio.gather(*(talk(client, session) for session in range(TASKS)))

    asyncio.run(all_of_them())
    return TASKS


def by_threads(server: LoopbackServer) -> int:
    def talk(session: int) -> None:
        for _ in range(TURNS):
            client.chat.completions.create(**arguments(session))

    with OpenAI(**options_for(server), timeout=CONNECTING) as client, ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(talk, range(THREADS)))
    return THREADS


@pytest.mark.parametrize("talk", [by_tasks, by_threads])
def test_the_store_is_never_down_and_no_turn_is_wrong(talk, server, redis, caplog):
    with caplog.at_level(logging.DEBUG, "otel_llm_sessions"), capture_spans(store=redis.url) as spans:
        sessions = talk(server)
        until(lambda: len([span for span in spans if span.name.startswith("chat ")]) == sessions * TURNS, 60)
    turns = defaultdict(list)
    for span in spans:
        if span.name.startswith("chat "):
            turns[span.attributes["session.id"]].append(span.attributes["llm_session.turn"])
    assert len(turns) == sessions
    assert [wrong for wrong in turns.values() if sorted(wrong) != [1, 2, 3]] == []
    assert caplog.text == ""
