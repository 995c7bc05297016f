"""An OTLP/HTTP receiver on loopback: what an application exports, readable a moment later.

It speaks the real protocol (protobuf over HTTP, gzip allowed), so the exporter is the one that users run::

    with OtlpReceiver() as receiver:
        ...  # export to receiver.endpoint
        receiver.wait_for(lambda received: len(received.spans) == 2)
"""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final

from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped,unused-ignore]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from otlp_reading import ReceivedMetric, read_logs, read_metrics, read_spans

from otel_llm_sessions import semconv
from otel_llm_sessions.view.spans import ReceivedLog, ReceivedSpan

PROTOBUF: Final = "application/x-protobuf"
IDLE_SECONDS: Final = 10.0
"""A connection that sends nothing for so long is closed: it must not hold up :meth:`OtlpReceiver.close`."""


@dataclass(frozen=True, slots=True)
class _Signal:
    """What one path of the protocol takes and answers."""

    read: Callable[[bytes], list[Any]]
    response: Callable[[], Message]


_SIGNALS: Final[dict[str, _Signal]] = {
    "/v1/traces": _Signal(read_spans, ExportTraceServiceResponse),
    "/v1/metrics": _Signal(read_metrics, ExportMetricsServiceResponse),
    "/v1/logs": _Signal(read_logs, ExportLogsServiceResponse),
}


class OtlpReceiver:
    """Receives traces, metrics and logs over OTLP/HTTP on 127.0.0.1, in a thread of its own.

    ``port`` 0 takes a free one. Listens from construction on; serves between :meth:`start` and :meth:`close`,
    which the context manager calls. Thread-safe.
    """

    def __init__(self, port: int = 0) -> None:
        self._arrived = threading.Condition()
        self._received: dict[str, list[Any]] = {path: [] for path in _SIGNALS}
        self._server = _Server(port, self._keep)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def endpoint(self) -> str:
        """The value for ``OTEL_EXPORTER_OTLP_ENDPOINT``: ``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def spans(self) -> list[ReceivedSpan]:
        """The spans so far, in the order of arrival (a copy)."""
        return self._copy("/v1/traces")

    @property
    def metrics(self) -> list[ReceivedMetric]:
        """The metrics so far, in the order of arrival (a copy)."""
        return self._copy("/v1/metrics")

    @property
    def logs(self) -> list[ReceivedLog]:
        """The log records so far, in the order of arrival (a copy)."""
        return self._copy("/v1/logs")

    def wait_for(self, predicate: Callable[[OtlpReceiver], bool], timeout: float = 10.0) -> None:
        """Return as soon as ``predicate(receiver)`` is true; it is asked again whenever something arrives.

        Raises TimeoutError, with a listing of what had arrived, after ``timeout`` seconds.
        """
        with self._arrived:
            if not self._arrived.wait_for(lambda: predicate(self), timeout):
                raise TimeoutError(f"not within {timeout:g} s; what had arrived:\n{self.listing()}")

    def listing(self) -> str:
        """What has arrived, one line each, for a person."""
        lines = [_span_line(span) for span in self.spans]
        lines += [f"metric {metric.name} ({len(metric.points)} points)" for metric in self.metrics]
        lines += [f"log {log.event_name or log.body!r}" for log in self.logs]
        return "\n".join(f"  {line}" for line in lines) or "  nothing"

    def clear(self) -> None:
        """Forget what has arrived."""
        with self._arrived:
            for items in self._received.values():
                items.clear()

    def start(self) -> OtlpReceiver:
        """Begin to serve; returns the receiver itself."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop serving and free the port; what arrived stays readable. Calling it again does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> OtlpReceiver:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def take(self, path: str, message: bytes) -> list[Any]:
        """Keep what came in another way: a serialized request, and the path to which it would have been sent."""
        items = _SIGNALS[path].read(message)
        self._keep(path, items)
        return items

    def _keep(self, path: str, items: list[Any]) -> None:
        with self._arrived:
            self._received[path].extend(items)
            self._arrived.notify_all()

    def _copy(self, path: str) -> list[Any]:
        with self._arrived:
            return list(self._received[path])


class _Server(ThreadingHTTPServer):
    """The HTTP server; closing it waits for the requests in progress, so no thread or socket outlives it."""

    daemon_threads = False

    def __init__(self, port: int, keep: Callable[[str, list[Any]], None]) -> None:
        self.keep = keep
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """One export request; as HTTP/1.0, so that each has its connection and none stays open between them."""

    server: _Server
    timeout = IDLE_SECONDS

    def do_POST(self) -> None:
        """Keep what was sent, then answer the signal's response message; 4xx for what is not OTLP."""
        signal = _SIGNALS.get(self.path)
        if signal is None:
            return self.send_error(404, explain=f"try one of {', '.join(_SIGNALS)}")
        if self.headers.get_content_type() != PROTOBUF:
            return self.send_error(415, explain=f"only {PROTOBUF}")
        if "Content-Length" not in self.headers:
            return self.send_error(411)
        try:
            items = signal.read(self._body())
        except (DecodeError, OSError, EOFError, zlib.error) as error:
            return self.send_error(400, explain=str(error))
        self.server.keep(self.path, items)
        self._answer(signal.response())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what arrives is read from the receiver."""

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, message: Message) -> None:
        body = message.SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", PROTOBUF)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _span_line(span: ReceivedSpan) -> str:
    session = span.attributes.get(semconv.SESSION_ID, "none")
    place = f"trace={span.trace_id} id={span.span_id} parent={span.parent_id or 'none'}"
    return f"span {span.name!r} {place} session={session} {span.status}"
