"""An application that forks while it works, as gunicorn's pre-fork and multiprocessing do, children with many threads.

Usage: fork_process.py STORE BASE_URL WAY DIRECTORY, with WAY one of fork, multiprocessing. The parent begins some
chains, so that its store is connected; then it and its children go on with them, all at once. Every process writes its
spans as JSON lines to a file of its own in DIRECTORY.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app_process import store_of
from openai import DefaultHttpxClient, OpenAI
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from providers_kit import provider_to

from otel_llm_sessions import OpenAISessionsInstrumentor

CHILDREN, THREADS, CHAINS = 3, 32, 4
EACH = 3 * THREADS
"""Calls of each process."""
SECONDS = 60
"""After which a process that hangs ends."""

exporter = InMemorySpanExporter()


def client(base_url: str) -> OpenAI:
    return OpenAI(base_url=base_url, api_key="test", max_retries=0, http_client=DefaultHttpxClient(verify=False))


def ask(made: OpenAI, **arguments: object) -> str:
    return made.responses.create(model="gpt-4o-mini", input="x", **arguments).id  # type: ignore[call-overload]


def work(base_url: str, firsts: list[str]) -> None:
    """Go on with every chain twice from each thread, and with a session that the application names."""
    signal.alarm(SECONDS)
    with client(base_url) as made, ThreadPoolExecutor(THREADS) as pool:

        def turns(number: int) -> None:
            second = ask(made, previous_response_id=firsts[number % CHAINS])
            ask(made, previous_response_id=second)
            ask(made, metadata={"session_id": "named"})

        list(pool.map(turns, range(THREADS)))


def write_spans(directory: str, calls: int) -> None:
    """Write the spans, once those of all calls are there: of a late answer they wait for it."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if sum(span.kind is SpanKind.CLIENT for span in exporter.get_finished_spans()) == calls:
            break
        time.sleep(0.01)
    lines = [span.to_json(indent=None) + "\n" for span in exporter.get_finished_spans()]
    Path(directory, str(os.getpid())).write_text("".join(lines))


def child(base_url: str, firsts: list[str], directory: str) -> None:
    exporter.clear()
    work(base_url, firsts)
    write_spans(directory, EACH)


def fork(base_url: str, firsts: list[str], directory: str) -> int:
    """Fork as gunicorn does; return the child's process id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            child(base_url, firsts, directory)
            code = 0
        finally:
            os._exit(code)
    return pid


def main(store: str, base_url: str, way: str, directory: str) -> int:
    warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which is what this is about
    provider = provider_to(exporter)
    OpenAISessionsInstrumentor().instrument(tracer_provider=provider, store=store_of(store, 5.0))
    with client(base_url) as made:
        firsts = [ask(made) for _ in range(CHAINS)]
    if way == "fork":
        pids = [fork(base_url, firsts, directory) for _ in range(CHILDREN)]
        work(base_url, firsts)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    else:
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=child, args=(base_url, firsts, directory)) for _ in range(CHILDREN)]
        for process in processes:
            process.start()
        work(base_url, firsts)
        for process in processes:
            process.join()
        codes = [process.exitcode or 0 for process in processes]
    write_spans(directory, CHAINS + EACH)
    return max(map(abs, codes))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
