"""What the pipelines share: a Redis of each test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_kit import SERVERS, RedisServer, require_program


@pytest.fixture
def redis(tmp_path_factory) -> Iterator[RedisServer]:
    """A Redis of the test's own; a Valkey where there is no Redis."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), program=require_program(SERVERS[0]))
    server.start()
    yield server
    server.kill()
