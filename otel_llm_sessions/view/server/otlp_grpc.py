"""OTLP over gRPC, on a port of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from typing import Any, Final, NoReturn

import grpc  # type: ignore[import-untyped,unused-ignore]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from otel_llm_sessions.view.server.crowding import read_within
from otel_llm_sessions.view.server.intake import Full, Intake, Unwritable
from otel_llm_sessions.view.server.otlp_answers import PROTOBUF, SIGNALS, Signal, retry_status
from otel_llm_sessions.view.server.security import Security

THREADS: Final = 8
MOST_BYTES: Final = 32 * 1024 * 1024
"""Bytes of one request, decompressed."""
AT_ONCE: Final = 1024
"""Requests that wait at once for a thread, which reads their bodies. Who is refused here does not come again: gRPC says
nothing of when."""
SECONDS: Final = 30.0
"""In which what arrived has to be written."""
DETAILS: Final = "grpc-status-details-bin"
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MOST_BYTES),
    # Else two servers share a port, and each gets what is meant for the other.
    ("grpc.so_reuseport", 0),
)

Forward = Callable[[str, str, str, bytes], None]


class PortInUse(Exception):
    """The port cannot be had."""


class _Known(grpc.GenericRpcHandler):  # type: ignore[misc,unused-ignore]
    """Answers who does not bring the token, before anything is read of what they send."""

    def __init__(self, security: Security) -> None:
        self._security = security
        # That of a stream: its messages are read as they are asked for, which they are not.
        self._refusal = grpc.stream_unary_rpc_method_handler(_refuse)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The refusal; None for who may send, whom the next handler answers."""
        said = dict(handler_call_details.invocation_metadata or ()).get("authorization", "")
        is_known = self._security.admits_authorization(said if isinstance(said, str) else "")
        return None if is_known else self._refusal


def _refuse(_: object, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "this server asks for its token: authorization: Bearer TOKEN")


class GrpcReceiver:
    """Receives traces, metrics and logs over gRPC.

    Args:
        address: where, as ``127.0.0.1:4317``; port 0 takes a free one.
        intake: what writes them.
        security: who may send.
        forward: passes them on.

    Attributes:
        port: the port.

    Raises:
        PortInUse: the port cannot be had.
    """

    def __init__(self, address: str, intake: Intake, security: Security, forward: Forward | None = None) -> None:
        self._intake = intake
        self._forward = forward
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="otel-llm-sessions-grpc")
        self._server = grpc.server(threads, options=OPTIONS, maximum_concurrent_rpcs=AT_ONCE)
        self._server.add_generic_rpc_handlers([_Known(security), *map(self._handler, SIGNALS)])
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            self.port = 0
            raise PortInUse(str(error)) from None
        finally:
            if not self.port:
                self._server.stop(None)

    def start(self) -> None:
        """Begin to receive."""
        self._server.start()

    def close(self) -> None:
        """Answer what is in progress, then end."""
        self._server.stop(1.0).wait()

    def _handler(self, signal: Signal) -> grpc.GenericRpcHandler:
        def export(body: bytes, context: grpc.ServicerContext) -> bytes:
            return self._export(signal, body, context)

        return grpc.method_handlers_generic_handler(
            signal.service, {"Export": grpc.unary_unary_rpc_method_handler(export)}
        )

    def _export(self, signal: Signal, body: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            message, size = read_within(self._intake.room, body, PROTOBUF, signal.read)
        except (DecodeError, ValueError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no such request: {error}")
        except Full:
            _abort_full(context)
        was_taken = self._kept(signal, message, size, context)
        if self._forward and was_taken:
            self._forward(signal.path, PROTOBUF, "", body)
        return bytes(signal.answer(message, was_taken=was_taken).SerializeToString())

    def _kept(self, signal: Signal, message: Any, size: int, context: grpc.ServicerContext) -> bool:
        if signal.path == "/v1/metrics":  # a viewer of sessions has no use for them
            return True
        try:
            return self._intake.put(message, size).result(SECONDS)
        except Full:
            _abort_full(context)
        except (Unwritable, TooLate) as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, f"it could not be written: {error}")
        return False


def _abort_full(context: grpc.ServicerContext) -> NoReturn:
    told = "more arrives than can be written: try again"
    context.set_trailing_metadata(((DETAILS, retry_status(told)),))
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, told)
    raise Full  # never: what aborts raises
