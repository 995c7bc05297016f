"""A generator's block under trio: its tasks and its worker threads' work belong to it, its consumer's do not."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
import pytest
import trio
from session_kit import name_here

from otel_llm_sessions import session
from otel_llm_sessions.testing import capture_spans


async def later(seen: list[Any]) -> None:
    await trio.sleep(0)
    seen.append(name_here())


async def talk(nursery: trio.Nursery, seen: list[Any]):
    async with session("mine"):
        nursery.start_soon(later, seen)
        yield await anyio.to_thread.run_sync(name_here)
        yield name_here()


@pytest.mark.parametrize("decorated", [False, True])
def test_what_a_generator_starts_belongs_to_its_session_and_what_its_consumer_starts_does_not(decorated):
    async def main() -> None:
        make = session("mine")(talk) if decorated else talk
        async with trio.open_nursery() as nursery:
            generator = make(nursery, inside)
            async for name in generator:
                steps.append((name, name_here(), await anyio.to_thread.run_sync(name_here)))
                nursery.start_soon(later, outside)

    inside: list[Any] = []
    outside: list[Any] = []
    steps: list[Any] = []
    with capture_spans():
        trio.run(main)
    assert steps == [("mine", None, None)] * 2
    assert (inside, outside) == (["mine"], [None, None])
