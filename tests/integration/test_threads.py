"""A session belongs to a piece of work: jobs take it along, threads and workers do not keep it (docs/sessions.md)."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import multiprocessing
import os
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.pool import Pool, ThreadPool
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach, get_current, set_value
from opentelemetry.instrumentation.utils import is_instrumentation_enabled, suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from session_kit import ask, name_here, sessions_of

from otel_llm_sessions import Session, current_session, session, session_trace_id, threads
from otel_llm_sessions.testing import capture_spans

IN_THREADS = pytest.mark.parametrize("spans", [{"threads": "all"}], indirect=True)
FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def in_a_thread(work: Any) -> None:
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()


def run_executor_submit(pool: ThreadPoolExecutor) -> Any:
    return pool.submit(name_here).result()


def run_executor_map(pool: ThreadPoolExecutor) -> Any:
    return next(iter(pool.map(name_here, [1])))


EXECUTOR_WAYS = (run_executor_submit, run_executor_map)

POOL_WAYS = {
    "apply": lambda pool: pool.apply(name_here),
    "apply_async": lambda pool: pool.apply_async(name_here).get(),
    "map": lambda pool: pool.map(name_here, [1])[0],
    "map_async": lambda pool: pool.map_async(name_here, [1]).get()[0],
    "imap": lambda pool: next(pool.imap(name_here, [1])),
    "imap in chunks": lambda pool: next(pool.imap(name_here, [1, 2, 3], chunksize=2)),
    "imap_unordered": lambda pool: next(pool.imap_unordered(name_here, [1])),
    "starmap": lambda pool: pool.starmap(name_here, [(1, 2)])[0],
    "starmap_async": lambda pool: pool.starmap_async(name_here, [(1, 2)]).get()[0],
    "by keyword": lambda pool: pool.apply_async(func=name_here).get(),
}


# --- jobs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", EXECUTOR_WAYS)
def test_a_job_of_an_executor_belongs_to_the_session_and_its_worker_does_not(spans, way):
    with ThreadPoolExecutor(1) as pool:
        with session("alice"):
            assert way(pool) == "alice"
        assert way(pool) is None
        with session("bob"):
            assert way(pool) == "bob"
        assert pool.submit(lambda: dict(get_current())).result() == {}


@pytest.mark.parametrize("made", ["before", "inside"])
@pytest.mark.parametrize("way", POOL_WAYS.values(), ids=POOL_WAYS)
def test_a_job_of_a_thread_pool_belongs_to_the_session_and_its_workers_do_not(spans, way, made):
    early = ThreadPool(1) if made == "before" else None
    with session("alice"):
        pool = early or ThreadPool(1)
        first = way(pool)
    with pool:
        outside = way(pool)
        with session("bob"):
            second = way(pool)
        left = pool.apply(lambda: dict(get_current()))
    assert (first, outside, second, left) == ("alice", None, "bob", {})


@pytest.mark.parametrize("way", POOL_WAYS.values(), ids=POOL_WAYS)
def test_a_class_between_thread_pool_and_pool_is_passed_and_so_is_who_patches_pool_meanwhile(spans, monkeypatch, way):
    met: list[str] = []

    def counted(method: Any) -> Any:
        return lambda *args, **kwargs: (met.append(method.__name__), method(*args, **kwargs))[1]

    between = type("Between", (Pool,), {name: counted(getattr(Pool, name)) for name in threads.POOL_METHODS})
    with type("Mine", (ThreadPool, between), {})(1) as pool:
        way(pool)
        bare, met = met, []
        with session("alice"):
            assert way(pool) == "alice"
    assert met == bare
    with session("alice"), ThreadPool(1) as pool:
        for name in threads.POOL_METHODS:
            monkeypatch.setattr(Pool, name, counted(getattr(Pool, name)))
        met = []
        assert way(pool) == "alice"
    assert met == bare


def test_the_own_chain_of_a_later_job_is_not_the_session_that_started_the_worker(client, spans):
    with ThreadPool(1) as pool:
        with session("alice"):
            pool.apply(ask, (client,))
        first = pool.apply(lambda: client.responses.create(model="m", input="x"))
        pool.apply(lambda: client.responses.create(model="m", input="x", previous_response_id=first.id))
    assert sessions_of(spans) == ["alice", first.id, first.id]


def test_a_job_that_fails_leaves_nothing_in_its_worker(spans):
    with ThreadPool(1) as pool:
        with session("alice"), pytest.raises(ZeroDivisionError):
            pool.apply(lambda: 1 / 0)
        assert pool.apply(lambda: dict(get_current())) == {}


def test_a_job_takes_the_session_along_and_nothing_else(spans):
    seen: list[Any] = []

    def look() -> None:
        seen.append((get_current().get("theirs"), dict(baggage.get_all()), is_instrumentation_enabled(), name_here()))

    with ThreadPoolExecutor(1) as pool, session("mine"):
        token = attach(baggage.set_baggage("tenant", "t", set_value("theirs", 1)))
        with suppress_instrumentation():
            pool.submit(look).result()
        with session("mine", propagate=True):
            pool.submit(look).result()
        detach(token)
    assert seen == [(None, {}, True, "mine"), (None, {"session.id": "mine"}, True, "mine")]


def test_the_spans_of_a_job_stand_below_the_session_and_not_below_the_span_that_gave_it():
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("the application's")
    with capture_spans(tracer_provider=provider) as spans, ThreadPoolExecutor(1) as pool:
        with session("mine"), tracer.start_as_current_span("around"):
            pool.submit(lambda: tracer.start_span("inside").end()).result()
        with tracer.start_as_current_span("request"), session("other"):
            pool.submit(lambda: tracer.start_span("below nothing").end()).result()
    by_name = {span.name: span for span in spans}
    assert by_name["inside"].parent.span_id == by_name["session"].context.span_id
    assert f"{by_name['inside'].context.trace_id:032x}" == session_trace_id("mine")
    assert by_name["inside"].attributes["session.id"] == "mine"
    assert by_name["below nothing"].parent is None
    assert by_name["below nothing"].attributes["session.id"] == "other"


def test_a_job_of_an_inner_session_does_not_stand_in_the_outer_ones_trace():
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("the application's")
    with capture_spans(tracer_provider=provider) as spans, ThreadPoolExecutor(1) as pool, session("outer"):
        with tracer.start_as_current_span("tool"), session("inner"):
            pool.submit(lambda: tracer.start_span("job").end()).result()
    (job,) = [span for span in spans if span.name == "job"]
    assert (job.parent, job.attributes["session.id"]) == (None, "inner")


def test_a_context_that_another_instrumentation_carried_into_a_job_stays(spans):
    def theirs(function: Any) -> Any:
        context = get_current()

        def run() -> Any:
            token = attach(context)
            try:
                return function()
            finally:
                detach(token)

        return run

    with ThreadPoolExecutor(1) as pool, session("mine"):
        token = attach(set_value("theirs", 1))
        seen = pool.submit(theirs(lambda: (get_current().get("theirs"), name_here()))).result()
        detach(token)
    assert seen == (1, "mine")


async def test_what_a_loop_runs_in_its_executor_keeps_what_asyncio_carries(spans):
    async with session("mine"):
        assert await asyncio.to_thread(name_here) == "mine"
        assert await asyncio.get_running_loop().run_in_executor(None, name_here) == "mine"
    assert await asyncio.to_thread(name_here) is None


@pytest.mark.parametrize("spans", [{"threads": mode} for mode in ("jobs", "all", "none")], indirect=True)
async def test_jobs_get_the_arguments_and_give_the_results_that_they_would_without_us(spans):
    def echo(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    expected = ((1, 2), {"three": 3})
    with ThreadPoolExecutor(1) as executor, ThreadPool(1) as pool, session("mine"):
        assert await asyncio.to_thread(echo, 1, 2, three=3) == expected
        assert executor.submit(echo, 1, 2, three=3).result() == expected
        run = functools.partial(contextvars.copy_context().run, echo, 1)
        assert executor.submit(run, 2, three=3).result() == expected
        assert executor.submit(contextvars.copy_context().run, echo, 1, 2, three=3).result() == expected
        assert pool.apply(echo, (1, 2), {"three": 3}) == expected
        assert pool.starmap(echo, [(1, 2), (3, 4)]) == [((1, 2), {}), ((3, 4), {})]
        assert list(executor.map(echo, [1, 3], [2, 4])) == [((1, 2), {}), ((3, 4), {})]
        for call in (executor.submit, pool.apply):
            with pytest.raises(TypeError):
                call()


# --- threads ------------------------------------------------------------------------------------------------


def test_a_thread_started_inside_is_outside_unless_a_setting_says_otherwise(client, spans):
    with session("mine"):
        in_a_thread(lambda: ask(client))
    assert sessions_of(spans) == [None]


@pytest.mark.parametrize(
    "spans", [{"threads": "all", "traces": "session"}, {"threads": "all", "traces": "turn"}], indirect=True
)
def test_with_all_threads_started_inside_belong_to_the_session(client, spans):
    with session("mine"):
        in_a_thread(lambda: ask(client))
    in_a_thread(lambda: ask(client))
    assert sessions_of(spans) == ["mine", None]


@IN_THREADS
def test_with_all_a_subclass_of_thread_belongs_to_the_session_too(client, spans):
    class Worker(threading.Thread):
        def run(self) -> None:
            ask(client)

    with session("mine"):
        worker = Worker()
        worker.start()
        worker.join()
        timer = threading.Timer(0, ask, [client])
        timer.start()
        timer.join()
    assert sessions_of(spans) == ["mine", "mine"]
    assert "run" not in worker.__dict__


@IN_THREADS
def test_with_all_the_workers_of_pools_keep_nothing(spans):
    with session("alice"):
        executor, pool = ThreadPoolExecutor(1), ThreadPool(1)
        assert (executor.submit(name_here).result(), pool.apply(name_here)) == ("alice", "alice")
    with executor, pool:
        assert executor.submit(lambda: dict(get_current())).result() == {}
        assert pool.apply(lambda: dict(get_current())) == {}


@IN_THREADS
def test_with_all_the_thread_of_an_exporter_keeps_nothing(spans):
    class Exporter(InMemorySpanExporter):
        def export(self, batch: Any) -> Any:
            seen.append((threading.current_thread() is not here, name_here()))
            exported.set()
            return super().export(batch)

    here, exported = threading.current_thread(), threading.Event()
    seen: list[Any] = []
    provider = TracerProvider(shutdown_on_exit=False)
    with session("alice"):
        provider.add_span_processor(BatchSpanProcessor(Exporter(), schedule_delay_millis=1, max_export_batch_size=1))
        provider.get_tracer("x").start_span("x").end()
    assert exported.wait(30)
    provider.shutdown()
    assert seen == [(True, None)]


@pytest.mark.parametrize("spans", [{"threads": "none"}], indirect=True)
def test_with_none_nothing_is_carried(client, spans):
    with session("mine"), ThreadPoolExecutor(1) as executor, ThreadPool(1) as pool:
        executor.submit(ask, client).result()
        pool.apply(ask, (client,))
        in_a_thread(lambda: ask(client))
    assert sessions_of(spans) == [None, None, None]


@pytest.fixture
def contexts_carried(monkeypatch):
    """OpenTelemetry's instrumentation of threads, as its version 0.66b1 does it: a thread keeps its starter's context.

    (It wants an ``opentelemetry-instrumentation`` of exactly its own version, which may not be the newest.)
    """
    start, run = threading.Thread.start, threading.Thread.run

    def start_with_context(self):
        self._otel_context = get_current()
        return start(self)

    def run_in_context(self):
        token = attach(self._otel_context)
        try:
            return run(self)
        finally:
            detach(token)

    monkeypatch.setattr(threading.Thread, "start", start_with_context)
    monkeypatch.setattr(threading.Thread, "run", run_in_context)
    monkeypatch.setitem(sys.modules, threads.CONTEXT_CARRIER, sys)


@pytest.mark.parametrize("mode", ["jobs", "all", "none"])
def test_no_pool_keeps_a_session_where_another_instrumentation_carries_contexts(contexts_carried, mode):
    with capture_spans(threads=mode):
        token = attach(set_value("theirs", 1))
        with session("alice"):
            pool, executor = ThreadPool(1), ThreadPoolExecutor(1)
            pool.apply(name_here)
            executor.submit(name_here).result()
        detach(token)
        with pool, executor:
            assert pool.apply(lambda: (name_here(), get_current().get("theirs"))) == (None, 1)
            assert executor.submit(lambda: (name_here(), get_current().get("theirs"))).result() == (None, 1)
            with session("bob"):
                assert pool.apply(name_here) == (None if mode == "none" else "bob")


# --- forked workers -----------------------------------------------------------------------------------------


def tell(queue: Any) -> None:
    queue.put((name_here(), trace.get_current_span().get_span_context().is_valid, dict(baggage.get_all())))


@FORK
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of forks beside threads
def test_a_forked_worker_starts_without_a_session(spans):
    fork = multiprocessing.get_context("fork")
    queue = fork.SimpleQueue()
    with session("outer"), session("alice", propagate=True):
        with ProcessPoolExecutor(1, mp_context=fork) as executor:
            assert executor.submit(name_here).result() is None
        with fork.Pool(1) as pool:
            assert pool.apply(name_here) is None
        process = fork.Process(target=tell, args=(queue,))
        process.start()
        process.join()
        assert queue.get() == (None, False, {})
        assert current_session() == Session("alice")


@FORK
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_that_leaves_the_block_is_not_inside_the_outer_one(spans):
    read, write = os.pipe()
    with session("outer"):
        with session("alice"):
            child = os.fork()
            inside = name_here()
        if child == 0:
            os.write(write, repr((inside, name_here())).encode())
            os._exit(0)
        assert inside == "alice"
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"(None, None)"
    os.close(read)
    os.close(write)


@FORK
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_of_a_generator_starts_without_its_session():
    def fork():
        with session("alice"):
            yield os.fork(), name_here()

    read, write = os.pipe()
    for child, inside in fork():
        if child == 0:
            os.write(write, repr(inside).encode())
            os._exit(0)
        assert inside == "alice"
        os.waitpid(child, 0)
    assert os.read(read, 100) == b"None"
    os.close(read)
    os.close(write)


# --- what is patched ----------------------------------------------------------------------------------------


def patched() -> tuple[Any, ...]:
    pool_methods = tuple(ThreadPool.__dict__.get(name) for name in threads.POOL_METHODS)
    return (threading.Thread.__dict__["start"], ThreadPoolExecutor.__dict__["submit"], *pool_methods)


def test_threads_and_pools_are_as_they_were_after_uninstrumenting():
    before = patched()
    with capture_spans(threads="all"):
        assert patched() == before, "nothing is patched before the first session"
        with session("mine"):
            assert not any(now is then for now, then in zip(patched(), before))
    assert patched() == before


def test_a_patch_that_somebody_put_on_top_is_not_taken_off_and_carries_nothing_any_more(monkeypatch):
    original = ThreadPoolExecutor.__dict__["submit"]
    with capture_spans(), session("mine"):
        ours = ThreadPoolExecutor.submit
        monkeypatch.setattr(ThreadPoolExecutor, "submit", theirs := lambda self, *args: ours(self, *args))
    assert ThreadPoolExecutor.__dict__["submit"] is theirs
    with ThreadPoolExecutor(1) as pool, session("mine"):
        assert pool.submit(name_here).result() is None
    monkeypatch.undo()
    ThreadPoolExecutor.submit = original
