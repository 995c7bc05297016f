"""Stores to test, and a real Redis of the tests' own."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import pytest
from store_kit import SERVERS, RedisServer, redis_backend, require_program

from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.stores.sqlite import SqliteBackend


def _program(kind: str) -> str:
    program = require_program(kind)
    pytest.importorskip("redis", reason="redis-py is not installed: the Redis store does not run")
    return program


@pytest.fixture(scope="session")
def _running(tmp_path_factory) -> Iterator[Callable[[str], RedisServer]]:
    """Return the server of a kind, started when it is first asked for."""
    servers: dict[str, RedisServer] = {}

    def running(kind: str) -> RedisServer:
        if kind not in servers:
            servers[kind] = RedisServer(tmp_path_factory.mktemp(kind), program=_program(kind))
            servers[kind].start()
        return servers[kind]

    yield running
    for server in servers.values():
        server.kill()


@pytest.fixture
def _emptied(_running) -> Callable[[str], RedisServer]:
    """Return the server of a kind, which was emptied when the test first asked for it."""

    @functools.cache
    def emptied(kind: str) -> RedisServer:
        server = _running(kind)
        server.ask("CONFIG", "SET", "maxmemory", "0")
        server.ask("FLUSHALL")
        return server

    return emptied


@pytest.fixture(params=SERVERS)
def redis_server(request, _emptied) -> RedisServer:
    """A Redis that is up, and empty; then the same test on a Valkey."""
    return _emptied(request.param)


@pytest.fixture(params=SERVERS)
def own_redis(request, tmp_path) -> Iterator[RedisServer]:
    """A Redis, then a Valkey, that the test may kill."""
    server = RedisServer(tmp_path, program=_program(request.param))
    server.start()
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def _nothing_was_reported_yet(nothing_reported):
    """Each test sees its own warnings."""


@pytest.fixture
def closing() -> Iterator[Callable]:
    """Close what is handed to it at the end of the test."""
    with contextlib.ExitStack() as stack:
        yield lambda store: stack.enter_context(contextlib.closing(store))


PATIENT = 5.0
"""The time limit where a test is about what a store does, not how long: machines stutter."""


def _make(request, kind: str, **options):
    if kind == "memory":
        return MemoryStore()
    if kind == "sqlite":
        backend = SqliteBackend(request.getfixturevalue("tmp_path") / "sessions.db", **options)
    else:
        backend = redis_backend(request.getfixturevalue("_emptied")(kind).url, **options)
    return GuardedStore(backend, ttl=options.get("ttl"), time_limit=PATIENT)


@pytest.fixture
def open_another(request, closing) -> Callable:
    """Open one more store of the kind the test is run for, as another process would."""
    return lambda **options: closing(_make(request, request.node.callspec.params["kind"], **options))


@pytest.fixture
def store(open_another):
    """A store of the kind the test is run for."""
    return open_another()
