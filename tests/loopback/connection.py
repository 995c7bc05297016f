"""A connection that cuts and holds replies where they say so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from otel_llm_sessions.demo.provider.connection import Connection, HangUp, opening_bytes
from otel_llm_sessions.demo.provider.reply import Reply
from otel_llm_sessions.demo.provider.request import Head

from .gate import Gate, Ticket
from .reply import OddReply


class OddConnection(Connection):
    """Serves one socket; `gate` releases what is delayed or held."""

    def __init__(self, gate: Gate, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._gate = gate
        self._ticket: Ticket | None = None

    def await_model(self, seconds: float) -> None:
        """Wait, but not past the release or the client's end."""
        if seconds > 0:
            with self._gate.place() as ticket:
                if not ticket.wait(self.peer, seconds):
                    raise HangUp

    def send(self, reply: Reply, head: Head) -> None:
        """Send a reply, or as much of it as is wanted."""
        if not isinstance(reply, OddReply):
            return super().send(reply, head)
        if reply.hangs_up:
            raise HangUp
        if reply.chunks is None and reply.break_after is not None:
            half = reply.body[: len(reply.body) // 2]
            self.peer.sendall(opening_bytes(reply, head, f"Content-Length: {len(reply.body)}") + half)
            raise HangUp
        if reply.hold_after is None:
            return super().send(reply, head)
        with self._gate.place() as self._ticket:  # before the first byte, so that no release is missed
            super().send(reply, head)

    def paced(self, chunks: tuple[bytes, ...], reply: Reply) -> Iterator[bytes]:
        """Give the chunks, up to where the reply is held or cut."""
        for count, chunk in enumerate(super().paced(chunks, reply)):
            self._stop(count, reply)
            yield chunk
        self._stop(len(chunks), reply)

    def _stop(self, count: int, reply: Reply) -> None:
        if not isinstance(reply, OddReply):
            return
        if reply.hold_after == count and self._ticket is not None and not self._ticket.wait(self.peer):
            raise HangUp
        if reply.break_after == count:
            raise HangUp
