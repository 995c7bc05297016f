"""How many spans a minute the viewer holds, what of them it loses, and how fast its page's questions are answered.

python -m benchmarks.viewer [--seconds N] [--spans-a-minute N] [--sessions N] [--file PATH]

A real viewer in a process of its own, with a database of so many sessions of ten turns; an exporter's requests over
HTTP and gRPC by turns; meanwhile lists and sessions are asked for. Exit 1 if a span is lost, memory grows without
bound, or half of the answers take longer than they may.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_llm_sessions.view.database import Database

SPANS = 512  # what an SDK's batch has
TURNS = 10
LONG = "long"  # a session of 500 turns
LIST_MS, SESSION_MS = 100, 300
MODELS = ("gpt-5", "gpt-5-mini", "gpt-4.1")
WORDS = ("where", "order", "friday", "number", "please", "refund", "another", "jacket", "blue", "is", "the", "my", "it")
LISTS = (
    {},
    {"sort": "tokens"},
    {"sort": "cost", "errors": "true"},
    {"sort": "duration", "user": "u-77"},
    {"service": "no-such-service"},
    {"name": "Order 123", "sort": "turns"},
    {"text": "jacket"},
    {"text": "no-such-word"},
    {"model": "gpt-4", "min_turns": "5"},
)


class Load:
    """Makes export requests: turns of sessions that go on side by side, as one process's exporter sends them."""

    def __init__(self, prefix: str, at_once: int = 100, begun: float | None = None) -> None:
        self._random = random.Random(prefix)
        self._prefix = prefix
        self._names = 0
        self._clock = int((time.time() if begun is None else begun) * 1e9)
        self._open = [self._session() for _ in range(at_once)]

    def request(self, spans: int = SPANS) -> ExportTraceServiceRequest:
        request = ExportTraceServiceRequest()
        group = request.resource_spans.add()
        put(group.resource.attributes, "service.name", "shop")
        scoped = group.scope_spans.add()
        for _ in range(spans):
            self._turn(scoped.spans.add())
        return request

    def _session(self) -> list[object]:
        self._names += 1
        return [f"{self._prefix}-{self._names}", self._random.randbytes(16), 0]

    def _turn(self, span: Span) -> None:
        place = self._random.randrange(len(self._open))
        name, trace, turn = self._open[place]
        turn += 1
        self._open[place] = [name, trace, turn] if turn < TURNS else self._session()
        self._clock += 1_000_000
        span.trace_id, span.span_id, span.name, span.kind = trace, self._random.randbytes(8), "chat gpt-5", 3
        span.start_time_unix_nano, span.end_time_unix_nano = self._clock, self._clock + 900_000_000
        span.status.code = 2 if self._random.random() < 0.01 else 0
        describe(span, name, turn, self._random)


def describe(span: Span, session: str, turn: int, generator: random.Random) -> None:
    number = session.rpartition("-")[2]
    said = " ".join(generator.choices(WORDS, k=12))
    for key, value in {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.model": generator.choice(MODELS),
        "gen_ai.response.id": f"resp_{session}_{turn}",
        "gen_ai.usage.input_tokens": 100 * turn,
        "gen_ai.usage.output_tokens": generator.randrange(400),
        "gen_ai.usage.cost.amount": 0.001 * turn,
        "gen_ai.usage.cost.currency": "USD",
        "gen_ai.input.messages": f'[{{"role":"user","parts":[{{"type":"text","content":"{said}"}}]}}]',
        "session.id": session,
        "user.id": f"u-{hash(number) % 500 if not number.isdigit() else int(number) % 500}",
        "llm_session.name": f"Order {number}",
        "llm_session.source": "explicit",
        "llm_session.turn": turn,
        "server.address": "api.openai.com",
        "server.port": 443,
    }.items():
        put(span.attributes, key, value)


def put(attributes: object, key: str, value: object) -> None:
    pair = attributes.add(key=key)
    kind = {str: "string_value", int: "int_value", float: "double_value"}[type(value)]
    setattr(pair.value, kind, value)


def make_database(path: Path, sessions: int) -> None:
    """A database of so many sessions, and one of 500 turns, which ended within the last days."""
    database = Database(path)
    load = Load("old", begun=time.time() - 3 * 86_400)
    for made in range(0, sessions * TURNS, 20 * SPANS):
        database.keep(
            [
                load.request(min(SPANS, sessions * TURNS - at))
                for at in range(made, min(made + 20 * SPANS, sessions * TURNS), SPANS)
            ]
        )
        database.settle()
    long = load.request(500)
    for turn, span in enumerate(long.resource_spans[0].scope_spans[0].spans, 1):
        span.trace_id = b"long" * 4
        del span.attributes[:]
        describe(span, LONG, turn, random.Random(turn))
    database.keep([long])
    database.settle()
    database.close()


