"""A web application whose threads are greenlets: it makes calls inside ``session(...)`` and up chains.

What it is to do, it reads from the environment; its spans go to a file. Run by gunicorn (``green_gunicorn.py`` is its
configuration), or as a program by eventlet's own server.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import platform
import signal
import sys
from typing import Any

# openai asks this at its first request, by a subprocess: not in a patched process. It is remembered (`uname` is not
# enough: its `processor` is only asked for when it is needed).
platform.platform()
logging.basicConfig()

IS_EVENTLET = __name__ == "__main__"


def patch_by_eventlet() -> None:
    import warnings

    warnings.simplefilter("ignore", DeprecationWarning)
    import eventlet

    eventlet.monkey_patch()
    # The HTTP library imports trio where it is installed, and trio 0.35 fails to once eventlet 0.41 has patched.
    sys.modules.setdefault("trio", None)  # type: ignore[arg-type]


if IS_EVENTLET and os.environ["PATCHED"] == "first":
    patch_by_eventlet()

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import (  # noqa: E402
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

from otel_llm_sessions import OpenAISessionsInstrumentor, session  # noqa: E402


class ToFile(SpanExporter):
    """One line for each span."""

    def export(self, spans: Any) -> SpanExportResult:
        lines = "".join(line_of(span) for span in spans)
        with open(os.environ["SPANS"], "a") as file:
            file.write(lines)
        return SpanExportResult.SUCCESS


def line_of(span: ReadableSpan) -> str:
    context = span.get_span_context()
    told = {"name": span.name, "trace": f"{context.trace_id:032x}", "attributes": dict(span.attributes or {})}
    return json.dumps(told) + "\n"


provider = TracerProvider()
if os.environ["PATCHED"] == "first":
    provider.add_span_processor(BatchSpanProcessor(ToFile(), schedule_delay_millis=500))
else:
    # The batch processor's own thread, from before the patch, complains when it ends (SDK 1.45, gevent 26.9).
    provider.add_span_processor(SimpleSpanProcessor(ToFile()))
OpenAISessionsInstrumentor().instrument(tracer_provider=provider)

if IS_EVENTLET and os.environ["PATCHED"] == "last":
    patch_by_eventlet()  # eventlet 0.41 cannot after pydantic 2.14 is imported

import openai  # noqa: E402


@functools.cache
def client() -> openai.OpenAI:
    return openai.OpenAI(base_url=os.environ["BASE_URL"], api_key="test", max_retries=0)


def ask(previous: str | None, delay: float) -> str:
    more = {"previous_response_id": previous} if previous else {}
    mode = {"x-loopback-mode": f"delay={delay}"}
    return client().responses.create(model="gpt-4o-mini", input="x", extra_headers=mode, **more).id


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Make two calls of one chain, in the session that the request names, or after the response that it names."""
    asked = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    name = asked.get("session")
    with session(name) if name else contextlib.nullcontext():
        delay = asked.get("delay", 0.1)  # so that requests overlap
        first = ask(asked.get("previous"), delay)
        second = ask(first, delay)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"ids": [first, second], "pid": os.getpid()}).encode()]


def serve_by_eventlet() -> None:
    import eventlet
    from eventlet import wsgi

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    wsgi.server(eventlet.listen(("127.0.0.1", int(os.environ["PORT"]))), application, log_output=False)


if IS_EVENTLET:
    serve_by_eventlet()
