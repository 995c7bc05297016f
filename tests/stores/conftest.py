"""Stores to test, and a real Redis of the tests' own."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator

import pytest
from store_kit import NO_REDIS, RedisServer, redis_store

from otel_llm_sessions import guard
from otel_llm_sessions.sessions.stores.guarded import GuardedStore
from otel_llm_sessions.sessions.stores.memory import MemoryStore
from otel_llm_sessions.sessions.stores.sqlite import SqliteStore


@pytest.fixture(scope="session")
def _redis_process(tmp_path_factory) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip(NO_REDIS)
    pytest.importorskip("redis", reason="redis-py is not installed: the Redis store does not run")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_server(_redis_process) -> RedisServer:
    """A Redis that is up, and empty."""
    _redis_process.ask("CONFIG", "SET", "maxmemory", "0")
    _redis_process.ask("FLUSHALL")
    return _redis_process


@pytest.fixture
def own_redis(tmp_path) -> Iterator[RedisServer]:
    """A Redis that the test may kill."""
    if shutil.which("redis-server") is None:
        pytest.skip(NO_REDIS)
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def _nothing_was_reported_yet(monkeypatch):
    monkeypatch.setattr(guard, "_reported", set())


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
    if kind.startswith("sqlite"):
        inner = SqliteStore(request.getfixturevalue("tmp_path") / "sessions.db", time_limit=PATIENT, **options)
    else:
        inner = redis_store(request.getfixturevalue("redis_server").url, time_limit=PATIENT, **options)
    return GuardedStore(inner, ttl=options.get("ttl")) if kind.endswith("guarded") else inner


@pytest.fixture
def open_another(request, closing) -> Callable:
    """Open one more store of the kind the test is run for, as another process would."""
    return lambda **options: closing(_make(request, request.node.callspec.params["kind"], **options))


@pytest.fixture
def store(open_another):
    """A store of the kind the test is run for."""
    return open_another()
