"""``@session(...)``: whatever it decorates is inside while it runs, or it says that it cannot be (docs/sessions.md)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import types
import weakref
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import TracerProvider
from session_kit import name_here

from otel_llm_sessions import session, session_trace_id
from otel_llm_sessions.testing import capture_spans


def nothing_left() -> bool:
    return dict(get_current()) == {}


# --- generator functions ------------------------------------------------------------------------------------


@session("mine")
def generate(*items: Any):
    """Echoes."""
    for item in items:
        got = yield item, name_here()
        if got is not None:
            yield got, name_here()
    return "done", name_here()


@session("mine")
async def agenerate(*items: Any):
    """Echoes."""
    for item in items:
        await asyncio.sleep(0)
        got = yield item, name_here()
        if got is not None:
            yield got, name_here()


def test_a_generator_is_inside_while_it_runs_and_its_consumer_is_not():
    for item, inside in generate(1, 2):
        assert (inside, name_here(), nothing_left()) == ("mine", None, True)
    with session("consumer"):
        assert [(inside, name_here()) for _, inside in generate(1, 2)] == [("mine", "consumer")] * 2


async def test_an_async_generator_is_inside_while_it_runs_and_its_consumer_is_not():
    async for item, inside in agenerate(1, 2):
        assert (inside, name_here(), nothing_left()) == ("mine", None, True)
    async with session("consumer"):
        assert [(inside, name_here()) async for _, inside in agenerate(1, 2)] == [("mine", "consumer")] * 2


def test_decorated_generator_functions_are_what_they_were():
    assert inspect.isgeneratorfunction(generate)
    assert inspect.isasyncgenfunction(agenerate)
    assert (generate.__name__, generate.__doc__, generate().__name__) == ("generate", "Echoes.", "generate")


def test_a_generator_takes_what_is_sent_and_returns_what_it_returns():
    generator = generate(1)
    next(generator)
    assert generator.send("sent") == ("sent", "mine")
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == ("done", "mine")


async def test_an_async_generator_takes_what_is_sent():
    generator = agenerate(1)
    await anext(generator)
    assert await generator.asend("sent") == ("sent", "mine")
    with pytest.raises(StopAsyncIteration):
        await anext(generator)


class Sentinel(Exception):
    """Nothing that a generator here raises by itself."""


def test_a_generator_may_answer_fail_or_end_when_something_is_thrown_in():
    @session("mine")
    def answers(do: Any):
        try:
            yield
        except (Sentinel, GeneratorExit) as error:
            seen.append((type(error), name_here()))
            if do == "raise":
                raise
            if do == "answer":
                yield "answer"

    seen: list[Any] = []
    answering, failing, ending, closed = answers("answer"), answers("raise"), answers("end"), answers("raise")
    for generator in (answering, failing, ending, closed):
        next(generator)
    assert answering.throw(Sentinel()) == "answer"
    with pytest.raises(Sentinel):
        failing.throw(Sentinel())
    with pytest.raises(StopIteration):
        ending.throw(Sentinel())
    closed.close()
    assert seen == [(Sentinel, "mine")] * 3 + [(GeneratorExit, "mine")]
    assert nothing_left()


async def test_so_may_an_async_generator():
    @session("mine")
    async def answers(do: Any):
        try:
            yield
        except (Sentinel, GeneratorExit) as error:
            await asyncio.sleep(0)
            seen.append((type(error), name_here()))
            if do == "raise":
                raise
            if do == "answer":
                yield "answer"

    seen: list[Any] = []
    answering, failing, ending, closed = answers("answer"), answers("raise"), answers("end"), answers("raise")
    for generator in (answering, failing, ending, closed):
        await anext(generator)
    assert await answering.athrow(Sentinel()) == "answer"
    with pytest.raises(Sentinel):
        await failing.athrow(Sentinel())
    with pytest.raises(StopAsyncIteration):
        await ending.athrow(Sentinel())
    await closed.aclose()
    assert seen == [(Sentinel, "mine")] * 3 + [(GeneratorExit, "mine")]
    assert nothing_left()


def test_an_exception_that_is_thrown_in_is_not_kept():
    def fails():
        generator = generate(1)
        next(generator)
        error = Sentinel()
        ref = weakref.ref(error)
        with contextlib.suppress(Sentinel):
            generator.throw(error)
        del error  # this frame is in its traceback
        return ref

    gc.disable()
    try:
        assert fails()() is None
    finally:
        gc.enable()


async def test_an_abandoned_async_generator_is_closed_by_the_loop_and_only_once():
    ended: list[Any] = []

    @session("mine")
    async def talk():
        try:
            yield
        finally:
            await asyncio.sleep(0)
            ended.append(name_here())

    async for _ in talk():
        break
    for _ in range(5):
        await asyncio.sleep(0)
    assert ended == ["mine"]


def test_at_the_loops_end_open_generators_are_closed_without_a_complaint():
    ended: list[Any] = []
    complaints: list[Any] = []

    @session("mine")
    async def talk():
        try:
            yield
        finally:
            await asyncio.sleep(0.001)
            ended.append(name_here())

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        left.append(talk())
        await anext(left[0])

    left: list[Any] = []
    asyncio.run(main())
    assert (ended, complaints) == (["mine"], [])


def test_what_a_generator_attaches_is_its_own_at_every_step():
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("the application's")

    @session("mine")
    def talk():
        with tracer.start_as_current_span("work"):
            yield
            tracer.start_span("step").end()
            yield
        tracer.start_span("after").end()

    with capture_spans(tracer_provider=provider) as spans:
        for _ in talk():
            assert not trace.get_current_span().get_span_context().is_valid
            with tracer.start_as_current_span("consumer's"):
                pass
    by_name = {span.name: span for span in spans}
    assert by_name["step"].parent.span_id == by_name["work"].context.span_id
    assert by_name["work"].parent.span_id == by_name["after"].parent.span_id == by_name["session"].context.span_id
    assert (by_name["consumer's"].parent, by_name["consumer's"].attributes.get("session.id")) == (None, None)
    assert f"{by_name['step'].context.trace_id:032x}" == session_trace_id("mine")


def test_a_step_under_another_span_keeps_its_place_there():
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("the application's")

    @session("mine")
    def talk():
        for _ in range(2):
            tracer.start_span("inside").end()
            yield

    with capture_spans(tracer_provider=provider) as spans:
        generator = talk()
        next(generator)
        with tracer.start_as_current_span("request") as request:
            next(generator)
    first, second = [span for span in spans if span.name == "inside"]
    assert f"{first.context.trace_id:032x}" == session_trace_id("mine")
    assert second.parent.span_id == request.get_span_context().span_id
    assert [first.attributes["session.id"], second.attributes["session.id"]] == ["mine", "mine"]


def test_a_generator_opens_its_trace_once_however_many_steps_it_takes():
    with capture_spans() as spans:
        list(generate(*range(50)))
    assert [span.name for span in spans] == ["session"]


def test_generators_without_an_id_are_sessions_of_their_own_for_all_their_steps():
    @session()
    def talk():
        yield name_here()
        yield name_here()

    ids = [tuple(talk()) for _ in range(3)]
    assert len({id_ for pair in ids for id_ in pair}) == 3
    assert all(first == second for first, second in ids)


# --- what returns something that runs later -----------------------------------------------------------------


async def test_a_function_that_returns_a_coroutine():
    async def work() -> str | None:
        await asyncio.sleep(0)
        return name_here()

    @session("mine")
    def begin():
        return work()

    coroutine = begin()
    assert inspect.iscoroutine(coroutine)
    assert await coroutine == "mine"
    assert await session("partial")(functools.partial(work))() == "partial"
    assert await session("lambda")(lambda: begin())() == "mine"


async def test_a_function_that_returns_a_generator():
    def work():
        yield name_here()

    async def awork():
        yield name_here()

    assert list(session("mine")(lambda: work())()) == ["mine"]
    assert list(session("mine")(lambda: (name_here() for _ in range(2)))()) == ["mine", "mine"]
    assert [name async for name in session("mine")(lambda: awork())()] == ["mine"]
    assert list(session("mine")(functools.partial(work))()) == ["mine"]
    assert list(await session("mine")(as_coroutine_function(work))()) == ["mine"]


def as_coroutine_function(function: Any) -> Any:
    async def call() -> Any:
        return function()

    return call


async def test_a_generator_that_is_awaited():
    @types.coroutine
    def work():
        yield from asyncio.sleep(0).__await__()
        return name_here()

    assert await session("mine")(work)() == "mine"
    assert await session("mine")(lambda: work())() == "mine"


async def test_an_object_that_is_called():
    class Sync:
        def __call__(self) -> str | None:
            return name_here()

    class Async:
        async def __call__(self) -> str | None:
            await asyncio.sleep(0)
            return name_here()

    class Generator:
        def __call__(self):
            yield name_here()

    assert session("mine")(Sync())() == "mine"
    assert await session("mine")(Async())() == "mine"
    assert list(session("mine")(Generator())()) == ["mine"]
    # A framework asks before it calls.
    assert inspect.iscoroutinefunction(session("mine")(Async()))
    assert inspect.isgeneratorfunction(session("mine")(Generator()))
    assert not inspect.iscoroutinefunction(session("mine")(Sync()))


@pytest.mark.parametrize("order", ["session above", "session below"])
def test_a_function_of_contextlib(order):
    def manage():
        before = name_here()
        yield before
        ended.append(name_here())

    ended: list[Any] = []
    if order == "session above":
        managed = session("mine")(contextlib.contextmanager(manage))
    else:
        managed = contextlib.contextmanager(session("mine")(manage))
    with managed() as before:
        inside = name_here()
    assert (before, ended, name_here()) == ("mine", ["mine"], None)
    assert inside == ("mine" if order == "session above" else None)
    as_decorator = managed()(name_here)
    assert [as_decorator(), as_decorator()] == (["mine", "mine"] if order == "session above" else [None, None])


async def test_an_async_function_of_contextlib():
    @session("mine")
    @contextlib.asynccontextmanager
    async def managed():
        yield name_here()

    async with managed() as before:
        assert (before, name_here()) == ("mine", "mine")
    assert name_here() is None


def test_a_context_manager_still_sees_and_may_swallow_what_is_raised_inside():
    @session("mine")
    @contextlib.contextmanager
    def swallowing():
        with contextlib.suppress(Sentinel):
            yield

    with swallowing():
        raise Sentinel
    with pytest.raises(ZeroDivisionError), swallowing():
        raise ZeroDivisionError
    assert nothing_left()


def test_what_can_be_entered_but_is_a_result_is_handed_out_as_it_is(client):
    @session("mine")
    def ask() -> Any:
        return client.chat.completions.create(model="m", messages=[], stream=True)

    with capture_spans() as spans, ask() as stream:
        assert type(stream).__name__ == "Stream"
        assert name_here() is None
        list(stream)
    assert [span.attributes["session.id"] for span in spans if span.name.startswith("chat")] == ["mine"]


# --- methods ------------------------------------------------------------------------------------------------


class Agent:
    name = "agent"

    @session("mine")
    def method(self) -> Any:
        return self.name, name_here()

    @session("mine")
    def steps(self):
        yield self.name, name_here()

    @session("mine")
    @staticmethod
    def static() -> Any:
        return name_here()

    @session("mine")
    @classmethod
    def of_class(cls) -> Any:
        return cls.name, name_here()


def test_methods_of_every_kind():
    assert Agent().method() == ("agent", "mine")
    assert list(Agent().steps()) == [("agent", "mine")]
    assert (Agent.static(), Agent().static()) == ("mine", "mine")
    assert Agent.of_class() == Agent().of_class() == ("agent", "mine")


@pytest.mark.parametrize("what", [Agent, property(lambda self: 1), functools.cached_property(len), 5, None])
def test_what_cannot_be_inside_is_refused(what):
    with pytest.raises(TypeError, match="decorates functions"):
        session("mine")(what)
