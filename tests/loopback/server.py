"""The demo's server, with errors and oddities.

    with LoopbackServer() as server:
        client = OpenAI(base_url=server.base_url, api_key="any")
        client.responses.create(model="gpt-4o-mini", input="Hello")
        assert server.requests[0].body["input"] == "Hello"

A request's `x-loopback-mode` header asks for errors and oddities (`modes` lists them);
`server.script(...)` and `server.script_stream(...)` put exact bytes in the place of the next reply.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from otel_llm_sessions.demo.provider.connection import Connection
from otel_llm_sessions.demo.provider.reply import EVENT_STREAM, Json, Reply
from otel_llm_sessions.demo.provider.request import Request
from otel_llm_sessions.demo.provider.server import ProviderServer

from .connection import OddConnection
from .gate import Gate
from .modes import OddApi
from .reply import OddReply, chunked, exact_bytes


@dataclass(frozen=True)
class Scripted:
    """A reply waiting for its request: the next one, or the next whose path ends with `path`."""

    reply: Reply
    path: str | None

    def fits(self, request: Request) -> bool:
        return self.path is None or request.path.endswith(self.path)


class LoopbackServer(ProviderServer):
    """Answers as its requests and scripts want, and keeps what was asked in `requests`."""

    def __init__(self, chunk_delay: float = 0.0, latency: float = 0.0, port: int = 0) -> None:
        super().__init__(chunk_delay, latency, port)
        self._odd = OddApi()
        self.requests: list[Request] = []
        self._gate = Gate()
        self._script_lock = threading.Lock()
        self._scripts: list[Scripted] = []

    @property
    def azure_endpoint(self) -> str:
        """Where AzureOpenAI finds this server."""
        return self.origin

    def forget(self) -> None:
        """Forget what was asked, and the scripts that nobody asked for."""
        self.requests.clear()
        with self._script_lock:
            self._scripts.clear()

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
        reply = OddReply(
            status, b"", content_type, headers or {}, chunked(lines_or_bytes), 0.0, break_after, hold_after
        )
        self._enqueue(Scripted(reply, path))

    def release(self) -> None:
        """Let replies go on: those that are delayed, and the streams that are held or will be and have started."""
        self._gate.release()

    def _enqueue(self, scripted: Scripted) -> None:
        with self._script_lock:
            self._scripts.append(scripted)

    def reply(self, request: Request) -> Reply:
        """The scripted reply if one fits, else the API's; the request is recorded before."""
        self.requests.append(request)
        return self._scripted(request) or self._odd.answer(request)

    def connection(self, peer: socket.socket, closing: threading.Event, chunk_delay: float) -> Connection:
        """What serves a client's socket."""
        return OddConnection(self._gate, peer, self.answer, closing, chunk_delay)

    def _scripted(self, request: Request) -> Reply | None:
        with self._script_lock:
            for place, scripted in enumerate(self._scripts):
                if scripted.fits(request):
                    return self._scripts.pop(place).reply
        return None
