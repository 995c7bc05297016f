"""The ports of the viewer, and how they are called."""

from __future__ import annotations

import errno
import socket
from typing import Final

from otel_llm_sessions.view.server.security import is_loopback

ANY: Final = frozenset({"0.0.0.0", "::", ""})


class NotListening(Exception):
    """A port cannot be had; the message says why in one line, and which flag names another."""


def listening(host: str, port: int, flag: str = "--http-port") -> socket.socket:
    """A socket that listens.

    Args:
        host: at which address.
        port: at which port; 0 takes a free one.
        flag: what names another.

    Raises:
        NotListening: it cannot.
    """
    try:
        ((family, _, _, _, address), *_) = socket.getaddrinfo(
            bare(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # Said to be TCP: only then asyncio sends answers at once, and not 40 ms later (TCP_NODELAY).
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise NotListening(f"--host {host} is no address of this machine: {error.strerror}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise NotListening(why_not(host, port, flag, error.errno)) from None
    listener.set_inheritable(True)
    return listener


def check(host: str, port: int, flag: str) -> None:
    """Raise NotListening if a port cannot be had: gRPC says that in many lines of its own."""
    listening(host, port, flag).close()


def why_not(host: str, port: int, flag: str, number: int | None = errno.EADDRINUSE) -> str:
    """Why a port cannot be had."""
    if number == errno.EADDRINUSE:
        return (
            f"port {port} is in use, by another viewer, a Jaeger or a Collector perhaps: "
            f"{flag} 0 takes a free one (the flags are --http-port and --grpc-port)"
        )
    reason = {errno.EACCES: "it takes more rights", errno.EADDRNOTAVAIL: "the address is not this machine's"}
    return f"port {port} of {host} cannot be had: {reason.get(number or 0, 'error')} (--host, {flag})"


def bare(host: str) -> str:
    """A host without the brackets that IPv6 has in addresses."""
    return host.removeprefix("[").removesuffix("]")


def address(host: str, port: int) -> str:
    """A host and a port as one text."""
    return f"[{bare(host)}]:{port}" if ":" in bare(host) else f"{host}:{port}"


def called(host: str) -> str:
    """A name by which a host that is bound to is reached: this machine's own for all its addresses."""
    return socket.gethostname() if bare(host) in ANY and not is_loopback(host) else host


def for_this_machine(host: str) -> str:
    """A name by which this machine's browser reaches it."""
    return "127.0.0.1" if bare(host) in ANY else host
