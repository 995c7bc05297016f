"""Every span ends exactly once, whatever becomes of the reply (docs/architecture.md)."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import types
from typing import Any

import httpx2
import openai
import pytest
from answered import async_client_of, client_of
from endings_kit import MESSAGES, kinds, only
from loopback_client import MODEL
from opentelemetry.trace import StatusCode
from otlp_receiver import OtlpReceiver
from programs import run_code

from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

pytestmark = pytest.mark.usefixtures("quick_collections")


BROKEN = (openai.APIConnectionError, httpx2.RemoteProtocolError)
"""What a break in the middle of a stream raises; the second, the transport's own, with old clients."""


@pytest.fixture
def spans(spans_in_silence):
    """One model span per test is expected."""
    return spans_in_silence


def open_stream(client: Any, kind: str, **arguments: Any) -> Any:
    if kind == "chat":
        return client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, **arguments)
    return client.responses.create(model=MODEL, input="Tell me a story", stream=True, **arguments)


@kinds
def test_a_stream_read_to_the_end(client, spans, kind):
    for _ in open_stream(client, kind):
        assert not spans
    span = only(spans)
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert span.attributes["gen_ai.response.time_to_first_chunk"] > 0


@kinds
def test_a_stream_closed_before_it_was_read(client, spans, kind):
    open_stream(client, kind).close()
    assert only(spans).status.status_code is StatusCode.UNSET


@kinds
def test_a_stream_closed_in_the_middle(client, spans, kind):
    stream = open_stream(client, kind)
    next(stream)
    stream.close()
    span = only(spans)
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert type(stream.response.stream).__module__.startswith(httpx2.__name__)


@kinds
def test_a_stream_in_a_with_block_that_is_broken_out_of(client, spans, kind):
    with open_stream(client, kind) as stream:
        for _ in stream:
            break
    only(spans)


@kinds
def test_a_stream_that_is_abandoned_still_ends_its_span(client, spans, kind):
    stream = open_stream(client, kind)
    for _ in stream:
        break
    del stream
    assert only(spans).status.status_code is StatusCode.UNSET


@kinds
def test_a_stream_that_was_never_touched(client, spans, kind):
    open_stream(client, kind)
    only(spans)


