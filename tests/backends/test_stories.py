"""Conversations of every kind, by processes of their own: through the real Collector into the real Jaeger, whole."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from jaeger_traces import Span, Trace, parents, tags
from servers import ROOT, Collector, Jaeger, eventually, until
from stopping import stopped
from store_kit import free_port
from stories import TURNS

from otel_llm_sessions.demo.runner import instrument_command
from otel_llm_sessions.stores.opening import open_store

HERE = Path(__file__).parent
TRACES_ONLY = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
PARTS = 3
ALONE = [story for story in TURNS if story not in ("parts", "begun")]


@pytest.fixture
def told(environment, collector: Collector, tmp_path: Path) -> Callable[..., tuple[str, dict[str, str], str]]:
    """Tell a story in a process; return its service, its environment, and what it printed."""
    url = f"sqlite:///{tmp_path / 'sessions.db'}"
    made = open_store(url)
    made.get_all(["any"])  # to make the file may take a busy disk longer than the 50 ms that a call waits
    made.close()

    def tell(story: str, **settings: str) -> tuple[str, dict[str, str], str]:
        service = f"{story}-{time.time_ns()}"
        around = environment(collector.grpc, service, **TRACES_ONLY, OTEL_LLM_SESSIONS_STORE=url, **settings)
        command = [*instrument_command(), str(HERE / "stories.py"), story]
        done = subprocess.run(command, env=around, timeout=300, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return service, around, done.stdout.strip()

    return tell


@pytest.mark.parametrize("story", ALONE)
def test_a_conversation_is_one_whole_trace(story: str, told, jaeger: Jaeger):
    service, _, _ = told(story)

    def check() -> None:
        (session,) = roots_in(jaeger, service, part="1")
        assert len(only_whole_traces(jaeger, service)) == 1
        assert in_order(session) == list(range(1, TURNS[story] + 1))
        failed = [tags(turn).get("error", False) for turn in turns_of(session)]
        assert failed == [story == "failed" and number == 2 for number in in_order(session)]

    eventually(check)


def test_a_session_of_three_parts_is_one_row_and_a_trace_for_each_part(told, jaeger: Jaeger):
    service, _, _ = told("parts", OTEL_LLM_SESSIONS_MAX_TURNS=str(TURNS["parts"] // PARTS))

    def check() -> None:
        assert len(only_whole_traces(jaeger, service)) == PARTS
        parts = {tags(root_of(trace))["llm_session.part"]: trace for trace in roots_in(jaeger, service)}
        assert [in_order(parts[part]) for part in (1, 2, 3)] == [[1, 2], [3, 4], [5, 6]]
        for part in (2, 3):
            assert root_of(parts[part - 1])["spanID"] in linked(root_of(parts[part]))
        assert len(roots_in(jaeger, service, part="1")) == 1
        assert {tags(span)["session.id"] for trace in parts.values() for span in trace["spans"]} == {"the parts one"}

    eventually(check)


def test_a_chain_that_a_script_begins_goes_on_in_a_web_service(told, jaeger: Jaeger, tmp_path: Path):
    service, environment, first = told("begun")
    port = free_port()
    command = ["uvicorn", "chat_workers:app", "--app-dir", str(ROOT / "examples"), "--port", str(port)]
    with stopped(command, environment, tmp_path):
        last = first
        for _ in range(2):
            last = until(lambda last=last: visited(port, last))

    def check() -> None:
        traces = only_whole_traces(jaeger, service)
        (session,) = roots_in(jaeger, service, part="1")
        assert {tags(span)["session.id"] for span in session["spans"]} == {first}
        requests = [trace for trace in traces if trace["traceID"] != session["traceID"]]
        calls = [span for trace in requests for span in trace["spans"] if "llm_session.turn" in tags(span)]
        markers = [turn for turn in turns_of(session) if turn["operationName"] == "turn"]
        assert len(requests) == len(calls) == len(markers) == 2
        assert in_order(session, calls) == [1, 2, 3]

    eventually(check)


def visited(port: int, last: str) -> str:
    """Send a message as a visitor with that last response; return the id of the next one, if there is an answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/chat",
        json.dumps({"message": "Hello"}).encode(),
        {"Content-Type": "application/json", "Cookie": f"last={last}"},
    )
    with contextlib.suppress(ConnectionError, urllib.error.URLError):
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    return ""


def only_whole_traces(jaeger: Jaeger, service: str) -> list[Trace]:
    """All traces of a service; each complete, begun by a session's root or a web request, and nothing strange in it."""
    traces = jaeger.find(service)
    assert traces
    for trace in traces:
        ids = {span["spanID"] for span in trace["spans"]}
        assert len(ids) == len(trace["spans"])
        assert all(parent in ids for span in trace["spans"] for parent in parents(span))
        first = root_of(trace)
        assert tags(first).get("llm_session.root") or tags(first)["span.kind"] == "server"
        assert [span["warnings"] for span in trace["spans"] if span["warnings"]] == []
    return traces


def roots_in(jaeger: Jaeger, service: str, part: str | None = None) -> list[Trace]:
    """What Tags list: the sessions' traces, or only those with one part of them."""
    return jaeger.find(service, **{"llm_session.root": "true", **({"llm_session.part": part} if part else {})})


def root_of(trace: Trace) -> Span:
    (root,) = [span for span in trace["spans"] if not parents(span)]
    return root


def turns_of(trace: Trace) -> list[Span]:
    """A session's turns, calls and markers, as they began."""
    root = root_of(trace)
    found = [span for span in trace["spans"] if span is not root]
    assert {parent for turn in found for parent in parents(turn)} == {root["spanID"]}
    return sorted(found, key=lambda span: span["startTime"])


def in_order(trace: Trace, elsewhere: Sequence[Span] = ()) -> list[Any]:
    """The numbers of a session's turns, in the order in which they began; each links to the one before in its trace.

    A marker links to its call, which is among those elsewhere, and has that link.
    """
    turns = turns_of(trace)
    calls = {call["spanID"]: call for call in elsewhere}
    real = [next((calls[id_] for id_ in linked(turn) if id_ in calls), turn) for turn in turns]
    for before, turn in pairwise(real):
        assert before["spanID"] in linked(turn)
    return [tags(turn)["llm_session.turn"] for turn in turns]


def linked(span: Span) -> set[str]:
    """The ids of the spans that a span links to."""
    return {each["spanID"] for each in span["references"] if each["refType"] != "CHILD_OF"}