@contextlib.contextmanager
def viewer(path: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A viewer on free ports: its process, its address, its gRPC target."""
    flags = ["--http-port", "0", "--grpc-port", "0", "--no-open", "--max-size", "100GB"]
    command = [sys.executable, "-m", "otel_llm_sessions.cli", "view", *flags, "--db", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        page, otlp = process.stdout.readline(), process.stdout.readline()
        yield process, page.split()[1].rstrip("/"), otlp.split()[2].rstrip(",")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        process.stdout.close()


@dataclass
class Measured:
    """What came of it."""

    seconds: float = 0.0
    sent: int = 0
    kept: int = 0
    refused: int = 0
    late: float = 0.0
    """Seconds that the sender was behind at the end."""
    computed: float = 0.0
    """CPU seconds of the viewer's: what a busy machine does not change much."""
    memory: list[int] = field(default_factory=list)
    """Megabytes, once a second."""
    answers: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Milliseconds, by what was asked."""
    file: int = 0

    @property
    def a_minute(self) -> float:
        return 60 * self.sent / self.seconds

    @property
    def grows(self) -> bool:
        """Whether the last tenth took much more memory than the second one."""
        tenth = max(1, len(self.memory) // 10)
        return statistics.mean(self.memory[-tenth:]) > 1.25 * statistics.mean(self.memory[tenth : 2 * tenth]) + 50

    def faults(self, patience: float = 1.0) -> list[str]:
        """What is not as it should be; answers may take ``patience`` times as long as they should."""
        found = [f"{self.sent - self.kept:,} spans were lost"] * (self.sent != self.kept)
        found += [f"memory grows: {self.memory}"] * self.grows
        for asked, times in self.answers.items():
            most = (SESSION_MS if asked.startswith("session") else LIST_MS) * patience
            if statistics.median(times) > most:
                found.append(f"{asked}: {statistics.median(times):.0f} ms, more than {most:.0f}")
        return found


def measure(path: Path, seconds: float, spans_a_minute: int) -> Measured:
    """Send to a viewer over a database, and ask it meanwhile."""
    measured, before = Measured(), count(path)
    with viewer(path) as (process, url, target):
        over = threading.Event()
        asking = threading.Thread(target=ask, args=(url, process.pid, measured, over))
        asking.start()
        send(url, target, seconds, spans_a_minute, measured)
        over.set()
        asking.join()
        measured.computed = cpu_seconds(process.pid)
    measured.kept, measured.file = count(path) - before, path.stat().st_size
    return measured


def send(url: str, target: str, seconds: float, spans_a_minute: int, measured: Measured) -> None:
    load, pause = Load(f"new{time.time_ns()}", 1000), 60 * SPANS / spans_a_minute
    begun = due = time.monotonic()
    with httpx.Client(timeout=60) as client, grpc.insecure_channel(target) as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        while due < begun + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            body = load.request().SerializeToString()
            is_grpc = (measured.sent // SPANS) % 2
            while not (over_grpc(export, body) if is_grpc else over_http(client, url, body)):
                measured.refused += 1
                time.sleep(1.0)
            measured.sent += SPANS
            due += pause
    measured.seconds = time.monotonic() - begun
    measured.late = time.monotonic() - due


def over_http(client: httpx.Client, url: str, body: bytes) -> bool:
    answer = client.post(f"{url}/v1/traces", content=body, headers={"Content-Type": "application/x-protobuf"})
    assert answer.status_code in (200, 429), answer.text
    return answer.status_code == 200


def over_grpc(export: grpc.UnaryUnaryMultiCallable, body: bytes) -> bool:
    try:
        export(body, timeout=60)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return False
    return True


def ask(url: str, pid: int, measured: Measured, over: threading.Event) -> None:
    questions = {f"list {' '.join(f'{k}={v}' for k, v in asked.items()) or 'newest'}": asked for asked in LISTS}
    with httpx.Client(base_url=url, timeout=60) as client:
        while not over.wait(0.5):
            measured.memory.append(resident(pid))
            for name, asked in questions.items():
                timed(client, "/api/sessions", asked, measured.answers[name])
            timed(client, f"/api/sessions/{LONG}", {}, measured.answers["session of 500 turns"])
            timed(client, "/", {}, measured.answers["page"])


def timed(client: httpx.Client, path: str, asked: dict[str, str], times: list[float]) -> None:
    begun = time.perf_counter()
    answer = client.get(path, params=asked)
    times.append((time.perf_counter() - begun) * 1000)
    assert answer.status_code == 200, answer.text


def resident(pid: int) -> int:
    """Megabytes that a process has in memory, pages of files aside."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) // 1024
    return 0


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def count(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM span").fetchone()[0])


def report(measured: Measured) -> str:
    sent = f"{measured.sent:,} spans in {measured.seconds:.0f} s: {measured.a_minute:,.0f} a minute"
    ended = f"{measured.refused} requests told to come again, {measured.late:.1f} s late at the end"
    memory = f"{min(measured.memory)} to {max(measured.memory)} MB of memory, a file of {measured.file / 1e6:,.0f} MB"
    used = f"the viewer: {measured.computed:.0f} s of computing, {memory}"
    lines = [f"{sent}, {measured.kept:,} kept, {ended}", used]
    for asked, times in measured.answers.items():
        ordered = sorted(times)
        most = ordered[int(0.9 * (len(ordered) - 1))]
        lines.append(f"{statistics.median(ordered):7.1f} ms median {most:7.1f} ms of 90 %   {asked}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.viewer", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--spans-a-minute", type=int, default=200_000)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--file", type=Path, help="keep the database here, and use it again")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = said.file or Path(folder) / "viewer.db"
        if not path.exists():
            begun = time.monotonic()
            make_database(path, said.sessions)
            print(f"{said.sessions:,} sessions of {TURNS} turns made in {time.monotonic() - begun:.0f} s", flush=True)
        measured = measure(path, said.seconds, said.spans_a_minute)
    print(report(measured))
    faults = measured.faults()
    print(*faults, sep="\n", end="\n" * bool(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
