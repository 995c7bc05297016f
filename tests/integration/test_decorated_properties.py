"""A decorated generator answers as it would without us, whatever is done to it (docs/architecture.md)."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import get_current

from otel_llm_sessions import current_session, session


class Thrown(Exception):
    """What is thrown into a generator."""


STEPS = st.lists(st.sampled_from(["next", "send", "throw", "stop", "exit", "close"]), max_size=8)
UNTIL_CLOSED = ["close"] * 10
REACTIONS = st.lists(st.sampled_from(["yield", "return", "raise", "again"]), min_size=1, max_size=8)


def generate(reactions: list[str], inside: list[Any]):
    left = iter(reactions)
    got: Any = None
    while True:
        here = current_session()
        inside.append(here.id if here else None)
        try:
            got = yield repr(got)
        except BaseException as error:
            reaction, got = next(left, "again"), type(error).__name__
            if reaction == "return":
                return "returned"
            if reaction == "raise":
                raise LookupError(got) from error
            if reaction == "again":
                raise
        else:
            if next(left, "return") == "return":
                return "done"


async def agenerate(reactions: list[str], inside: list[Any]):
    generator = generate(reactions, inside)
    step, value = generator.send, None
    while True:
        await asyncio.sleep(0)
        try:
            item = step(value)
        except StopIteration:
            return
        step = generator.send
        try:
            value = yield item
        except BaseException as error:
            step, value = generator.throw, error


def outcome(do: Any) -> Any:
    try:
        return "gave", do()
    except BaseException as error:
        return type(error).__name__, str(error), getattr(error, "value", None)


async def aoutcome(awaitable: Any) -> Any:
    try:
        return "gave", await awaitable
    except BaseException as error:
        return type(error).__name__, str(error)


def driven(generator: Any, steps: list[str]) -> list[Any]:
    ways: dict[str, Any] = {
        "next": lambda: next(generator),
        "send": lambda: generator.send("sent"),
        "throw": lambda: generator.throw(Thrown("x")),
        "stop": lambda: generator.throw(StopIteration("x")),
        "exit": lambda: generator.throw(GeneratorExit("x")),
        "close": lambda: generator.close(),
    }
    return [outcome(ways[step]) for step in [*steps, *UNTIL_CLOSED]]


async def adriven(generator: Any, steps: list[str]) -> list[Any]:
    ways: dict[str, Any] = {
        "next": lambda: generator.asend(None),
        "send": lambda: generator.asend("sent"),
        "throw": lambda: generator.athrow(Thrown("x")),
        "stop": lambda: generator.athrow(StopAsyncIteration("x")),
        "exit": lambda: generator.athrow(GeneratorExit("x")),
        "close": lambda: generator.aclose(),
    }
    return [await aoutcome(ways[step]()) for step in [*steps, *UNTIL_CLOSED]]


@given(REACTIONS, STEPS)
def test_a_decorated_generator_answers_as_the_bare_one(reactions, steps):
    inside: list[Any] = []
    assert driven(session("mine")(generate)(reactions, inside), steps) == driven(generate(reactions, []), steps)
    assert set(inside) <= {"mine"}
    assert dict(get_current()) == {}


@given(REACTIONS, STEPS)
def async_generators_answer_alike(reactions, steps):
    async def both() -> Any:
        decorated, bare = session("mine")(agenerate)(reactions, inside), agenerate(reactions, [])
        with_us, without_us = await adriven(decorated, steps), await adriven(bare, steps)
        reactions.clear()  # what was closed, and is suspended still, does as it is told whenever it is collected
        return with_us, without_us, dict(get_current())

    inside: list[Any] = []
    with_us, without_us, left = asyncio.run(both())
    assert with_us == without_us
    assert set(inside) <= {"mine"}
    assert left == {}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the bare one ignores its end, too
def test_so_does_a_decorated_async_generator():
    async_generators_answer_alike()
    gc.collect()  # here, and not amid a test that comes later
