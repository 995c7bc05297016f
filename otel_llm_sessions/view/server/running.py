"""``otel-llm-sessions view``: receivers, page and database, from the command line to the last commit."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from otel_llm_sessions.view.commands.options import headers_said
from otel_llm_sessions.view.server.app import application
from otel_llm_sessions.view.server.listening import (
    NotListening,
    address,
    called,
    for_this_machine,
    listening,
)
from otel_llm_sessions.view.server.options import options
from otel_llm_sessions.view.server.receiving import Receiving
from otel_llm_sessions.view.server.security import Security, security_for
from otel_llm_sessions.view.source import Source, Unreachable
from otel_llm_sessions.view.sources.opening import open_source

WRONG_USE: Final = 2
NO_ANSWER: Final = 3
INTERRUPTED: Final = 130
SWITCH: Final = 0.0001
"""Seconds that a thread computes while others wait: who writes and who answers do so at once."""
GRACE: Final = 1
"""Seconds that open connections get when it ends."""


def main(arguments: Sequence[str]) -> int:
    """Run the viewer until it is told to end.

    Args:
        arguments: the options, without the command's name.

    Returns:
        The exit status: 0 when it was told to end, 2 for what cannot be meant or had, 3 if ``--from`` does not answer,
        130 if it was told again while it ended.
    """
    said = options(arguments)
    try:
        return _run(said)
    except (NotListening, ValueError) as error:
        return _fails(str(error), WRONG_USE)
    except Unreachable as error:
        return _fails(str(error), NO_ANSWER)
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(said: argparse.Namespace) -> int:
    security = security_for(said.host, token=said.token, allow_hosts=said.allow_host, allow_origins=said.allow_origin)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(contextlib.closing(listening(said.host, said.http_port)))
        port = listener.getsockname()[1]
        if said.source:
            app, grpc = _looking(said, security, stack), 0
        else:
            app, grpc = _receiving(said, security, port, stack)
        server = _server(app)
        _tell(said, security, port, grpc)
        if not said.no_open:
            _open(_page(for_this_machine(said.host), port, security))
        sys.setswitchinterval(SWITCH)
        with _ended_by_signals(server):
            server.run(sockets=[listener])
    return 0


def _looking(said: argparse.Namespace, security: Security, stack: contextlib.ExitStack) -> ASGIApp:
    """The page over a backend's sessions."""
    source: Source = open_source(said.source, headers_said())
    stack.callback(source.close)
    return application(source, security=security, trace_url=said.trace_url)


def _receiving(
    said: argparse.Namespace, security: Security, port: int, stack: contextlib.ExitStack
) -> tuple[ASGIApp, int]:
    """The page over what arrives here, and the port of OTLP over gRPC."""
    receiving = stack.enter_context(contextlib.closing(Receiving(said, security, port)))
    app = application(
        receiving.database,
        security=security,
        routes=receiving.routes,
        changes=receiving.database.changes,
        trace_url=said.trace_url,
        receiver=address(called(said.host), receiving.grpc_port),
    )
    receiving.start()
    return app, receiving.grpc_port


def _server(app: ASGIApp) -> uvicorn.Server:
    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Leave signals alone: uvicorn would raise them again when it has ended."""
            yield

    config = uvicorn.Config(
        app, loop="asyncio", http="h11", ws="none", lifespan="off", log_level="error", access_log=False,
        server_header=False, timeout_graceful_shutdown=GRACE,
    )  # fmt: skip
    return Server(config)


@contextlib.contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Have SIGINT and SIGTERM end the server, the second of them at once."""

    def end(*_: object) -> None:
        server.force_exit = server.should_exit
        server.should_exit = True
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # that pages which are open are cut off is meant

    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, end) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def _tell(said: argparse.Namespace, security: Security, port: int, grpc: int) -> None:
    """Say where it is, in two lines."""
    host = called(said.host)
    print(f"page  {_page(host, port, security)}", flush=True)
    if grpc:
        print(f"OTLP  gRPC {address(host, grpc)}, HTTP {address(host, port)}", flush=True)
    if security.token:
        print(
            f'token {security.token}  (OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20{security.token}")',
            flush=True,
        )


def _page(host: str, port: int, security: Security) -> str:
    return f"http://{address(host, port)}/" + (f"?token={security.token}" if security.token else "")


def _open(url: str) -> None:
    """Open the page in a browser, where there is one that is not the terminal itself."""
    has_screen = sys.platform in ("win32", "darwin") or any(
        map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    )
    if has_screen:
        import webbrowser

        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _fails(message: str, status: int) -> int:
    print(f"otel-llm-sessions view: {message}", file=sys.stderr)
    return status
