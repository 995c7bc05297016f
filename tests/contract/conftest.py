"""The four clients, talking to the loopback server."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import openai
import pytest
from client_surface import Client

from otel_llm_sessions.demo.server import LoopbackServer

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


@pytest.fixture(scope="session")
def loopback() -> Iterator[LoopbackServer]:
    """One server for all of the surface."""
    with LoopbackServer(record=False) as server:
        yield server


@pytest.fixture(scope="session", params=KINDS)
def client(request: pytest.FixtureRequest, loopback: LoopbackServer) -> Iterator[Client]:
    """One of the four clients, made before anything is instrumented."""
    kind = request.param
    made = getattr(openai, kind)(api_key="test", max_retries=0, **options_of(kind, loopback))
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


@pytest.fixture
def make_response(loopback: LoopbackServer) -> Callable[[bool], str]:
    """Make a response without the client, and return its id."""

    def make(background: bool) -> str:
        body = {"model": "gpt-4o-mini", "input": "Hello", "background": background}
        request = urllib.request.Request(
            f"{loopback.base_url}/responses",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": "Bearer test"},
        )
        with urllib.request.urlopen(request) as reply:
            return str(json.load(reply)["id"])

    return make
