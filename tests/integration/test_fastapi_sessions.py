"""``session(...)`` in a web service: dependencies, streamed answers, worker threads; real FastAPI and Starlette."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import anyio.to_thread
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from session_kit import name_here
from starlette.responses import StreamingResponse

from otel_llm_sessions import session
from otel_llm_sessions.testing import capture_spans


async def named(name: str) -> AsyncIterator[None]:
    async with session(name):
        yield


def named_in_a_thread(name: str) -> Iterator[None]:
    with session(name):
        yield


@session("decorated")
def decorated() -> Iterator[None]:
    yield


@pytest.fixture
def get() -> Iterator[Any]:
    app = FastAPI()

    @app.get("/async/{name}", dependencies=[Depends(named)])
    async def on_the_loop() -> Any:
        return [name_here(), await asyncio.create_task(as_coroutine())]

    @app.get("/thread/{name}", dependencies=[Depends(named)])
    def in_a_thread() -> Any:
        return [name_here()]

    @app.get("/plain/{name}", dependencies=[Depends(named_in_a_thread)])
    async def after_a_plain_dependency() -> Any:
        return [name_here()]

    @app.get("/decorated", dependencies=[Depends(decorated)])
    async def after_a_decorated_dependency() -> Any:
        return [name_here()]

    @app.get("/given/{name}")
    async def by_argument(name: str, given: Annotated[None, Depends(named)]) -> Any:
        return [name_here()]

    @app.get("/nothing")
    async def nothing() -> Any:
        return [name_here()]

    with TestClient(app) as client:
        yield lambda path: client.get(path).json()


async def as_coroutine() -> str | None:
    return name_here()


@pytest.mark.parametrize("instrumented", [True, False])
def test_an_async_dependencys_block_lasts_until_the_answer(get, instrumented):
    with capture_spans() if instrumented else contextlib.nullcontext():
        assert get("/async/alice") == ["alice", "alice"]
        assert get("/thread/bob") == ["bob"]
        assert get("/given/carol") == ["carol"]
        assert get("/nothing") == [None]


def test_a_plain_dependency_names_nothing_outside_itself(get):
    assert get("/plain/alice") == [None]
    assert get("/decorated") == [None]
    assert get("/nothing") == [None]


def streamed(items: Any) -> str:
    app = FastAPI()
    consumers: list[Any] = []

    @app.get("/")
    async def answer() -> StreamingResponse:
        async def seen() -> AsyncIterator[str]:
            async for piece in StreamingResponse(items).body_iterator:
                consumers.append(name_here())
                yield str(piece)

        return StreamingResponse(seen())

    with TestClient(app) as client:
        text = client.get("/").text
    assert set(consumers) == {None}
    return text


def tell() -> Iterator[str]:
    with session("mine"):
        for _ in range(3):
            yield f"{name_here()} "


async def async_tell() -> AsyncIterator[str]:
    async with session("mine"):
        yield f"{name_here()} "
        await asyncio.sleep(0)
        yield f"{await anyio.to_thread.run_sync(name_here)} "
        yield f"{await asyncio.create_task(as_coroutine())} "


@pytest.mark.parametrize("make", [tell, async_tell, session("mine")(tell), session("mine")(async_tell)])
def test_a_streamed_answer_has_its_session_in_every_thread_that_makes_it(make):
    with capture_spans():
        assert streamed(make()) == "mine mine mine "


def test_calls_of_a_streamed_answer_are_its_sessions(client):
    def talk() -> Iterator[str]:
        with session("mine"):
            for _ in range(2):
                yield client.responses.create(model="m", input="x").id

    with capture_spans() as spans:
        streamed(talk())
    calls = [span for span in spans if span.name.startswith("chat")]
    assert [call.attributes["session.id"] for call in calls] == ["mine", "mine"]
    assert [call.attributes["llm_session.turn"] for call in calls] == [1, 2]
