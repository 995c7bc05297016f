"""The four clients, talking to the loopback server."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import openai
import pytest
from client_surface import MODEL, Client
from loopback import LoopbackServer

KINDS = ("OpenAI", "AsyncOpenAI", "AzureOpenAI", "AsyncAzureOpenAI")


def run_to_its_end(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run what never waits, as everything does that uses a synchronous client, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("a synchronous client made its caller wait")


def options_of(kind: str, server: LoopbackServer) -> dict[str, Any]:
    if "Azure" in kind:
        return {"azure_endpoint": server.azure_endpoint, "api_version": "2025-04-01-preview"}
    return {"base_url": server.base_url}


@contextlib.contextmanager
def opened(kind: str, server: LoopbackServer, **options: Any) -> Iterator[Client]:
    """A client of a kind, for as long as the block runs."""
    made = getattr(openai, kind)(**{"api_key": "test", "max_retries": 0, **options_of(kind, server), **options})
    if not kind.startswith("Async"):
        with made:
            yield Client(kind, made, run_to_its_end)
        return
    loop = asyncio.new_event_loop()
    try:
        yield Client(kind, made, loop.run_until_complete)
        loop.run_until_complete(made.close())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.fixture(scope="session", params=KINDS)
def client(request: pytest.FixtureRequest, loopback: LoopbackServer) -> Iterator[Client]:
    """One of the four clients, made before anything is instrumented."""
    with opened(request.param, loopback) as made:
        yield made


@pytest.fixture
def like(client: Client, server: LoopbackServer) -> Callable[..., contextlib.AbstractContextManager[Client]]:
    """Open a client of the same kind that has other options, and connections of its own."""
    return functools.partial(opened, client.kind, server)


@pytest.fixture
def make_response(loopback: LoopbackServer) -> Callable[..., str]:
    """Make a response without the client, and return its id."""

    def make(background: bool = False, previous: str | None = None) -> str:
        body = {"model": MODEL, "input": "Hello", "background": background, "previous_response_id": previous}
        request = urllib.request.Request(
            f"{loopback.base_url}/responses",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": "Bearer test"},
        )
        with urllib.request.urlopen(request) as reply:
            return str(json.load(reply)["id"])

    return make
