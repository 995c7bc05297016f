"""The block of a generator that contextlib or a test's fixture drives lasts until it is left (docs/sessions.md)."""

from __future__ import annotations

import contextlib

import pytest
from opentelemetry import trace
from session_kit import name_here

from otel_llm_sessions import current_session, session, session_trace_id


def agent(name: str):
    with session(name):
        yield name_here()


@contextlib.contextmanager
def entered(name: str):
    with session(name):
        yield name_here()


@contextlib.contextmanager
def delegating(name: str):
    yield from agent(name)


@contextlib.asynccontextmanager
async def async_entered(name: str):
    async with session(name):
        yield name_here()


def test_the_block_of_a_context_manager_counts_until_that_is_left():
    with entered("mine") as inside:
        assert inside == name_here() == "mine"
    assert current_session() is None


def test_so_does_one_that_a_context_managers_generator_delegates_to():
    manager = delegating("mine")
    with manager as inside:
        assert inside == name_here() == "mine"
        with contextlib.suppress(RuntimeError):
            manager.gen.close()
    assert current_session() is None


def test_so_does_one_that_a_stack_has_entered():
    with contextlib.ExitStack() as stack:
        stack.enter_context(entered("mine"))
        stack.enter_context(session("inner"))
        assert name_here() == "inner"
    assert current_session() is None


async def test_so_does_the_block_of_an_async_context_manager():
    async with contextlib.AsyncExitStack() as stack:
        assert await stack.enter_async_context(async_entered("mine")) == name_here() == "mine"
        await stack.enter_async_context(session("inner"))
        assert name_here() == "inner"
    assert current_session() is None


async def test_a_context_managers_block_in_a_generator_is_the_generators():
    def talk():
        with entered("sync"), entered("inner"):
            yield name_here()

    async def async_talk():
        async with async_entered("async"):
            yield name_here()

    assert [(name, name_here()) for name in talk()] == [("inner", None)]
    assert [(name, name_here()) async for name in async_talk()] == [("async", None)]


@pytest.fixture
def named_by_fixture():
    with session("by fixture"):
        yield
        assert name_here() == "by fixture"


@pytest.fixture
def named_by_delegating_fixture():
    yield from agent("by delegating fixture")


@pytest.fixture
async def named_by_async_fixture():
    async with session("by async fixture"):
        yield


def test_a_fixtures_block_counts_until_the_test_ends(named_by_fixture):
    assert name_here() == "by fixture"


def test_so_does_that_of_a_fixture_that_delegates(named_by_delegating_fixture):
    assert name_here() == "by delegating fixture"


async def test_so_does_an_async_fixtures_block(named_by_async_fixture):
    assert name_here() == "by async fixture"


def test_spans_of_a_context_managers_block_stand_in_the_sessions_trace(client, spans):
    with entered("mine"):
        assert f"{trace.get_current_span().get_span_context().trace_id:032x}" == session_trace_id("mine")
