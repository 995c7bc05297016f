"""What receives: the database, what writes into it, both protocols, and what passes on."""

from __future__ import annotations

import argparse
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.routing import Route

from otel_llm_sessions.view.database import Database, Unusable
from otel_llm_sessions.view.server.forwarding import Forwarding
from otel_llm_sessions.view.server.intake import Intake
from otel_llm_sessions.view.server.listening import NotListening, address, check, why_not
from otel_llm_sessions.view.server.otlp_grpc import GrpcReceiver, PortInUse
from otel_llm_sessions.view.server.otlp_http import otlp_routes
from otel_llm_sessions.view.server.security import Security, is_loopback


class Receiving:
    """Receives OTLP over gRPC and HTTP, as the options say.

    Args:
        said: the options of ``view``.
        security: who may send.
        http_port: the port of OTLP over HTTP, which somebody else serves with ``routes``.

    Attributes:
        database: what arrives.
        routes: OTLP over HTTP.
        grpc_port: the port of OTLP over gRPC.

    Raises:
        NotListening: the gRPC port cannot be had.
        ValueError: the database cannot be used, or an option is not valid.
    """

    def __init__(self, said: argparse.Namespace, security: Security, http_port: int) -> None:
        check(said.host, said.grpc_port, "--grpc-port")
        self._forwarding = Forwarding(said.forward) if said.forward else None
        if self._forwarding and _is_itself(said.forward, http_port):
            raise ValueError("--forward leads to this viewer itself")
        try:
            self.database = Database(said.db, keep=said.keep, max_size=said.max_size, trace_url=said.trace_url)
        except Unusable as error:
            raise ValueError(str(error)) from None
        self._intake = Intake(self.database)
        forward = self._forwarding.put if self._forwarding else None
        self.routes: list[Route] = otlp_routes(self._intake, forward)
        try:
            self._grpc = GrpcReceiver(address(said.host, said.grpc_port), self._intake, security, forward)
        except PortInUse:
            self.database.close()
            raise NotListening(why_not(said.host, said.grpc_port, "--grpc-port")) from None
        self.grpc_port = self._grpc.port

    def start(self) -> None:
        """Begin to receive."""
        if self._forwarding:
            self._forwarding.start()
        self._intake.start()
        self._grpc.start()

    def close(self) -> None:
        """Write what has arrived, then end."""
        self._grpc.close()
        self._intake.close()
        if self._forwarding:
            self._forwarding.close()
        self.database.close()


def _is_itself(url: str, port: int) -> bool:
    with suppress(ValueError):
        parts = urlsplit(url)
        return parts.port == port and is_loopback(parts.hostname or "")
    return False
