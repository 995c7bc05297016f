"""Several Sentinels in a URL: where the first does not answer, the next one says which is the master."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from redis_groups import Watched, group_of
from store_kit import SERVERS, a_link, free_port, redis_direct, require_program
from waiting import until

from otel_llm_sessions.stores.opening import open_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=SERVERS)
def watched(request, tmp_path_factory) -> Iterator[Watched]:
    """A master and its Sentinel."""
    with group_of("sentinel", tmp_path_factory.mktemp("watched"), require_program(request.param)) as running:
        assert isinstance(running, Watched)
        yield running


def url_with(first: int, watched: Watched) -> str:
    """The URL of two Sentinels of which the second is there."""
    return f"redis+sentinel://127.0.0.1:{first},127.0.0.1:{watched.sentinel.port}/the-master"


def accepted(listener: socket.socket) -> int:
    """How many connections were made that nobody has taken yet."""
    listener.setblocking(False)
    number = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            number += 1
    return number


def test_where_one_is_dead_the_next_is_asked(watched, closing):
    one, master = closing(open_store(url_with(free_port(), watched))), closing(redis_direct(watched.master.url))
    one.put(["r:1"], a_link())
    until(lambda: master.get_all(["r:1"])[0])


def test_one_that_says_nothing_is_waited_for_once(watched, closing):
    """Asked again and again, as redis-py (8.1) does by itself, it would keep the master from being found for 20 s."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = closing(redis_direct(url_with(silent.getsockname()[1], watched)))
        assert one.get_all(["r:unknown"]) == [None]
        assert accepted(silent) == 1
