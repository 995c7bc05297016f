"""What has happened when the application's flush returns: its process may be frozen then, or end without an exit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_backend import FakeBackend
from loopback_client import MODEL
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from waiting import until

from otel_llm_sessions import OpenAISessionsInstrumentor, flushing
from otel_llm_sessions.openai import held
from otel_llm_sessions.stores import keeper
from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.testing import capture_spans

SOON = 0.1
SEVERAL = 3


@pytest.fixture
def backend() -> Iterator[FakeBackend]:
    """The place of a shared store, which answers nothing while ``go_on`` is not set."""
    backend = FakeBackend()
    yield backend
    backend.go_on.set()


@pytest.fixture
def patient_flush(monkeypatch) -> None:
    monkeypatch.setattr(held, "AT_EXIT", 60.0)  # a busy machine's thread takes long to write


def test_what_calls_left_for_other_processes_is_in_the_store_when_a_flush_returns(client, backend, patient_flush):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, store=GuardedStore(backend)):
        client.responses.create(model=MODEL, input="x")
        backend.go_on.clear()
        made = [client.responses.create(model=MODEL, input="x").id for _ in range(SEVERAL)]
        assert not {f"r:{id_}" for id_ in made} & set(backend.links)
        threading.Timer(SOON, backend.go_on.set).start()
        assert provider.force_flush()
        assert {f"r:{id_}" for id_ in made} <= set(backend.links)


def test_a_flush_waits_for_a_store_that_does_not_answer_half_a_second_at_most(client, backend):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, store=GuardedStore(backend)):
        client.responses.create(model=MODEL, input="x")
        backend.go_on.clear()
        client.responses.create(model=MODEL, input="x")
        begun = time.monotonic()
        assert provider.force_flush()
        assert time.monotonic() - begun < 8, "the backend itself gives up after ten seconds"
        backend.go_on.set()


def test_a_flush_waits_no_longer_where_more_waits_than_a_store_is_given(client, backend, monkeypatch):
    monkeypatch.setattr(keeper, "MAX_WAITING", SEVERAL)
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, store=GuardedStore(backend)):
        client.responses.create(model=MODEL, input="x")
        backend.go_on.clear()
        for _ in range(3 * SEVERAL):
            client.responses.create(model=MODEL, input="x")
        begun = time.monotonic()
        assert provider.force_flush()
        assert time.monotonic() - begun < 6, "the backend itself gives up after ten seconds"
        backend.go_on.set()


class Visited(SpanProcessor):
    """Counts flushes, during each of which a call is made whose end is kept back."""

    def __init__(self, make_call: Callable[[], object]) -> None:
        self.make_call = make_call
        self.flushes = 0

    def force_flush(self, timeout_millis: int = 0) -> bool:
        self.flushes += 1
        if self.flushes < 5:
            self.make_call()
        return True


def test_a_flush_ends_where_calls_keep_coming_whose_ends_are_kept_back(client, backend, chain):
    (first,) = chain(1)
    visited = Visited(lambda: client.responses.create(model=MODEL, input="x", previous_response_id=first))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(visited)
    with capture_spans(tracer_provider=provider, store=GuardedStore(backend)):
        client.responses.create(model=MODEL, input="x")
        backend.go_on.clear()
        visited.make_call()
        provider.force_flush()
        assert visited.flushes == 2
        backend.go_on.set()


@pytest.mark.parametrize("calls_before", [0, 1], ids=["the store's thread", "a caller's turn"])
def test_a_flush_amid_what_is_asked_of_the_store_waits_for_nothing(client, backend, patient_flush, calls_before):
    provider = TracerProvider(shutdown_on_exit=False)
    took: list[float] = []

    def flush() -> None:
        begun = time.monotonic()
        provider.force_flush()
        took.append(time.monotonic() - begun)

    with capture_spans(tracer_provider=provider, store=GuardedStore(backend)):
        for _ in range(calls_before):
            client.responses.create(model=MODEL, input="x")
        backend.amid = flush
        client.responses.create(model=MODEL, input="x")
        until(lambda: took)
        assert (backend.threads[-1] == threading.get_ident()) is bool(calls_before)
        assert took[0] < 1


def test_a_flush_asks_nothing_of_a_store_that_nobody_has_used(backend):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, store=GuardedStore(backend)):
        provider.force_flush()
    assert backend.served == []


def test_what_is_kept_back_is_exported_by_what_is_shut_down_behind_us(client, server, chain):
    (first,) = chain(1)
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    OpenAISessionsInstrumentor().instrument(tracer_provider=provider, provider_lookup=True)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    server.script({"id": first, "object": "response"}, path=first, delay=5)
    client.responses.create(model=MODEL, input="x", previous_response_id=first)
    assert not exporter.get_finished_spans()
    provider.shutdown()
    assert [span.name for span in exporter.get_finished_spans()] == [f"chat {MODEL}"]
    server.release()


@pytest.mark.parametrize("ends", ["force_flush", "shutdown"])
def test_a_flush_by_the_only_thread_that_may_hand_spans_on_does_not_wait_for_itself(
    client, server, chain, monkeypatch, ends
):
    monkeypatch.setattr(flushing, "ENDING", SOON)
    (first,) = chain(1)
    exporter = InMemorySpanExporter()
    processor = ConcurrentMultiSpanProcessor(num_threads=1)
    processor.add_span_processor(SimpleSpanProcessor(exporter))
    provider = TracerProvider(shutdown_on_exit=False, active_span_processor=processor)
    with capture_spans(tracer_provider=provider, provider_lookup=True):
        server.script({"id": first, "object": "response"}, path=first, delay=30)
        client.responses.create(model=MODEL, input="x", previous_response_id=first)
        flush = threading.Thread(target=getattr(provider, ends), daemon=True)
        flush.start()
        flush.join(20)
        assert not flush.is_alive()
        if ends == "force_flush":
            until(exporter.get_finished_spans)
            client.chat.completions.create(model=MODEL, messages=[])  # by the same thread
        server.release()


def test_what_is_kept_back_ends_where_no_thread_can_be_started_any_more(client, server, chain, monkeypatch):
    (first,) = chain(1)
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, provider_lookup=True) as spans, ThreadPoolExecutor(1) as pool:
        server.script({"id": first, "object": "response"}, path=first, delay=30)
        client.responses.create(model=MODEL, input="x", previous_response_id=first)
        pool.submit(int).result()  # its thread is there
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", _no_more(threading.Thread.start))
            assert pool.submit(provider.force_flush).result()
        assert len(spans) == 1
        server.release()


def _no_more(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    def started(thread: threading.Thread) -> None:
        if not thread.name.startswith("loopback"):  # the server's, which may just be asked by the look-up's thread
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    return started


class Ending(SpanProcessor):
    """Notes which threads end spans."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.threads.append(threading.get_ident())


def test_a_flush_by_the_main_thread_ends_spans_itself(client, server, chain):
    """It may be a signal's handler, and another thread would wait for the locks of what that interrupted."""
    (first,) = chain(1)
    ending, provider = Ending(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(ending)
    with capture_spans(tracer_provider=provider, provider_lookup=True):
        server.script({"id": first, "object": "response"}, path=first, delay=30)
        client.responses.create(model=MODEL, input="x", previous_response_id=first)
        assert provider.force_flush()
        assert ending.threads == [threading.main_thread().ident]
        server.release()
