"""The loopback server: the OpenAI API over real HTTP, for the demo and for tests.

    with LoopbackServer() as server:
        client = OpenAI(base_url=server.base_url, api_key="any")
        client.responses.create(model="gpt-4o-mini", input="Hello")
        assert server.requests[0].body["input"] == "Hello"

A request's `x-loopback-mode` header asks for errors and oddities (`modes` lists them);
`server.script(...)` and `server.script_stream(...)` put exact bytes in the place of the next reply.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import socket
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from otel_llm_sessions.demo.provider.api import OpenAIApi
from otel_llm_sessions.demo.provider.connection import Connection
from otel_llm_sessions.demo.provider.gate import Gate
from otel_llm_sessions.demo.provider.reply import EVENT_STREAM, Json, Reply, chunked, exact_bytes
from otel_llm_sessions.demo.provider.request import RecordedRequest

__all__ = ["LoopbackServer", "RecordedRequest", "main"]

HOST = "127.0.0.1"
BACKLOG = 256
JOIN_SECONDS = 10.0


@dataclass(frozen=True)
class Scripted:
    """A reply waiting for its request: the next one, or the next whose path ends with `path`."""

    reply: Reply
    path: str | None

    def fits(self, request: RecordedRequest) -> bool:
        return self.path is None or request.path.endswith(self.path)


class LoopbackServer:
    """Speaks the OpenAI API on 127.0.0.1, in threads of its own.

    `latency` is the time in seconds that a model takes before it answers (what is only fetched is there at once),
    `chunk_delay` the time between the chunks of a stream, `port` 0 takes a free one. With `record=False` requests are
    not kept, for a server that runs long.
    """

    def __init__(self, chunk_delay: float = 0.0, latency: float = 0.0, port: int = 0, *, record: bool = True) -> None:
        self.requests: list[RecordedRequest] = []
        self._chunk_delay = chunk_delay
        self._latency = latency
        self._port = port
        self._record = record
        self._api = OpenAIApi()
        self._gate = Gate()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._scripts: list[Scripted] = []
        self._connections: dict[Connection, threading.Thread] = {}
        self._listener: socket.socket | None = None
        self._acceptor = threading.Thread(target=self._accept, name="loopback-acceptor", daemon=True)

    def start(self) -> LoopbackServer:
        """Open the port and answer from now on; once in a server's life."""
        self._listener = listening_socket(self._port)
        self._port = self._listener.getsockname()[1]
        self._acceptor.start()
        return self

    def close(self) -> None:
        """Cut all connections, close the port and wait for the threads; again does nothing."""
        if self._listener is None or self._closing.is_set():
            return
        self._closing.set()
        with socket.create_connection((HOST, self._port)):
            self._acceptor.join(JOIN_SECONDS)  # the connection wakes it up
        with self._lock:
            open_now = dict(self._connections)
        for connection in open_now:
            connection.abort()
        for thread in open_now.values():
            thread.join(JOIN_SECONDS)

    def __enter__(self) -> LoopbackServer:
        return self if self._listener is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def azure_endpoint(self) -> str:
        """Where AzureOpenAI finds this server."""
        if self._listener is None:
            raise RuntimeError("the server has not been started")
        return f"http://{HOST}:{self._port}"

    @property
    def base_url(self) -> str:
        """Where OpenAI finds this server."""
        return f"{self.azure_endpoint}/v1"

    def script(
        self,
        body: str | bytes | Json | list[Any] = b"",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        path: str | None = None,
        delay: float = 0.0,
    ) -> None:
        """Answer the next request (whose path ends with `path`) with exactly this.

        It comes after `delay` seconds, or on `release()`.
        """
        reply = Reply(status, exact_bytes(body), content_type, headers or {}, delay=delay)
        self._enqueue(Scripted(reply, path))

    def script_stream(
        self,
        lines_or_bytes: bytes | str | Iterable[bytes | str],
        status: int = 200,
        break_after: int | None = None,
        hold_after: int | None = None,
        path: str | None = None,
        headers: Mapping[str, str] | None = None,
        content_type: str = EVENT_STREAM,
    ) -> None:
        """Answer the next request (whose path ends with `path`) with exactly these chunks, one by one.

        After `break_after` of them the connection is cut; after `hold_after` nothing more is sent until
        `release()`, or until the client goes away.
        """
        reply = Reply(status, b"", content_type, headers or {}, chunked(lines_or_bytes), break_after, hold_after)
        self._enqueue(Scripted(reply, path))

    def release(self) -> None:
        """Let replies go on: those that are delayed, and the streams that are held or will be and have started."""
        self._gate.release()

    def _enqueue(self, scripted: Scripted) -> None:
        with self._lock:
            self._scripts.append(scripted)

    def _accept(self) -> None:
        """Give every client a connection and a thread, until the server closes."""
        assert self._listener is not None
        with self._listener as listener:
            while True:
                peer, _ = listener.accept()
                if self._closing.is_set():
                    peer.close()
                    return
                self._welcome(Connection(peer, self._answer, self._gate, self._closing, self._chunk_delay))

    def _welcome(self, connection: Connection) -> None:
        """Start a connection's thread; those that have ended are forgotten here, so that `close` joins every other."""
        thread = threading.Thread(target=connection.serve, name="loopback-connection", daemon=True)
        with self._lock:
            self._connections = {kept: runs for kept, runs in self._connections.items() if runs.is_alive()}
            self._connections[connection] = thread
            thread.start()

    def _answer(self, request: RecordedRequest) -> Reply:
        """The scripted reply if one fits, else the API's; the request is recorded before."""
        if self._record:
            self.requests.append(request)
        reply = self._scripted(request) or self._api.answer(request)
        thinks = self._latency and request.method == "POST"
        return replace(reply, delay=reply.delay + self._latency) if thinks else reply

    def _scripted(self, request: RecordedRequest) -> Reply | None:
        with self._lock:
            for place, scripted in enumerate(self._scripts):
                if scripted.fits(request):
                    return self._scripts.pop(place).reply
        return None


def listening_socket(port: int) -> socket.socket:
    """A socket that listens on the loopback address; raises OSError when the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def arguments() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(prog="python -m otel_llm_sessions.demo.provider", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every answer of a model")
    parser.add_argument("--chunk-delay", type=float, default=0.0, help="seconds between the chunks of a stream")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Serve the OpenAI API on the loopback address until SIGTERM or SIGINT."""
    given = arguments().parse_args(argv)
    stop: queue.SimpleQueue[int] = queue.SimpleQueue()  # its put may run in a signal handler
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: stop.put(received))
    with LoopbackServer(given.chunk_delay, given.latency, given.port, record=False) as server:
        print(f"listening on {server.base_url}", flush=True)
        stop.get()
    return 0
