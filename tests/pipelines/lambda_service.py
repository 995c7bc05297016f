"""What AWS Lambda does around a function: hands it events over the Runtime API, and freezes it between two of them.

The program that asks for events is AWS's own (awslambdaric), as in the images of AWS. A function is stopped (SIGSTOP)
as soon as it asks for the next event, and goes on when there is one.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PREFIX = "/2018-06-01/runtime/"
ARN = "arn:aws:lambda:eu-central-1:123456789012:function:shop"


class LambdaService:
    """The Runtime API for one function's process, in threads of its own."""

    def __init__(self) -> None:
        self._events: queue.Queue[Any] = queue.Queue()
        self._results: queue.Queue[Any] = queue.Queue()
        self.is_frozen = threading.Event()
        """Set while the function is stopped."""
        self.pid: int | None = None
        """The function's process, when it is known."""
        self._number = 0
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        """The value of ``AWS_LAMBDA_RUNTIME_API``."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def invoke(self, event: Any) -> Any:
        """Have the function take an event; returns what it answers when it has been frozen again."""
        assert self.is_frozen.wait(60), "the function asks for no event"
        self._events.put(event)
        result = self._results.get(timeout=60)
        assert self.is_frozen.wait(60), "the function asks for no event"
        return result

    def __enter__(self) -> LambdaService:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._events.put(None)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next(self) -> tuple[str, Any] | None:
        """Wait for an event, with the function stopped meanwhile; None at the end."""
        assert self.pid is not None
        os.kill(self.pid, signal.SIGSTOP)
        self.is_frozen.set()
        event = self._events.get()
        if event is None:
            return None
        self.is_frozen.clear()
        os.kill(self.pid, signal.SIGCONT)
        self._number += 1
        return f"request-{self._number}", event

    def answered(self, result: Any) -> None:
        """Take what the function answers."""
        self._results.put(result)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, service: LambdaService) -> None:
        self.service = service
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        given = self.server.service.next()
        if given is None:
            self.close_connection = True
            return
        request_id, event = given
        told = {
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + 60) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": ARN,
        }
        self._answer(200, json.dumps(event).encode(), told)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"null")
        self.server.service.answered(body)
        self._answer(202, b"")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