@kinds
def test_a_transport_break_in_the_middle(client, spans, kind):
    with pytest.raises(BROKEN):
        list(open_stream(client, kind, extra_headers={"x-loopback-mode": "break=3"}))
    span = only(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"].endswith(("APIConnectionError", "RemoteProtocolError"))
    assert span.attributes["gen_ai.response.finish_reasons"] == ("error",)


@kinds
def test_an_error_event_in_the_middle(client, spans, kind):
    stream = open_stream(client, kind, extra_headers={"x-loopback-mode": "error_event=3"})
    try:
        list(stream)
    except openai.APIError:
        pass
    span = only(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"]
    assert span.status.description is None


def test_failed_and_incomplete_responses(client, spans):
    list(open_stream(client, "responses", extra_headers={"x-loopback-mode": "failed"}))
    assert spans[0].status.status_code is StatusCode.ERROR
    assert spans[0].attributes["error.type"] == "server_error"
    assert spans[0].attributes["gen_ai.response.finish_reasons"] == ("error",)
    list(open_stream(client, "responses", extra_headers={"x-loopback-mode": "incomplete"}))
    assert spans[1].status.status_code is StatusCode.UNSET
    assert spans[1].attributes["gen_ai.response.finish_reasons"] == ("length",)


@kinds
def test_an_exception_in_the_loop_body(client, spans, kind):
    with pytest.raises(KeyboardInterrupt), open_stream(client, kind) as stream:
        for _ in stream:
            raise KeyboardInterrupt
    assert only(spans).status.status_code is StatusCode.UNSET


def test_the_stream_managers(client, spans):
    chat = getattr(client.chat.completions, "stream", None) or client.beta.chat.completions.stream  # old clients
    with chat(model=MODEL, messages=MESSAGES) as stream:
        stream.until_done()
    with client.responses.stream(model=MODEL, input="x") as stream:
        stream.until_done()
    with client.responses.stream(model=MODEL, input="x") as stream:
        next(stream)
    assert len(spans) == 3
    assert all(span.attributes["gen_ai.response.id"] for span in spans)


@kinds
async def test_async_endings(async_client, spans, kind):
    async for _ in await open_stream(async_client, kind):
        pass
    stream = await open_stream(async_client, kind)
    await stream.close()
    async with await open_stream(async_client, kind) as stream:
        async for _ in stream:
            break
    assert len(spans) == 3
    with pytest.raises(BROKEN):
        async for _ in await open_stream(async_client, kind, extra_headers={"x-loopback-mode": "break=3"}):
            pass
    assert spans[3].status.status_code is StatusCode.ERROR


@kinds
async def test_an_async_stream_that_is_abandoned(async_client, spans, kind):
    stream = await open_stream(async_client, kind)
    async for _ in stream:
        break
    del stream
    # The loop closes the client's generators in tasks of its own before anything can be collected.
    while len(asyncio.all_tasks()) > 1 or not spans:
        await asyncio.sleep(0)
        gc.collect()
    only(spans)


@kinds
def test_an_async_stream_that_is_abandoned_when_its_loop_ends(server, spans, kind):
    async def main() -> None:
        client = openai.AsyncOpenAI(base_url=server.base_url, api_key="x")
        async for _ in await open_stream(client, kind):
            break
        await client.close()

    asyncio.run(main())
    only(spans)


@kinds
async def test_a_task_cancelled_while_it_reads(async_client, server, spans, kind):
    stream = await open_stream(async_client, kind, extra_headers={"x-loopback-mode": "hold=2"})
    read = []

    async def reading() -> None:
        async for chunk in stream:
            read.append(chunk)

    task = asyncio.create_task(reading())
    while len(read) < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.release()
    assert only(spans).status.status_code is StatusCode.UNSET


async def test_a_task_cancelled_while_it_waits_for_the_reply(async_client, server, spans):
    task = asyncio.create_task(
        async_client.responses.create(model=MODEL, input="x", extra_headers={"x-loopback-mode": "delay=30"})
    )
    while not server.requests:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert only(spans).attributes["error.type"].endswith("CancelledError")


def test_a_coroutine_that_is_thrown_away_in_another_context(server, spans):
    async def main() -> None:
        client = openai.AsyncOpenAI(base_url=server.base_url, api_key="x")
        call = client.responses.create(model=MODEL, input="x", extra_headers={"x-loopback-mode": "delay=30"})
        call.send(None)
        import contextvars

        contextvars.Context().run(call.close)
        await client.close()

    try:
        asyncio.run(main())
    except RuntimeError:
        pass  # the client's own: its connection pool is closed with a request under way
    only(spans)


@kinds
def test_a_stream_closed_by_another_thread_while_it_is_waited_for(client, server, spans, kind):
    stream = open_stream(client, kind, extra_headers={"x-loopback-mode": "hold=1"})
    next(stream)
    failures: list[BaseException] = []

    def read() -> None:
        try:
            list(stream)
        except BaseException as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    while not stream._iterator.gi_running:
        time.sleep(0.001)
    stream.close()
    assert len(spans) == 1
    server.release()
    reader.join()
    assert only(spans).status.status_code is StatusCode.UNSET


class Interrupting(httpx2.SyncByteStream):
    """A body in which Ctrl-C is pressed."""

    def __iter__(self) -> Any:
        yield b'data: {"id": "chatcmpl-1", "choices": []}\n\n'
        raise KeyboardInterrupt


def test_ctrl_c_while_a_chunk_is_waited_for(spans):
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Interrupting())

    with client_of(answer) as client:
        with pytest.raises(KeyboardInterrupt):
            list(open_stream(client, "chat"))
    assert only(spans).status.status_code is StatusCode.UNSET


def test_ctrl_c_while_the_reply_is_waited_for(spans):
    def answer(request: httpx2.Request) -> httpx2.Response:
        raise KeyboardInterrupt

    with client_of(answer) as client:
        with pytest.raises(KeyboardInterrupt):
            open_stream(client, "chat")
    assert only(spans).attributes["error.type"] == "KeyboardInterrupt"


def test_hooks_of_others_stay(client, spans):
    """Who put something of his own on the response, before us or after us, finds it there when we have gone."""
    calls: list[str] = []

    def before(response: httpx2.Response) -> None:
        close = response.close
        response.close = lambda: (calls.append("before"), close())[1]  # type: ignore[method-assign]

    http = httpx2.Client(event_hooks={"response": [before]})
    with client.with_options(http_client=http) as hooked:
        stream = open_stream(hooked, "chat")
        close = stream.response.close
        stream.response.close = after = lambda: (calls.append("after"), close())[1]
        stream.close()
        assert stream.response.close is after
        assert calls == ["after", "before"]
        only(spans)
        stream = open_stream(hooked, "chat")
        list(stream)
        calls.clear()
        stream.response.close()
    assert calls == ["before"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.slow
@pytest.mark.parametrize("way", ["read", "forgotten"])
def test_a_forked_child_leaves_its_parents_streams_alone(server, way):
    code = """
        import gc, os, sys, time
        from openai import OpenAI
        from otel_llm_sessions.testing import capture_spans
        with capture_spans(traces="turn") as spans:
            stream = OpenAI(base_url=sys.argv[1], api_key="x").responses.create(model="m", input="x", stream=True)
            next(stream)
            if sys.argv[2] == "forgotten":  # its call is to be ended by the next one, or a moment later
                del stream
                gc.collect()
            child = os.fork()
            if child == 0:
                stream = None
                gc.collect()
                time.sleep(0.3)
                print("child", len(spans), flush=True)
                sys.exit(0)
            os.waitpid(child, 0)
            if sys.argv[2] == "read":
                print("parent", len(spans), len(list(stream)) > 3)
        print("parent", len(spans))
    """
    done = run_code(code, server.base_url, way)
    read = "parent 0 True\n" if way == "read" else ""
    assert (done.stdout, done.stderr) == (f"child 0\n{read}parent 1\n", "")


class Waiting(MemoryStore):
    """A store that an event loop has to wait for, and one that writes later when asked to."""

    waits = True

    def __init__(self) -> None:
        super().__init__()
        self.later: list[Any] = []

    async def aput(self, keys: Any, link: Any) -> None:
        await asyncio.sleep(0)
        self.put(keys, link)

    def put_soon(self, keys: Any, link: Any) -> None:
        self.later.append(link)


def test_a_coroutine_that_is_closed_waits_for_no_store(monkeypatch):
    created = b'data: {"type": "response.created", "response": {"id": "resp_1"}}\n\n'

    class Body(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield created

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Body())

    @types.coroutine
    def pause() -> Any:
        yield "paused"

    async def app() -> None:
        stream = await open_stream(async_client_of(answer), "responses")
        async with stream:
            await anext(stream)
            await pause()

    store = Waiting()
    with capture_spans(traces="turn", store=store) as spans:
        loop = asyncio.new_event_loop()
        running = app()
        asyncio.events._set_running_loop(loop)
        try:
            while running.send(None) != "paused":
                pass
            running.close()
        finally:
            asyncio.events._set_running_loop(None)
            loop.close()
    assert len(spans) == 1
    assert len(store.later) == 1


@kinds
async def test_a_stream_closed_by_another_task_while_it_is_waited_for(async_client, server, spans, kind):
    stream = await open_stream(async_client, kind, extra_headers={"x-loopback-mode": "hold=1"})
    await anext(stream)

    async def rest() -> None:
        async for _ in stream:
            pass

    reader = asyncio.create_task(rest())
    await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(stream.close(), reader, return_exceptions=True), 10)
    server.release()
    only(spans)


@pytest.mark.slow
def test_a_span_still_open_when_the_process_exits_is_exported(server):
    code = """
        import sys
        from openai import OpenAI
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from otel_llm_sessions import OpenAISessionsInstrumentor
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(sys.argv[2] + "/v1/traces")))
        trace.set_tracer_provider(provider)
        OpenAISessionsInstrumentor().instrument()
        client = OpenAI(base_url=sys.argv[1], api_key="x")
        stream = client.responses.create(model="m", input="x", stream=True)
        print(next(stream).type)
    """
    with OtlpReceiver() as receiver:
        done = run_code(code, server.base_url, receiver.endpoint)
        assert done.stdout == "response.created\n"
        assert done.stderr == ""
        assert sorted(span.name for span in receiver.spans) == ["chat m", "session"]
