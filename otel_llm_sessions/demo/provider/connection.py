"""One client's connection: requests in, replies out, byte for byte."""

from __future__ import annotations

import socket
import threading
import traceback
from collections.abc import Callable
from http import HTTPStatus
from typing import BinaryIO

from otel_llm_sessions.demo.provider.errors import failure
from otel_llm_sessions.demo.provider.gate import Gate, Ticket
from otel_llm_sessions.demo.provider.ids import hexadecimal
from otel_llm_sessions.demo.provider.reply import Reply
from otel_llm_sessions.demo.provider.request import (
    BadRequest,
    Head,
    RecordedRequest,
    read_body,
    read_head,
    recorded,
)

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

Answer = Callable[[RecordedRequest], Reply]


class HangUp(Exception):
    """The reply ends by closing the connection."""


class Connection:
    """Serves one socket until either side closes it.

    `closing` ends pauses early; `chunk_delay` is the pause before every chunk but the first.
    """

    def __init__(
        self, peer: socket.socket, answer: Answer, gate: Gate, closing: threading.Event, chunk_delay: float
    ) -> None:
        self._peer = peer
        self._answer = answer
        self._gate = gate
        self._closing = closing
        self._chunk_delay = chunk_delay

    def serve(self) -> None:
        """Answer request after request, until the client goes away or a reply hangs up."""
        with self._peer, self._peer.makefile("rb") as stream:
            try:
                self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while (head := read_head(stream)) is not None and self._serve_one(head, stream):
                    continue
            except (OSError, BadRequest, ValueError, HangUp):
                self.abort()

    def abort(self) -> None:
        """Close the connection to both sides, which makes whatever waits on it return; from any thread."""
        try:
            self._peer.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is closed already

    def _serve_one(self, head: Head, stream: BinaryIO) -> bool:
        """Read one request and send its reply; whether the connection stays open."""
        if head.waits_to_be_asked:
            self._peer.sendall(CONTINUE)
        request = recorded(head, read_body(stream, head.headers))
        reply = self._safe_answer(request)
        if reply.delay > 0:
            self._delay(reply.delay)
        if reply.hangs_up:
            raise HangUp
        if reply.chunks is None:
            self._send_whole(reply, head)
        else:
            self._send_chunks(reply, reply.chunks, head)
        return head.stays_open

    def _safe_answer(self, request: RecordedRequest) -> Reply:
        """The reply; where this server itself fails, it says so on stderr and answers 500."""
        try:
            return self._answer(request)
        except Exception:
            traceback.print_exc()
            return failure(500)

    def _send_whole(self, reply: Reply, head: Head) -> None:
        """A reply with a content length; `break_after` cuts its body in half."""
        opening = opening_bytes(reply, head, f"Content-Length: {len(reply.body)}")
        if reply.break_after is not None:
            self._peer.sendall(opening + reply.body[: len(reply.body) // 2])
            raise HangUp
        self._peer.sendall(opening + (b"" if head.method == "HEAD" else reply.body))

    def _send_chunks(self, reply: Reply, chunks: tuple[bytes, ...], head: Head) -> None:
        """A reply in chunks, which may be cut or held on the way."""
        ticket = None if reply.hold_after is None else self._gate.enter()
        try:
            self._peer.sendall(opening_bytes(reply, head, "Transfer-Encoding: chunked"))
            for count, chunk in enumerate(chunks):
                self._before_chunk(count, reply, ticket)
                self._peer.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self._before_chunk(len(chunks), reply, ticket, last=True)
            self._peer.sendall(LAST_CHUNK)
        finally:
            if ticket is not None:
                self._gate.leave(ticket)

    def _before_chunk(self, count: int, reply: Reply, ticket: Ticket | None, last: bool = False) -> None:
        """Pause, hold or cut where the reply says so, `count` chunks having been sent."""
        if ticket is not None and reply.hold_after == count and not ticket.wait(self._peer):
            raise HangUp
        if reply.break_after == count:
            raise HangUp
        if count and not last:
            self._pause(self._chunk_delay)

    def _delay(self, seconds: float) -> None:
        """Wait before the reply, but not past the release or the client's end."""
        ticket = self._gate.enter()
        try:
            if not ticket.wait(self._peer, seconds):
                raise HangUp
        finally:
            self._gate.leave(ticket)

    def _pause(self, seconds: float) -> None:
        """Wait, but not past the server's end."""
        if seconds > 0 and self._closing.wait(seconds):
            raise HangUp


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
