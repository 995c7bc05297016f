"""How long a caller on an event loop waits for a store: as long as the store is late, not the loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import weakref

import pytest
from store_kit import SERVERS, Lateness, a_link

from otel_llm_sessions.stores.asking import FEW, asked
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.stores.opening import open_store
from otel_llm_sessions.stores.patience import in_task, within


@contextlib.asynccontextmanager
async def a_busy_loop():
    """Something else holds up the loop, 60 ms at each step."""

    async def work():
        while True:
            time.sleep(0.06)
            await asyncio.sleep(0)

    busy = asyncio.ensure_future(work())
    yield
    busy.cancel()


@pytest.fixture(params=["redis", "sqlite"])
def prompt_store(request, tmp_path, closing):
    """A store with the time limit that applications have."""
    if request.param == "sqlite":
        return closing(open_store(f"sqlite:///{tmp_path / 'sessions.db'}"))
    return closing(open_store(request.getfixturevalue("_emptied")(SERVERS[0]).url))


async def test_a_loop_that_is_busy_is_not_taken_for_a_store_that_is_late(prompt_store):
    await prompt_store.aget_all(["s:1"])
    async with a_busy_loop():
        await prompt_store.aput(["s:1", "r:1"], a_link())
        assert (await prompt_store.aget_all(["s:0", "r:1"]))[1] is not None
        assert await prompt_store.aclaim("1")


async def test_the_first_connection_is_made_on_a_busy_loop(prompt_store):
    async with a_busy_loop():
        assert await prompt_store.aget_all(["s:1"]) == [None]


async def test_what_takes_too_long_is_cancelled_in_time():
    ended = []

    async def work():
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(True)

    with Lateness() as late:
        begun = time.perf_counter()
        with pytest.raises(asyncio.TimeoutError):
            await within(0.05, work)
        took = time.perf_counter() - begun
    assert ended
    assert 0.045 < took < late.limit(0.08)


async def test_a_caller_that_is_cancelled_takes_its_work_along():
    work = asyncio.get_running_loop().create_future()
    caller = asyncio.ensure_future(within(10, lambda: work))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.cancelled()


async def test_who_cancels_all_other_tasks_does_not_cancel_the_caller():
    caller = asyncio.ensure_future(within(10, lambda: asyncio.sleep(10)))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task(), caller}:
        task.cancel()
    with pytest.raises(asyncio.TimeoutError):
        await caller
    assert not caller.cancelled()


async def test_a_failure_is_the_callers_and_no_ones_who_is_gone(caplog):
    async def work():
        try:
            await asyncio.sleep(10)
        finally:
            raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        await within(0.01, work)
    caller = asyncio.ensure_future(within(10, work))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    del caller
    await asyncio.sleep(0)
    gc.collect()
    assert not caplog.records


def test_tasks_of_loops_that_were_closed_over_them_do_not_pile_up():
    store, begun = asked(Slow()), weakref.WeakSet()

    async def main():
        store.ask(["s:1"])
        begun.update(asyncio.all_tasks() - {asyncio.current_task()})

    for _ in range(3 * FEW):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
    gc.collect()
    assert 0 < len(begun) <= FEW + 1


class Slow(MemoryStore):
    """The application's own, which takes its time."""

    waits = True

    async def aget_all(self, keys):
        await asyncio.sleep(60)


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("way", ["waited for", "asked beside"])
def test_nobody_complains_of_work_of_ours_in_a_loop_that_is_closed(caplog, recwarn, way, steps):
    loop = asyncio.new_event_loop()

    async def main():
        if way == "asked beside":
            asked(Slow()).ask(["s:1"])
        else:
            in_task(loop, lambda: within(60, lambda: asyncio.sleep(60)))
        for _ in range(steps):
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.close()
    gc.collect()
    assert not caplog.records
    assert not [str(warned.message) for warned in recwarn]
