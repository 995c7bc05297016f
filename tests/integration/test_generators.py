"""A block in a generator counts only while that generator runs, wherever it is stepped (docs/sessions.md)."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import httpx2
import pytest
from answered import client_of
from opentelemetry import baggage
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import TracerProvider
from session_kit import BOTH_MODES, ask, calls, name_here, sessions_of
from waiting import run_all

from otel_llm_sessions import current_session, session, session_trace_id
from otel_llm_sessions.testing import capture_spans


def agent(name: str | None):
    with session(name):
        yield name_here()
        yield name_here()


async def async_agent(name: str):
    async with session(name):
        yield name_here()
        await asyncio.sleep(0)
        yield name_here()


# --- whose a call is ----------------------------------------------------------------------------------------


@BOTH_MODES
def test_calls_of_interleaved_generators_stay_apart_and_the_consumers_are_its_own(client, spans):
    def talk(name: str):
        with session(name):
            yield ask(client)
            yield ask(client)

    for _ in zip(talk("alice"), talk("bob")):
        ask(client)
        assert current_session() is None
    assert sessions_of(spans) == ["alice", "bob", None] * 2
    assert [span.attributes.get("llm_session.turn") for span in calls(spans)] == [1, 1, None, 2, 2, None]
    assert [span.attributes.get("llm_session.source") for span in calls(spans)] == ["context", "context", None] * 2
    assert dict(get_current()) == {}


@BOTH_MODES
async def test_calls_of_interleaved_async_generators_stay_apart(async_client, spans):
    async def talk(name: str):
        async with session(name):
            yield await ask(async_client)
            with session(f"{name}'s own"):
                yield await ask(async_client)
            await asyncio.sleep(0)
            yield await ask(async_client)

    one, other = talk("alice"), talk("bob")
    for _ in range(3):
        await anext(one)
        await anext(other)
        await ask(async_client)
    expected = [["alice", "bob", None], ["alice's own", "bob's own", None], ["alice", "bob", None]]
    assert sessions_of(spans) == sum(expected, [])
    await one.aclose()
    await other.aclose()


@BOTH_MODES
def test_a_generator_in_the_session_of_its_consumer_has_its_own(client, spans):
    def talk():
        with session("inner"):
            ask(client)
            yield
            ask(client)

    with session("outer"):
        for _ in talk():
            ask(client)
    assert sessions_of(spans) == ["inner", "outer", "inner"]


def test_the_nearest_block_is_whose_code_it_is():
    def inside_a_function() -> Any:
        with session("function"):
            return name_here(), next(agent("nested")), name_here()

    def outer():
        with session("outer"):
            yield inside_a_function()
            yield name_here()
            for name in agent("nested"):
                yield name, name_here()
        yield name_here()

    generator = outer()
    assert next(generator) == ("function", "nested", "function")
    with session("consumer"):
        assert (next(generator), name_here()) == ("outer", "consumer")
        assert list(generator) == [("nested", "outer")] * 2 + ["consumer"]


def test_a_block_of_the_consumer_that_began_later_is_not_nearer():
    generator = agent("generator")
    next(generator)
    with session("consumer"):
        assert (next(generator), name_here()) == ("generator", "consumer")


def test_without_an_id_each_generator_is_a_session_of_its_own():
    assert len({name for _ in range(3) for name in agent(None)}) == 3


def test_what_others_start_while_it_runs_is_stamped_and_keeps_its_place():
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("the application's")

    def talk():
        with session("mine"):
            tracer.start_span("tool").end()
            yield

    with capture_spans(tracer_provider=provider) as spans:
        with tracer.start_as_current_span("request"):
            for _ in talk():
                tracer.start_span("consumer's").end()
        list(talk())
    inside, consumers, request, alone = spans
    assert [span.attributes.get("session.id") for span in spans] == ["mine", None, None, "mine"]
    assert inside.parent.span_id == consumers.parent.span_id == request.context.span_id
    assert (alone.name, alone.parent) == ("tool", None)


def test_a_call_in_a_generator_stands_in_its_sessions_trace(client, spans):
    def talk():
        with session("mine"):
            yield ask(client)

    list(talk())
    with session("around"):
        list(talk())
    assert {f"{call.context.trace_id:032x}" for call in calls(spans)} == {session_trace_id("mine")}


def test_what_is_started_below_a_call_has_the_generators_session_and_its_baggage(spans):
    def transport(request: httpx2.Request) -> httpx2.Response:
        seen.append((name_here(), baggage.get_baggage("session.id")))
        return httpx2.Response(500)

    def talk(client: Any):
        with session("mine", propagate=True):
            with contextlib.suppress(Exception):
                ask(client)
            yield

    seen: list[Any] = []
    with client_of(transport) as client:
        for _ in talk(client):
            assert baggage.get_baggage("session.id") is None
    assert seen == [("mine", "mine")]
    assert dict(get_current()) == {}


# --- generators that are left -------------------------------------------------------------------------------


def test_a_generator_that_is_left_leaves_no_session():
    for _ in agent("mine"):
        break
    assert current_session() is None
    assert dict(get_current()) == {}


async def test_an_async_generator_that_is_left_leaves_no_session(async_client, spans):
    async def talk():
        async with session("mine"):
            yield await ask(async_client)
            yield

    async for _ in talk():
        break
    assert current_session() is None
    await asyncio.sleep(0)
    gc.collect()
    await ask(async_client)
    assert sessions_of(spans) == ["mine", None]
    assert dict(get_current()) == {}


class Agent:
    """Holds its own generator, as agents do: only the garbage collector finds such a circle."""

    def __init__(self, block: Any) -> None:
        self.block = block
        self.generator = self.run()
        next(self.generator)

    def run(self):
        with self.block:
            yield
            yield


class AsyncAgent(Agent):
    def __init__(self, block: Any) -> None:
        self.block = block
        self.generator = self.run()
        with contextlib.suppress(StopIteration):
            self.generator.asend(None).send(None)

    async def run(self):
        async with self.block:
            yield
            yield


@pytest.mark.parametrize("kind", [Agent, AsyncAgent])
def test_an_abandoned_generator_is_collected_and_its_block_forgotten(kind):
    left = [weakref.ref(kind(session("mine"))) for _ in range(100)]
    gc.collect()
    assert not [ref for ref in left if ref() is not None]
    assert all(name_here() is None for _ in agent_of_nobody())


def agent_of_nobody():
    yield
    yield


def test_a_generator_that_ignores_its_end_is_forgotten_too():
    def stubborn():
        with session("mine"):
            try:
                yield
            except GeneratorExit:
                yield

    generator = stubborn()
    next(generator)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        generator.close()
    del generator
    assert [name_here() for _ in agent_of_nobody()] == [None, None]


def test_a_closed_generator_ends_its_block_wherever_it_is_closed():
    generator = agent("mine")
    next(generator)
    with session("other"):
        generator.close()
        assert name_here() == "other"
    assert current_session() is None


def test_one_object_may_be_open_in_many_generators():
    one = session("shared")

    def talk():
        with one, one:
            yield name_here()
        yield name_here()

    first, second = talk(), talk()
    assert [next(first), next(second), next(first), next(second)] == ["shared", "shared", None, None]
    with one:
        assert (next(talk()), name_here()) == ("shared", "shared")
    assert current_session() is None


def test_a_stack_in_a_generator_ends_its_blocks_wherever_it_is_closed():
    def finish(stack: contextlib.ExitStack) -> None:
        stack.close()

    def talk():
        stack = contextlib.ExitStack()
        stack.enter_context(session("mine"))
        yield name_here()
        finish(stack)
        yield name_here()

    assert list(talk()) == ["mine", None]


def test_a_block_in_a_generator_that_its_consumer_ends_has_ended():
    def talk():
        stack = contextlib.ExitStack()
        stack.enter_context(session("mine"))
        yield stack
        yield name_here()

    generator = talk()
    next(generator).close()
    assert next(generator) is None


def test_an_inner_block_that_is_never_left_ends_with_the_outer_one():
    def talk():
        inner = session("inner")
        with session("outer"):
            inner.__enter__()
            yield name_here()
        yield name_here()

    assert list(talk()) == ["inner", None]


# --- where it is stepped ------------------------------------------------------------------------------------


def test_a_generator_keeps_its_session_in_every_thread_and_context_that_steps_it(client, spans):
    def talk():
        with session("mine"):
            for _ in range(3):
                ask(client)
                yield

    generator = talk()
    for _ in range(3):
        worker = threading.Thread(target=contextvars.copy_context().run, args=(next, generator))
        worker.start()
        worker.join()
    assert sessions_of(spans) == ["mine"] * 3
    assert len({call.context.trace_id for call in calls(spans)}) == 1


async def test_an_async_generator_keeps_its_session_in_every_task_that_steps_it(async_client, spans):
    async def talk():
        async with session("mine"):
            yield await ask(async_client)
            yield await ask(async_client)

    generator = talk()
    await asyncio.wait_for(anext(generator), 30)
    async with session("other"):
        await asyncio.create_task(generator.asend(None))
        await asyncio.create_task(generator.aclose())
        assert name_here() == "other"
    assert sessions_of(spans) == ["mine", "mine"]


def test_generators_that_many_threads_step_in_any_order_never_meet():
    def talk(name: str):
        for turn in range(5):
            with session(name), session(f"{name}/{turn}"):
                yield name_here() == f"{name}/{turn}"
                with session(name):
                    yield name_here() == name
            yield name_here() is None

    def step(number: int) -> None:
        random = Random(number)
        for _ in range(200):
            with locks[chosen := random.randrange(len(generators))]:
                answers.append(next(generators[chosen], True) and name_here() is None)

    generators = [talk(f"session {number}") for number in range(20)]
    locks, answers = [threading.Lock() for _ in generators], []
    steppers = [threading.Thread(target=step, args=(number,)) for number in range(8)]
    run_all(steppers)
    assert len(answers) == 1600
    assert all(answers)


# --- what is started from it --------------------------------------------------------------------------------


async def test_tasks_started_from_a_generator_keep_its_session_and_its_consumers_do_not(async_client, spans):
    async def later() -> str | None:
        await asyncio.sleep(0)
        await ask(async_client)
        return name_here()

    async def talk():
        async with session("mine"):
            yield asyncio.create_task(later())
            yield asyncio.gather(later(), later())

    def start():
        with session("sync"):
            yield asyncio.ensure_future(later())

    assert [(await task, await asyncio.create_task(later())) async for task in talk()] == [
        ("mine", None),
        (["mine", "mine"], None),
    ]
    assert [await task for task in start()] == ["sync"]
    assert sorted(map(str, sessions_of(spans))) == ["None"] * 2 + ["mine"] * 3 + ["sync"]


async def test_jobs_given_by_a_generator_belong_to_its_session(spans):
    async def talk():
        async with session("mine"):
            yield await asyncio.to_thread(name_here)
            with ThreadPoolExecutor(1) as pool:
                yield pool.submit(name_here).result()
            yield await asyncio.get_running_loop().run_in_executor(None, name_here)

    assert [(name, await asyncio.to_thread(name_here)) async for name in talk()] == [("mine", None)] * 3


async def test_the_loop_is_as_it_was_after_uninstrumenting():
    kind = type(asyncio.get_running_loop())
    before = kind.__dict__.get("create_task"), kind.create_task
    with capture_spans():
        with session("mine"):
            assert (kind.__dict__.get("create_task"), kind.create_task) == before
        assert [name async for name in async_agent("mine")] == ["mine", "mine"]
        assert kind.create_task is not before[1]
    assert (kind.__dict__.get("create_task"), kind.create_task) == before
