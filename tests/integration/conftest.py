"""A Redis for tests of whole applications, and the chains that tests of look-ups begin with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from loopback_client import MODEL, options_for
from opentelemetry.instrumentation.utils import suppress_instrumentation
from store_kit import SERVERS, RedisServer, require_program


@pytest.fixture
def redis(tmp_path) -> Iterator[RedisServer]:
    """A Redis of the test's own, which it may kill; a Valkey where there is no Redis."""
    server = RedisServer(tmp_path, program=require_program(SERVERS[0]))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def warned(caplog):
    """No failure of ours goes unseen."""
    with caplog.at_level(logging.WARNING, logger="otel_llm_sessions"):
        yield
    assert not [record.getMessage() for record in caplog.records if record.name == "otel_llm_sessions"]


@pytest.fixture
def elsewhere(server):
    """Return a function that makes a response as a process does that nobody instruments, and returns its id."""
    with openai.OpenAI(**options_for(server)) as client:

        def respond(**arguments: Any) -> str:
            with suppress_instrumentation():
                return client.responses.create(model=MODEL, input="x", **arguments).id

        yield respond


@pytest.fixture
def chain(server, elsewhere):
    """Return a function that has a chain of responses made elsewhere, and returns their ids."""

    def make(turns: int) -> list[str]:
        ids: list[str] = []
        for _ in range(turns):
            ids.append(elsewhere(**({"previous_response_id": ids[-1]} if ids else {})))
        server.requests.clear()
        return ids

    return make
