"""A session has one root, however many threads, processes and forks make its turns at once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from exported import Exported
from programs import importing
from traces_kit import ask, only, ref
from waiting import run_all

from otel_llm_sessions import session_trace_id

# --- in parallel --------------------------------------------------------------------------------------------


def test_fifty_turns_in_parallel_have_one_root(client, traced):
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda _: ask(client, "X"), range(50)))
    root = only(traced.named("session"))
    assert [(turn.trace_id, turn.parent_id) for turn in traced.named("chat")] == [ref(root)] * 50


def test_first_turns_from_four_threads_at_once_have_one_root(client, traced):
    for number in range(10):
        ready = threading.Barrier(4)

        def first_turn(id_: str = f"X{number}", ready: threading.Barrier = ready) -> None:
            ready.wait(5)
            ask(client, id_)

        workers = [threading.Thread(target=first_turn) for _ in range(4)]
        run_all(workers)
    roots = {root.attributes["session.id"]: ref(root) for root in traced.named("session")}
    assert len(traced.named("session")) == len(roots) == 10
    for turn in traced.named("chat"):
        assert (turn.trace_id, turn.parent_id) == roots[turn.attributes["session.id"]]


WORKER = """
    import os, sys
    from openai import DefaultHttpxClient, OpenAI
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from otel_llm_sessions import OpenAISessionsInstrumentor

    def new_client():
        return OpenAI(api_key="x", max_retries=0, http_client=DefaultHttpxClient(verify=False))

    def begin():
        global provider, client
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        OpenAISessionsInstrumentor().instrument(tracer_provider=provider)
        client = new_client()

    def fork(number, work):
        children = []
        for _ in range(number):
            pid = os.fork()
            if not pid:
                try:
                    work()
                    os._exit(0 if provider.force_flush() else 1)
                finally:
                    os._exit(1)
            children.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * number

    def ask():
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], metadata={"session_id": "X"}
        )
"""


def run(program: str, server: Any, exported: Exported) -> None:
    env = os.environ | {
        "OPENAI_BASE_URL": server.base_url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": exported.receiver.endpoint,
        **importing(),
    }
    source = textwrap.dedent(WORKER) + textwrap.dedent(program)
    subprocess.run([sys.executable, "-c", source], env=env, check=True, timeout=300)


def assert_whole(exported: Exported, roots: int, turns: int) -> None:
    """One trace; no span id twice; every turn below a root that exists."""
    spans = exported.spans
    assert {span.trace_id for span in spans} == {session_trace_id("X")}
    assert len({span.span_id for span in spans}) == len(spans) == roots + turns
    root_ids = {span.span_id for span in spans if span.name == "session"}
    assert len(root_ids) == roots
    assert {span.parent_id for span in spans if span.name != "session"} == root_ids


NEEDS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.slow
@NEEDS_FORK
def test_eight_processes_without_a_shared_store_make_one_trace_with_eight_roots(server, exported):
    program = """
    def work():
        begin()
        for _ in range(3):
            ask()

    fork(8, work)
    """
    run(program, server, exported)
    assert_whole(exported, 8, 24)


@pytest.mark.slow
@NEEDS_FORK
def test_a_fork_stays_below_roots_that_exist(server, exported):
    program = """
    begin()
    ask()

    def work():
        global client
        client = new_client()
        ask()
        ask()

    fork(3, work)
    ask()
    provider.force_flush()
    """
    run(program, server, exported)
    assert_whole(exported, 1, 8)
