"""Runs a section of docs/existing-pipelines.md: its files and commands, in its environment; judges what arrived."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from loopback import LoopbackServer
from otlp_receiver import OtlpReceiver
from pipelines.environments import PINNED
from pipelines.page import Section, sections
from process_group import ProcessGroup
from store_kit import RedisServer, free_port
from waiting import until

from otel_llm_sessions.view.spans import ReceivedSpan

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
SENDS_NOTHING = {"OTEL_BSP_SCHEDULE_DELAY": "600000", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2048"}
"""With these the SDK sends nothing by itself while a test runs."""
STOPS_WITHIN = 30.0
"""Seconds that servers give their workers to end in."""
GOES_ON_FOR = 240.0
"""Seconds after which a server that was forgotten is ended."""
OURS = "otel_llm_sessions"


class Receiver(OtlpReceiver):
    """Takes traces over HTTP and over gRPC."""

    def __init__(self) -> None:
        super().__init__()
        self.over_grpc: list[ReceivedSpan] = []
        self._grpc = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        answer = grpc.unary_unary_rpc_method_handler(self._take)
        service, method = EXPORT[1:].split("/")
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: answer}),))
        self.grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")

    @property
    def over_http(self) -> list[ReceivedSpan]:
        """What did not come over gRPC."""
        came = {id(span) for span in self.over_grpc}
        return [span for span in self.spans if id(span) not in came]

    @property
    def http_port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    def start(self) -> Receiver:
        self._grpc.start()
        super().start()
        return self

    def close(self) -> None:
        self._grpc.stop(None).wait()
        super().close()

    def _take(self, message: bytes, _: object) -> bytes:
        self.over_grpc += self.take("/v1/traces", message)
        return b""


@dataclass
class Pipeline:
    """What a pipeline of the page needs around it: a provider of models, a receiver of spans, a store."""

    name: str
    section: Section
    directory: Path
    server: LoopbackServer
    receiver: Receiver
    redis: RedisServer
    port: int = field(default_factory=free_port)

    def settings(self, protocol: str = "http/protobuf", **more: str) -> dict[str, str]:
        """The environment variables of its processes."""
        port = self.receiver.grpc_port if protocol == "grpc" else self.receiver.http_port
        programs = str(PINNED.environment(self.name).directory / "bin")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OPENAI_"))}
        return {
            **inherited,
            "PATH": os.pathsep.join((programs, os.environ["PATH"])),
            "OPENAI_API_KEY": "sk-loopback",
            "OPENAI_BASE_URL": self.server.base_url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_INSECURE": "true",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_LLM_SESSIONS_STORE": self.redis.url,
            "PYTHONUNBUFFERED": "1",
            "HOME": str(self.directory),  # gunicorn has a socket there
            **self.section.variables,
            **more,
        }

    def write(self, **files: str) -> None:
        """Write the section's files, with this receiver's addresses for those of the page."""
        for name, text in {**self.section.files, **files}.items():
            text = text.replace("localhost:4317", f"127.0.0.1:{self.receiver.grpc_port}")
            text = text.replace("localhost:4318", f"127.0.0.1:{self.receiver.http_port}")
            (self.directory / name).write_text(text)

    def write_without_flush(self, name: str) -> None:
        """Write the section's files, but have one not flush."""
        text, flush = self.section.files[name], "provider.force_flush()"
        assert flush in text
        self.write(**{name: text.replace(flush, "pass")})

    def run(self, command: list[str], settings: dict[str, str], seconds: float = 120) -> subprocess.CompletedProcess:
        """Run a command to its end."""
        return subprocess.run(
            [self.program(command[0]), *command[1:]],
            cwd=self.directory,
            env=settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def start(self, command: list[str], settings: dict[str, str], log: str = "log") -> ProcessGroup:
        """Start a command that goes on until it is stopped."""
        return ProcessGroup(
            [self.program(command[0]), *command[1:]],
            settings,
            self.directory / log,
            directory=self.directory,
            seconds=GOES_ON_FOR,
        )

    def program(self, name: str) -> str:
        """The program of a name in the pipeline's environment."""
        return str(PINNED.environment(self.name).directory / "bin" / name)

    # --- a web server's visitors ------------------------------------------------------------------------------------

    def ask(self, text: str, after: str | None = None, path: str = "ask") -> dict[str, Any]:
        """One visitor's request."""
        body = {"text": text, **({"after": after} if after else {})}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)

    def is_up(self) -> bool:
        """Whether somebody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=60):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def talk(self) -> list[list[dict[str, Any]]]:
        """Three visitors at the same time, each up a chain, and one whom two workers serve; returns what each got."""
        with ThreadPoolExecutor(3) as pool:
            talks = list(pool.map(self.visit, range(3)))
        return [*talks, self.visit_two_workers()]

    def visit(self, number: int, turns: int = 3) -> list[dict[str, Any]]:
        """One visitor, up a chain."""
        got: list[dict[str, Any]] = []
        for turn in range(turns):
            got.append(self.ask(f"visitor {number}, turn {turn}", got[-1]["id"] if got else None))
        return got

    def visit_two_workers(self) -> list[dict[str, Any]]:
        """A visitor whose second turn comes while the worker of the first one is held up."""
        first = self.ask("Hello")
        os.kill(first["worker"], signal.SIGSTOP)
        try:
            second = self.ask("Who are you?", first["id"])
        finally:
            os.kill(first["worker"], signal.SIGCONT)
        assert first["worker"] != second["worker"]
        return [first, second, self.ask("Thank you", second["id"])]


@contextlib.contextmanager
def pipeline(name: str, title: str, directory: Path, redis: RedisServer, *, as_in: str = "") -> Iterator[Pipeline]:
    """A section of the page, with its environment made and its files written, and those of another that it names."""
    PINNED.made(name)
    with LoopbackServer() as server, Receiver() as receiver:
        made = Pipeline(name, sections()[title], directory, server, receiver, redis)
        made.write(**(sections()[as_in].files if as_in else {}))
        yield made


# --- what arrived ---------------------------------------------------------------------------------------------------


def calls(spans: Iterable[ReceivedSpan]) -> list[ReceivedSpan]:
    """The spans of model calls, in the order in which they began."""
    found = (span for span in spans if span.attributes.get("gen_ai.operation.name") == "chat")
    return sorted((span for span in found if span.scope == OURS), key=lambda span: span.start)


def arrived(receiver: OtlpReceiver, chains: list[list[str]]) -> bool:
    """Whether the span of each response has arrived."""
    return {id_ for chain in chains for id_ in chain} <= {
        call.attributes.get("gen_ai.response.id") for call in calls(receiver.spans)
    }


def check_whole(spans: list[ReceivedSpan], chains: list[list[str]], *, below: str | None) -> None:
    """Fail unless each chain of responses is one session, whole and once.

    Args:
        spans: what arrived.
        chains: the ids of the responses of each session.
        below: the kind of the spans below which the calls stand (``SERVER``); None where they stand below their root.
    """
    ids = Counter((span.trace_id, span.span_id) for span in spans)
    assert [id_ for id_, times in ids.items() if times > 1] == [], "a span arrived twice"
    by_response = {call.attributes["gen_ai.response.id"]: call for call in calls(spans)}
    assert len(by_response) == len(calls(spans)) == sum(map(len, chains)), "each call has one span"
    roots = defaultdict(list)
    for span in spans:
        if span.attributes.get("llm_session.root"):
            roots[span.attributes["session.id"]].append(span)
    assert sorted(roots) == sorted(chain[0] for chain in chains)
    for chain in chains:
        turns = [by_response[id_] for id_ in chain]
        assert [turn.attributes.get("session.id") for turn in turns] == [chain[0]] * len(chain)
        assert [turn.attributes["llm_session.turn"] for turn in turns] == list(range(1, len(chain) + 1))
        (root,) = roots[chain[0]]
        assert root.parent_id == ""
        check_place(spans, root, turns, below)


def check_place(spans: list[ReceivedSpan], root: ReceivedSpan, turns: list[ReceivedSpan], below: str | None) -> None:
    """Fail unless a session's turns stand where they belong, and its trace holds each of them."""
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    in_its_trace = [span for span in spans if span.trace_id == root.trace_id and span is not root]
    if below is None:
        assert {(turn.trace_id, turn.parent_id) for turn in turns} == {(root.trace_id, root.span_id)}
        return
    parents = [by_id[turn.trace_id, turn.parent_id] for turn in turns]
    assert {parent.kind for parent in parents} == {below}
    assert len({turn.trace_id for turn in turns}) == len(turns), "each request has its own trace"
    assert [marker.name for marker in in_its_trace] == ["turn"] * len(turns)
    assert {marker.parent_id for marker in in_its_trace} == {root.span_id}
    linked = {(link.trace_id, link.span_id) for marker in in_its_trace for link in marker.links}
    assert {(turn.trace_id, turn.span_id) for turn in turns} <= linked


def chains_of(talks: list[list[dict[str, Any]]]) -> list[list[str]]:
    """The ids of what visitors were answered."""
    return [[reply["id"] for reply in talk] for talk in talks]


def wait_for_all(receiver: OtlpReceiver, chains: list[list[str]]) -> None:
    """Wait until all has arrived."""
    until(lambda: arrived(receiver, chains))
