"""The servers that tests start for themselves: none outlives its tests, and one that cannot start says why."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import store_kit
from store_kit import RedisServer, free_port
from waiting import until

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
GIVEN = RANGE.read_text() if RANGE.exists() else ""
"""The first and the last of the ports that the system gives."""

STARTS_ONE = """
import sys
from pathlib import Path
from store_kit import RedisServer
server = RedisServer(Path(sys.argv[1]), program=sys.argv[2])
server.start()
print(server.port, flush=True)
sys.stdin.read()
"""


def answers(server: RedisServer) -> bool:
    with contextlib.suppress(OSError):
        return server.ask("PING") == b"+PONG\r\n"
    return False


@pytest.mark.skipif(not store_kit.WITH_US, reason="without setpriv a server outlives who is killed")
def test_a_server_ends_with_the_process_that_started_it_however_that_ends(own_redis, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    command = [sys.executable, "-c", STARTS_ONE, str(other), own_redis.program]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(store_kit.__file__).parent), *sys.path])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=here) as tests:
        assert tests.stdout is not None
        own_redis.port = int(tests.stdout.readline())
        assert answers(own_redis)
        tests.send_signal(signal.SIGKILL)
    until(lambda: not answers(own_redis))


def test_a_server_that_cannot_start_says_why_at_once_and_is_gone(own_redis, tmp_path):
    other = RedisServer(tmp_path, "--no-such-option", "yes", program=own_redis.program)
    with pytest.raises(AssertionError, match="no-such-option"):
        other.start()
    assert not other.is_running


@pytest.mark.skipif(not GIVEN, reason="the system does not say which ports it gives")
def test_a_port_that_is_free_is_none_that_a_connection_is_given(own_redis):
    lowest, highest = map(int, GIVEN.split())
    with socket.create_connection(("127.0.0.1", own_redis.port)) as connection:
        assert lowest <= connection.getsockname()[1] <= highest
    assert not [port for port in (free_port() for _ in range(20)) if lowest <= port <= highest]


def test_a_port_that_is_free_is_none_on_which_somebody_listens(own_redis, monkeypatch):
    free = free_port()
    draws = iter([own_redis.port, free])
    monkeypatch.setattr(store_kit.ANY, "randrange", lambda *_: next(draws))
    assert free_port() == free
