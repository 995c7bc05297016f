"""A Redis for tests of whole applications."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from store_kit import NO_REDIS, RedisServer


@pytest.fixture
def redis(tmp_path) -> Iterator[RedisServer]:
    """A Redis of the test's own, which it may kill."""
    if shutil.which("redis-server") is None:
        pytest.skip(NO_REDIS)
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()
