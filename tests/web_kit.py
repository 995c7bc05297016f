"""A real HTTP server on loopback that answers as a test says: what sources are asked against."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """One request; ``path`` still percent-encoded."""

    path: str
    said: dict[str, str]
    headers: dict[str, str]
    target: str = ""
    """Path and query as they were written."""


@dataclass
class Web:
    """What the server is asked, and where it is."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)


Answer = Callable[[Asked], "tuple[int, bytes] | tuple[int, bytes, dict[str, str]]"]


@contextmanager
def web(answer: Answer) -> Iterator[Web]:
    """Serve on a free port; a status of 0 closes the connection without an answer."""
    served = Web()

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = Asked(parts.path, dict(parse_qsl(parts.query)), dict(self.headers), self.path)
            served.asked.append(asked)
            status, body, *more = answer(asked)
            if not status:
                return
            self.send_response(status)
            headers: dict[str, Any] = {"Content-Length": len(body), **(more[0] if more else {})}
            for name, value in headers.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
