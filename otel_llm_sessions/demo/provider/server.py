"""A server on loopback that speaks the OpenAI API over real HTTP.

with ProviderServer() as server:
client = OpenAI(base_url=server.base_url, api_key="any")
client.responses.create(model="gpt-4o-mini", input="Hello")
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import socket
import threading
from dataclasses import replace
from types import TracebackType

from otel_llm_sessions.demo.provider.api import OpenAIApi
from otel_llm_sessions.demo.provider.connection import Connection
from otel_llm_sessions.demo.provider.manner import Charging, Manner
from otel_llm_sessions.demo.provider.reply import Reply
from otel_llm_sessions.demo.provider.request import Request

HOST = "127.0.0.1"
BACKLOG = 256
JOIN_SECONDS = 10.0


class ProviderServer:
    """Speaks the OpenAI API on 127.0.0.1, in threads of its own.

    `latency` is the time in seconds that a model takes before it answers (what is only fetched is there at once),
    `chunk_delay` the time between the chunks of a stream, `port` 0 takes a free one. One that `charges` says in each
    reply what it costs, as OpenRouter does.
    """

    def __init__(self, chunk_delay: float = 0.0, latency: float = 0.0, port: int = 0, charges: bool = False) -> None:
        self._chunk_delay = chunk_delay
        self._latency = latency
        self._port = port
        self._api = OpenAIApi(Charging() if charges else Manner())
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._connections: dict[Connection, threading.Thread] = {}
        self._listener: socket.socket | None = None
        self._acceptor = threading.Thread(target=self._accept, name="loopback-acceptor", daemon=True)

    def start(self) -> ProviderServer:
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

    def __enter__(self) -> ProviderServer:
        return self if self._listener is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def origin(self) -> str:
        """The server's scheme, host and port."""
        if self._listener is None:
            raise RuntimeError("the server has not been started")
        return f"http://{HOST}:{self._port}"

    @property
    def base_url(self) -> str:
        """Where OpenAI finds this server."""
        return f"{self.origin}/v1"

    def answer(self, request: Request) -> Reply:
        """Return the reply to a request; models take their time, what is only fetched is there at once."""
        reply = self.reply(request)
        thinks = self._latency and request.method == "POST"
        return replace(reply, delay=reply.delay + self._latency) if thinks else reply

    def reply(self, request: Request) -> Reply:
        """Return the reply to a request, as if the model took no time."""
        return self._api.answer(request)

    def connection(self, peer: socket.socket, closing: threading.Event, chunk_delay: float) -> Connection:
        """Return what serves a client's socket."""
        return Connection(peer, self.answer, closing, chunk_delay)

    def _accept(self) -> None:
        """Give every client a connection and a thread, until the server closes."""
        assert self._listener is not None
        with self._listener as listener:
            while True:
                peer, _ = listener.accept()
                if self._closing.is_set():
                    peer.close()
                    return
                self._welcome(self.connection(peer, self._closing, self._chunk_delay))

    def _welcome(self, connection: Connection) -> None:
        """Start a connection's thread; those that have ended are forgotten here, so that `close` joins every other."""
        thread = threading.Thread(target=connection.serve, name="loopback-connection", daemon=True)
        with self._lock:
            self._connections = {kept: runs for kept, runs in self._connections.items() if runs.is_alive()}
            self._connections[connection] = thread
            thread.start()


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
    parser.add_argument("--charges", action="store_true", help="say in each reply what it costs, as OpenRouter does")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Serve the OpenAI API on the loopback address until SIGTERM or SIGINT."""
    given = arguments().parse_args(argv)
    stop: queue.SimpleQueue[int] = queue.SimpleQueue()  # its put may run in a signal handler
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: stop.put(received))
    with ProviderServer(given.chunk_delay, given.latency, given.port, given.charges) as server:
        print(f"listening on {server.base_url}", flush=True)
        stop.get()
    return 0
