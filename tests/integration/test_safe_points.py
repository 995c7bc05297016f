"""What finalizers and signal handlers may find locked, and when the spans of abandoned replies end."""

from __future__ import annotations

import gc
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest
from answered import async_client_of
from endings_kit import MESSAGES
from loopback_client import MODEL
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from programs import run_code
from waiting import until

from otel_llm_sessions.testing import capture_spans

LATE = 1.0
"""Seconds that the end of an abandoned reply's span may be late."""


class Locking(SpanProcessor):
    """The application's own: its lock is not reentrant, and held while a span ends."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ended: list[Any] = []

    def on_end(self, span: Any) -> None:
        with self.lock:
            self.ended.append(span)


@pytest.fixture
def locking() -> Iterator[Locking]:
    provider = TracerProvider(shutdown_on_exit=False)
    processor = Locking()
    provider.add_span_processor(processor)
    with capture_spans(traces="turn", tracer_provider=provider):
        yield processor


def sync_stream(client: Any) -> Callable[[], None]:
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    next(stream)
    kept = [stream]
    return kept.clear


def in_a_cycle(client: Any) -> Callable[[], None]:
    stream = client.responses.create(model=MODEL, input="x", stream=True)
    next(stream)
    stream.itself = stream
    del stream
    return lambda: None


def never_read(client: Any) -> Callable[[], None]:
    kept = [client.responses.create(model=MODEL, input="x", stream=True)]
    return kept.clear


def raw_body(client: Any) -> Callable[[], None]:
    context = client.chat.completions.with_streaming_response.create(model=MODEL, messages=MESSAGES)
    kept = [context.__enter__().iter_bytes(1)]
    next(kept[0])

    def leave() -> None:
        kept.clear()
        context._response = None

    return leave


@types.coroutine
def pause() -> Any:
    yield "paused"


def coroutine(_: Any) -> Callable[[], None]:
    """A task's coroutine that is collected while it waits for the reply, its loop being gone."""

    async def wait(request: Any) -> Any:
        await pause()

    kept = [async_client_of(wait).chat.completions.create(model=MODEL, messages=MESSAGES)]
    assert copy_context().run(kept[0].send, None) == "paused"  # in a task's own context
    return kept.clear


WAYS = (sync_stream, in_a_cycle, never_read, raw_body, coroutine)


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def abandon(request: Any, client: Any, locking: Locking) -> Iterator[Callable[[], None]]:
    """Abandons a reply while the application holds its own lock."""
    gc.disable()
    forget = request.param(client)

    def collected() -> None:
        with locking.lock:
            forget()
            gc.collect()

    def once() -> None:
        # In a thread, so that a deadlock fails a test and does not hang all.
        thread = threading.Thread(target=collected, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "the collection waits for the lock"

    yield once
    gc.enable()


@pytest.mark.slow
def test_a_reply_collected_while_the_application_holds_a_lock_waits_for_nothing(abandon, locking):
    abandon()
    left = time.time_ns()
    began = time.monotonic()
    until(lambda: locking.ended)
    assert time.monotonic() - began < LATE + 1  # a slow machine's second
    (span,) = locking.ended
    assert span.start_time < span.end_time <= left


@pytest.fixture
def no_thread_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)


def test_the_next_call_ends_what_was_abandoned(client, locking, no_thread_to_spare):
    sync_stream(client)()
    gc.collect()
    assert not locking.ended
    client.chat.completions.create(model="next", messages=MESSAGES)
    assert [span.name for span in locking.ended] == [f"chat {MODEL}", "chat next"]


def test_leaving_capture_spans_ends_what_was_abandoned(client, no_thread_to_spare):
    with capture_spans(traces="turn") as spans:
        forget = sync_stream(client)
        forget()
        gc.collect()
        assert not spans
    assert [span.name for span in spans] == [f"chat {MODEL}"]


def test_a_reply_that_is_closed_by_the_application_ends_at_once(client, locking):
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    next(stream)
    stream.close()
    assert len(locking.ended) == 1


def threads_of_ours() -> int:
    """How many other threads run code of the package."""
    frames = [frame for thread, frame in sys._current_frames().items() if thread != threading.get_ident()]
    names = [[frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_stack(frame)] for frame in frames]
    demo = "otel_llm_sessions.demo"
    return sum(any(n.startswith("otel_llm_sessions") and not n.startswith(demo) for n in stack) for stack in names)


def test_there_is_a_thread_only_while_something_is_to_be_ended(client, locking):
    before = threads_of_ours()  # a store's, of an earlier test
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    next(stream)
    assert threads_of_ours() <= before
    del stream
    gc.collect()
    until(lambda: locking.ended)
    until(lambda: threads_of_ours() <= before)


@pytest.mark.slow
def test_what_was_abandoned_at_the_end_of_the_program_ends(server):
    code = """
        import sys
        from openai import OpenAI
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
        from otel_llm_sessions import OpenAISessionsInstrumentor
        provider = TracerProvider()
        names = ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")
        provider.add_span_processor(BatchSpanProcessor(names))
        OpenAISessionsInstrumentor().instrument(tracer_provider=provider, traces="turn")
        for kept in (True, False):
            stream = OpenAI(base_url=sys.argv[1], api_key="x").responses.create(model="m", input="x", stream=True)
            next(stream)
            if not kept:
                del stream
            else:
                other = stream
    """
    done = run_code(code, server.base_url)
    assert (done.stdout, done.stderr) == ("chat m\nchat m\n", "")
