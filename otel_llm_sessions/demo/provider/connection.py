"""One client's connection: requests in, replies out, byte for byte."""

from __future__ import annotations

import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import BinaryIO

from otel_llm_sessions.demo.provider.errors import failure
from otel_llm_sessions.demo.provider.ids import hexadecimal
from otel_llm_sessions.demo.provider.reply import Reply
from otel_llm_sessions.demo.provider.request import (
    BadRequest,
    Head,
    Request,
    read_body,
    read_head,
    request_of,
)

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

Answer = Callable[[Request], Reply]


class HangUp(Exception):
    """The reply ends by closing the connection."""


class Connection:
    """Serves one socket until either side closes it.

    `closing` ends pauses early; `chunk_delay` is the pause before every chunk but the first.
    """

    def __init__(self, peer: socket.socket, answer: Answer, closing: threading.Event, chunk_delay: float) -> None:
        self.peer = peer
        self._answer = answer
        self._closing = closing
        self._chunk_delay = chunk_delay

    def serve(self) -> None:
        """Answer request after request, until the client goes away or a reply hangs up."""
        with self.peer, self.peer.makefile("rb") as stream:
            try:
                self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while (head := read_head(stream)) is not None and self._serve_one(head, stream):
                    continue
            except (OSError, BadRequest, ValueError, HangUp):
                self.abort()

    def abort(self) -> None:
        """Close the connection to both sides, which makes whatever waits on it return; from any thread."""
        try:
            self.peer.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is closed already

    def send(self, reply: Reply, head: Head) -> None:
        """Send a reply: with a content length, or its chunks one by one."""
        if reply.chunks is None:
            body = b"" if head.method == "HEAD" else reply.body
            self.peer.sendall(opening_bytes(reply, head, f"Content-Length: {len(reply.body)}") + body)
            return
        self.peer.sendall(opening_bytes(reply, head, "Transfer-Encoding: chunked"))
        for chunk in self.paced(reply.chunks, reply):
            self.peer.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.peer.sendall(LAST_CHUNK)

    def paced(self, chunks: tuple[bytes, ...], reply: Reply) -> Iterator[bytes]:
        """Give the chunks, each when it is time to send it."""
        for count, chunk in enumerate(chunks):
            if count:
                self.pause(self._chunk_delay)
            yield chunk

    def await_model(self, seconds: float) -> None:
        """Wait before a reply's first byte."""
        self.pause(seconds)

    def pause(self, seconds: float) -> None:
        """Wait, but not past the server's end."""
        if seconds > 0 and self._closing.wait(seconds):
            raise HangUp

    def _serve_one(self, head: Head, stream: BinaryIO) -> bool:
        """Read one request and send its reply; whether the connection stays open."""
        if head.waits_to_be_asked:
            self.peer.sendall(CONTINUE)
        reply = self._safe_answer(request_of(head, read_body(stream, head.headers)))
        self.await_model(reply.delay)
        self.send(reply, head)
        return head.stays_open

    def _safe_answer(self, request: Request) -> Reply:
        """The reply; where this server itself fails, it says so on stderr and answers 500."""
        try:
            return self._answer(request)
        except Exception:
            traceback.print_exc()
            return failure(500)


def opening_bytes(reply: Reply, head: Head, framing: str) -> bytes:
    """The status line and the headers; the reply's own headers come last and replace ours of the same name."""
    headers = {
        "content-type": reply.content_type,
        "x-request-id": hexadecimal("req"),
        "connection": "keep-alive" if head.stays_open else "close",
    }
    headers |= {name.lower(): value for name, value in reply.headers.items()}
    lines = [f"HTTP/1.1 {reply.status} {phrase(reply.status)}", framing]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def phrase(status: int) -> str:
    """The words for a status, `Unknown` for one that has none."""
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
