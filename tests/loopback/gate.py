"""The gate that holds replies, before their first byte or in the middle of their stream."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator


class Ticket:
    """One reply's place at the gate, taken before its first byte, so that no release is missed."""

    def __init__(self) -> None:
        self._inside, self._outside = socket.socketpair()

    def admit(self) -> None:
        """Let the reply go on, now or when it comes to the gate."""
        self._outside.send(b".")

    def wait(self, peer: socket.socket, seconds: float | None = None) -> bool:
        """Wait for the release, for the peer to go away or for the time; whether there is still somebody to send to."""
        watched = [self._inside, peer]
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select(watched, [], [], left)
            if not ready or self._inside in ready:
                return True
            if not peer.recv(1, socket.MSG_PEEK):
                return False
            watched = [self._inside]  # the next request is here already, it can wait

    def close(self) -> None:
        """Give the place back."""
        self._inside.close()
        self._outside.close()


class Gate:
    """All places taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tickets: set[Ticket] = set()

    @contextlib.contextmanager
    def place(self) -> Iterator[Ticket]:
        """Take a place, and give it back at the end."""
        ticket = Ticket()
        with self._lock:
            self._tickets.add(ticket)
        try:
            yield ticket
        finally:
            with self._lock:
                self._tickets.discard(ticket)
                ticket.close()

    def release(self) -> None:
        """Let every reply go on that has started."""
        with self._lock:
            for ticket in self._tickets:
                ticket.admit()
