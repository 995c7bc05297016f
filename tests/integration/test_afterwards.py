"""What is left after ``uninstrument()``, and after loops that end as they should not."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import warnings
import weakref
from typing import Any

import openai
import pytest
from loopback_client import MESSAGES, MODEL, options_for
from programs import run_code
from waiting import until

from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans


class Failing(MemoryStore):
    """The application's own, which fails from some time on."""

    fails = False

    def put(self, keys: Any, link: Any) -> None:
        if self.fails:
            raise OSError("no disk")
        super().put(keys, link)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "sqlite", "failing"])
def test_nothing_is_logged_of_streams_that_end_after_uninstrument(client, tmp_path, caplog, kind):
    failing = Failing()
    store = {"memory": None, "sqlite": f"sqlite:///{tmp_path}/store.db", "failing": failing}[kind]
    arguments = {} if store is None else {"store": store}
    with capture_spans(**arguments) as spans:
        streams = [client.responses.create(model=MODEL, input="x", stream=True) for _ in range(3)]
        streams.append(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
        for stream in streams:
            next(stream)
    caplog.set_level(logging.DEBUG, "otel_llm_sessions")
    caplog.clear()
    failing.fails = True
    list(streams.pop())
    streams.pop().close()
    streams.clear()
    gc.collect()
    until(lambda: sum(span.name == f"chat {MODEL}" for span in spans) == 4)
    assert not [record.getMessage() for record in caplog.records if record.name == "otel_llm_sessions"]


WAITING = {"extra_headers": {"x-loopback-mode": "hold=1"}}
"""For a stream whose second event does not come."""

KEPT = ("cancelled", "waiting")
"""Ways to leave a task amid a scope of anyio's. Its table of tasks keeps such a task, and the stream that it reads, for
as long as the process lives: a task's state there holds the scope, which holds the task. The bare client's as well."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
@pytest.mark.parametrize("way", ["read", "abandoned", *KEPT])
def test_a_loop_that_is_closed_as_it_stands_leaves_no_warning_of_ours(request, server, tmp_path, caplog, kind, way):
    """Without ``shutdown_asyncgens`` and without waiting for its tasks."""
    store = {
        "memory": lambda: "memory://",
        "sqlite": lambda: f"sqlite:///{tmp_path}/store.db",
        "redis": lambda: request.getfixturevalue("redis").url,
    }[kind]()
    left: list[weakref.ref[Any]] = []

    def use() -> None:
        loop = asyncio.new_event_loop()
        client = openai.AsyncOpenAI(**options_for(server))

        async def main() -> None:
            stream = await client.responses.create(
                model=MODEL, input="x", stream=True, **WAITING if way in KEPT else {}
            )
            left.append(weakref.ref(stream))
            await anext(stream)
            if way == "read":
                async for _ in stream:
                    pass
            if way in KEPT:
                task = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(0)
                if way == "cancelled":
                    task.cancel()

        loop.run_until_complete(main())
        loop.close()

    said: list[str] = []
    # Texts, not the objects: by the transport that a warning is of, the stream would live on, and its span be open.
    before, sys.unraisablehook = sys.unraisablehook, lambda what: said.append(repr(what.object))
    try:
        with capture_spans(store=store, traces="turn") as spans, warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_, **__: said.append(str(message))
            use()
            gc.collect()
            gc.collect()
            is_kept = left[0]() is not None
            assert is_kept == (way in KEPT)
            if not is_kept:
                until(lambda: spans)
    finally:
        sys.unraisablehook = before
        server.release()
    assert not [line for line in said if "otel_llm_sessions" in line or "redis" in line.lower()], said
    if kind == "memory":  # on a busy machine another may be too slow for its budget, and says so
        assert not [record.getMessage() for record in caplog.records if record.name == "otel_llm_sessions"]


@pytest.mark.slow
@pytest.mark.parametrize("way", KEPT)
def test_what_a_closed_loop_has_kept_ends_with_the_process(server, way):
    code = """
        import asyncio, sys
        import openai
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
        from otel_llm_sessions import OpenAISessionsInstrumentor

        trace.set_tracer_provider(TracerProvider())
        exporter = ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")
        trace.get_tracer_provider().add_span_processor(BatchSpanProcessor(exporter))
        OpenAISessionsInstrumentor().instrument(traces="turn")

        async def main():
            client = openai.AsyncOpenAI(base_url=sys.argv[1], api_key="k", max_retries=0)
            mode = {"x-loopback-mode": "hold=1"}
            stream = await client.responses.create(model="kept", input="x", stream=True, extra_headers=mode)
            await anext(stream)
            task = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            if sys.argv[2] == "cancelled":
                task.cancel()

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
    """
    done = run_code(code, server.base_url, way)
    server.release()
    assert (done.returncode, done.stdout) == (0, "chat kept\n"), done.stderr
    assert "otel_llm_sessions" not in done.stderr
