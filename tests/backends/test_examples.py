"""The examples as a user runs them, with the SDK's own settings: through the real Collector into the real Jaeger."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from jaeger_traces import calls, parents, tags
from servers import ROOT, Collector, Jaeger, eventually
from store_kit import SERVERS, RedisServer, require_program

from otel_llm_sessions.demo.expectations import EXAMPLES, Example
from otel_llm_sessions.demo.runner import instrument_command

LAST = Example("chat_workers.py", 3, ("new", "chain", "chain", "chain"), ("--drive",), in_request=True)
PRINTED = {"two_processes.py": 2}
"""How many lines an example itself prints to stderr."""

SLOW_MACHINE = re.compile("failed to use the session store|it took more than 50 ms")
"""What is rightly said where a machine is too busy for a store to answer in time."""


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path):
    """What an example's description tells to set."""
    example: Example = request.node.callspec.params["example"]
    if example is not LAST:
        yield dict(example.settings)
        return
    redis = RedisServer(tmp_path, program=require_program(SERVERS[0]))
    redis.start()
    yield {"OTEL_LLM_SESSIONS_STORE": redis.url}
    redis.kill()


@pytest.mark.parametrize("example", [*EXAMPLES, LAST], ids=lambda example: example.file)
def test_an_example_is_whole_in_jaeger(
    example: Example, settings, environment, collector: Collector, jaeger: Jaeger, second: Jaeger
):
    service = f"{example.service}-{time.time_ns()}"
    command = [*instrument_command(), str(ROOT / "examples" / example.file), *example.arguments]
    done = subprocess.run(
        command, env=environment(collector.grpc, service, **settings), timeout=300, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    printed = [line for line in done.stderr.splitlines() if not SLOW_MACHINE.search(line)]
    assert len(printed) == PRINTED.get(example.file, 0), done.stderr
    for backend in (jaeger, second):
        eventually(lambda backend=backend: check(backend, service, example))


def check(jaeger: Jaeger, service: str, example: Example) -> None:
    """Fail unless each session is one whole trace, and nothing in any trace is strange."""
    traces = jaeger.find(service)
    sessions = jaeger.find(service, **{"llm_session.root": "true", "llm_session.part": "1"})
    assert len(calls(traces)) == example.sessions * len(example.sources)
    assert len(sessions) == example.sessions
    for session in sessions:
        roots = [span for span in session["spans"] if not parents(span)]
        assert [tags(root)["llm_session.root"] for root in roots] == [True]
        turns = [tags(span)["llm_session.turn"] for span in session["spans"] if span not in roots]
        assert sorted(turns) == list(range(1, len(example.sources) + 1))
        assert {tags(span)["session.id"] for span in session["spans"]} == {tags(roots[0])["session.id"]}
    for trace in traces:
        ids = {span["spanID"] for span in trace["spans"]}
        assert all(parent in ids for span in trace["spans"] for parent in parents(span))
        assert sum(not parents(span) for span in trace["spans"]) == 1
        assert [span["warnings"] for span in trace["spans"] if span["warnings"]] == []
        assert len(ids) == len(trace["spans"])
