"""Collector or Jaeger die, or were never there: the application does not notice, and what is late arrives."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jaeger_traces import calls, tags
from servers import Collector, Jaeger, eventually
from store_kit import free_port
from waiting import until

from otel_llm_sessions.demo.runner import instrument_command

HERE = Path(__file__).parent
WITHOUT_A_BACKEND = 3.0
"""Seconds that no call may take: the model answers at once, a busy machine does not; an exporter is waited for ten."""
OUTAGE = 10.0
LONGEST_END = 30.0
"""Seconds within which a process ends: its exporter gives up after ten, for what waits and for what is sent last."""


class Talk:
    """A process of `talking.py` under opentelemetry-instrument, with what a user has set."""

    def __init__(self, environment: dict[str, str], directory: Path) -> None:
        self._printed, self._said = directory / "printed", directory / "said"
        command = [*instrument_command(), str(HERE / "talking.py")]
        with self._printed.open("wb") as out, self._said.open("wb") as err:
            self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=out, stderr=err)

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """The sessions that it has finished."""
        lines = self._printed.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def said(self) -> str:
        """What it has written to standard error."""
        return self._said.read_text()

    def goes_on(self, number: int = 10) -> None:
        """Wait for so many sessions more."""
        before = len(self.sessions)
        until(lambda: len(self.sessions) >= before + number or not self.is_running, 60)

    def end(self) -> float:
        """Have it end in order; return how many seconds that took."""
        begun = time.monotonic()
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(120) == 0, self.said
        return time.monotonic() - begun

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def talk(environment, tmp_path: Path) -> Iterator[Callable[[str, str], Talk]]:
    """Start an application that talks on, and sends to an address under a service's name."""
    talks: list[Talk] = []

    def started(address: str, service: str) -> Talk:
        settings = {"OTEL_BSP_SCHEDULE_DELAY": "200", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
        talks.append(Talk(environment(address, service, **settings), tmp_path))
        return talks[-1]

    yield started
    for each in talks:
        each.kill()


@pytest.fixture
def own_jaeger(tmp_path: Path) -> Iterator[Jaeger]:
    """A Jaeger that a test may kill."""
    with Jaeger(tmp_path) as server:
        yield server


def slowest(sessions: list[dict[str, Any]]) -> float:
    return max(max(session["seconds"]) for session in sessions)


def in_jaeger(jaeger: Jaeger, service: str) -> set[str]:
    """The responses whose calls are there."""
    return {tags(call)["gen_ai.response.id"] for call in calls(jaeger.find(service))}


def responses(sessions: list[dict[str, Any]]) -> set[str]:
    return {response for session in sessions for response in session["responses"]}


def test_a_collector_that_dies_for_ten_seconds_hurts_no_call_and_what_is_lost_is_said(
    talk, jaeger: Jaeger, second: Jaeger, tmp_path: Path
):
    service = f"collector-died-{time.time_ns()}"
    with Collector(tmp_path, jaeger.grpc, second.grpc) as collector:
        talking = talk(collector.grpc, service)
        talking.goes_on()
        before = responses(talking.sessions)
        eventually(lambda: is_there(jaeger, service, before))
        collector.die()
        time.sleep(OUTAGE)
        assert talking.is_running
        collector.come_back()
        talking.goes_on()
        mark = len(talking.sessions)
        talking.goes_on()
        assert talking.end() < LONGEST_END
        everything = responses(talking.sessions)
        assert slowest(talking.sessions) < WITHOUT_A_BACKEND
        eventually(lambda: is_there(jaeger, service, responses(talking.sessions[mark:])))
        lost = everything - in_jaeger(jaeger, service)
        print(f"lost {len(lost)} of {len(everything)}", talking.said, file=sys.stderr)
        assert not lost or "Failed to export" in talking.said


def is_there(jaeger: Jaeger, service: str, wanted: set[str]) -> None:
    assert wanted <= in_jaeger(jaeger, service)


def test_a_jaeger_that_dies_behind_the_collector_gets_what_was_sent_meanwhile(
    talk, own_jaeger: Jaeger, second: Jaeger, tmp_path: Path
):
    service = f"jaeger-died-{time.time_ns()}"
    with Collector(tmp_path, own_jaeger.grpc, second.grpc) as collector:
        talking = talk(collector.grpc, service)
        talking.goes_on()
        own_jaeger.die()
        mark = len(talking.sessions) + 1  # one may go on just now
        talking.goes_on(50)
        meanwhile = responses(talking.sessions[mark:])
        eventually(lambda: is_there(second, service, meanwhile))
        own_jaeger.come_back()
        assert talking.end() < LONGEST_END
        assert slowest(talking.sessions) < WITHOUT_A_BACKEND
        assert talking.said == ""
        eventually(lambda: is_there(own_jaeger, service, meanwhile))


def test_a_jaeger_that_is_started_after_the_application_gets_all(
    talk, own_jaeger: Jaeger, second: Jaeger, tmp_path: Path
):
    service = f"jaeger-late-{time.time_ns()}"
    own_jaeger.die()
    with Collector(tmp_path, own_jaeger.grpc, second.grpc) as collector:
        talking = talk(collector.grpc, service)
        talking.goes_on()
        assert talking.end() < LONGEST_END
        everything = responses(talking.sessions)
        eventually(lambda: is_there(second, service, everything))
        own_jaeger.come_back()
        assert slowest(talking.sessions) < WITHOUT_A_BACKEND
        assert talking.said == ""
        eventually(lambda: is_there(own_jaeger, service, everything))


def test_an_application_without_a_backend_works_and_ends_when_the_exporter_gives_up(talk):
    talking = talk(f"127.0.0.1:{free_port()}", "nowhere")
    talking.goes_on(50)
    took = talking.end()
    print(f"ended in {took:.1f} s", talking.said, file=sys.stderr)
    assert slowest(talking.sessions) < WITHOUT_A_BACKEND
    assert took < LONGEST_END
    assert "Failed to export" in talking.said
    assert "otel_llm_sessions" not in talking.said
