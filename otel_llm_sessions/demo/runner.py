"""The demo: run the examples as a user would, show the sessions that arrive over OTLP, and check them.

Everything is a process of its own and every message is real: the examples run under ``opentelemetry-instrument``,
talk HTTP to an OpenAI-compatible server, and export OTLP to a receiver on loopback.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from rich.console import Console
from rich.text import Text

from otel_llm_sessions.demo.expectations import EXAMPLES, Example, problems
from otel_llm_sessions.demo.options import parser
from otel_llm_sessions.demo.passing import ENDPOINT, PROTOCOL, passed_on
from otel_llm_sessions.demo.processes import Interrupted, Processes, TimedOut
from otel_llm_sessions.demo.receiving import NotStarted, Receiving
from otel_llm_sessions.view.sessions import Session
from otel_llm_sessions.view.source import Unreachable
from otel_llm_sessions.view.terminal.tree import trees

INSTRUMENTATIONS: Final = frozenset({"openai_sessions", "fastapi"})
"""What the examples run under; other instrumentations of this environment are switched off for them."""

NEEDED: Final = ("openai", "fastapi", "uvicorn", "opentelemetry.exporter.otlp.proto.http")
INSTALL: Final = "pip install '.[demo]' in a checkout"
KEPT_PREFIX: Final = "OTEL_LLM_SESSIONS_"
CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
JAEGER: Final = 16686
"""The port of Jaeger's page."""

SERVER: Final = (
    *("-m", "otel_llm_sessions.demo.provider", "--port", "0", "--latency", "0.15", "--chunk-delay", "0.005"),
    "--charges",
)
LISTENING: Final = "listening on "
WIDTH_OF_FILES: Final = 160
TAIL: Final = 15


class DemoError(Exception):
    """The demo cannot run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Run:
    """How one example's process went: its failures, and what it printed."""

    example: Example
    failures: tuple[str, ...]
    output: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one example."""

    run: Run
    sessions: list[Session]

    @property
    def problems(self) -> list[str]:
        """What is wrong with it; empty if nothing."""
        return [*self.run.failures, *problems(self.run.example, self.sessions)]


class Demo:
    """One run of the demo."""

    def __init__(self, console: Console, processes: Processes, timeout: float) -> None:
        self._console = console
        self._processes = processes
        self._timeout = timeout

    def run(self, view: bool) -> bool:
        """Run all examples, print what arrived; whether everything is as it should be.

        Args:
            view: whether the page with the sessions stays there, until Ctrl-C.
        """
        instrument = instrument_command()
        folder = examples_folder()
        also, said_of_it = passed_on(os.environ)
        receiving = self._start_viewer(also)
        environment = environment_of(os.environ, receiving.url, self._provider())
        self._say(f"Spans go to the viewer of this demo at {receiving.url} (OTLP over HTTP).")
        if said_of_it:
            self._say(said_of_it, "" if also else "bold red")
        self._say(f"What is said is recorded, as {CAPTURE}=SPAN_ONLY asks for; by default it is not.\n")
        commands = [[*instrument, str(folder / example.file), *example.arguments] for example in EXAMPLES]
        runs = [
            self._run(example, command, environment, receiving.count)
            for example, command in zip(EXAMPLES, commands, strict=True)
        ]
        outcomes = outcomes_of(runs, receiving.sessions(lambda found: not any(map(_wrong, outcomes_of(runs, found)))))
        self._show(outcomes)
        is_right = self._judge(outcomes)
        if also:
            self._show_addresses(outcomes, also)
        if view:
            self._keep(receiving)
        if also and (said := receiving.end()):
            self._say(said, "bold red")
        return is_right

    def _start_viewer(self, forward: str) -> Receiving:
        try:
            return Receiving(self._processes, self._timeout, forward)
        except NotStarted as error:
            raise DemoError(f"its viewer did not start: {error}") from None

    def _keep(self, receiving: Receiving) -> None:
        """Leave the page there until somebody has seen enough."""
        self._say(f"\nThe sessions on a page: {receiving.url}/", "bold")
        self._say(f"In another terminal: otel-llm-sessions list --from {receiving.url}")
        self._say("Ctrl-C ends it.", "dim")
        try:
            receiving.wait()
        except Interrupted as interrupted:
            if interrupted.number != signal.SIGINT:
                raise

    def _provider(self) -> Mapping[str, str]:
        """Where the model is: as the environment says, else a server of our own."""
        given = {name: os.environ[name] for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY") if os.environ.get(name)}
        if given:
            self._say(f"Model calls go to {given.get('OPENAI_BASE_URL', 'OpenAI')}, as your environment says.")
            return {"OPENAI_API_KEY": "none", **given}
        base_url = self._start_server()
        self._say(f"Model calls go to a server of this demo at {base_url} (set OPENAI_BASE_URL for another).")
        return {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "sk-demo"}

    def _start_server(self) -> str:
        server = self._processes.start([sys.executable, *SERVER], os.environ)
        try:
            line = self._processes.first_line(server, self._timeout)
        except TimedOut:
            raise DemoError(f"the demo's server did not start within {self._timeout:g} s") from None
        if not line.startswith(LISTENING):
            rest = self._processes.finish(server, self._timeout)
            raise DemoError(f"the demo's server did not start:\n{line}\n{rest}")
        return line.removeprefix(LISTENING)

    def _run(
        self, example: Example, command: Sequence[str], environment: Mapping[str, str], count: Callable[[], int]
    ) -> Run:
        """Run one example to its end."""
        begun, before = time.monotonic(), count()
        own = {"OTEL_SERVICE_NAME": example.service, **dict(example.settings)}

        def took() -> str:
            return f"{example.file}: {time.monotonic() - begun:.1f} s"

        with self._console.status(f"running {example.file}") as status:
            process = self._processes.start(command, {**environment, **own})
            try:
                output = self._processes.finish(process, self._timeout, lambda: status.update(f"running {took()}"))
            except TimedOut as late:
                return Run(example, (f"did not end within {self._timeout:g} s",), str(late))
        self._say(f"ran {took()}, {count() - before} of {example.sessions} sessions arrived")
        code = process.returncode
        return Run(example, (f"ended with exit code {code}",) if code else (), output)

    def _show(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            self._console.print(Text(f"\n{outcome.run.example.file}", "bold underline"))
            for tree in trees(outcome.sessions, self._console.width):
                self._console.print(tree)
        self._console.print()

    def _show_addresses(self, outcomes: Sequence[Outcome], endpoint: str) -> None:
        """Print where each session is in the Jaeger that stands where everything was passed on to."""
        host = urlsplit(endpoint).hostname
        self._say(f"\nIn {host}, where Jaeger's page is at its own port:", "bold")
        for session in (session for outcome in outcomes for session in outcome.sessions):
            for part in session.parts:
                self._say(f"session {session.id}")
                self._say(f"  trace {part.trace_id}  http://{host}:{JAEGER}/trace/{part.trace_id}")

    def _judge(self, outcomes: Sequence[Outcome]) -> bool:
        wrong = [outcome for outcome in outcomes if outcome.problems]
        for outcome in wrong:
            for problem in outcome.problems:
                self._say(f"wrong: {outcome.run.example.file}: {problem}", "bold red")
            self._say(_tail(outcome.run.output), "dim")
        if not wrong:
            number = sum(len(outcome.sessions) for outcome in outcomes)
            self._say(f"All {number} sessions arrived, each with the turns it should have.", "bold green")
        return not wrong

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style))


def main(argv: list[str]) -> int:
    """Run the demo; 0 if every session arrived as it should, 1 if not, 128 + n if signal n ended it."""
    options = parser().parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
    try:
        with Processes() as processes:
            view = sys.stdout.isatty() if options.view is None else options.view
            return 0 if Demo(console, processes, options.timeout).run(view) else 1
    except (DemoError, Unreachable) as error:
        console.print(Text(f"The demo cannot run: {error}", "bold red"))
        return 1
    except Interrupted as interrupted:
        console.print(Text("Stopped; nothing is left running.", "bold"))
        return 128 + interrupted.number


def _wrong(outcome: Outcome) -> bool:
    return bool(outcome.problems)


def outcomes_of(runs: Iterable[Run], sessions: Sequence[Session]) -> list[Outcome]:
    """Each run with the sessions that came from it, by the name of its service."""
    return [Outcome(run, [one for one in sessions if run.example.service in one.services]) for run in runs]


def instrument_command() -> list[str]:
    """The command that runs a script of this Python instrumented; raises DemoError when something is not installed."""
    missing = [name for name in NEEDED if not _installed(name)]
    if missing:
        raise DemoError(f"{', '.join(missing)} not installed; {INSTALL}")
    if not entry_points(group="opentelemetry_instrumentor", name="openai_sessions"):
        raise DemoError(f"otel-llm-sessions itself is not installed in {sys.prefix}; {INSTALL}")
    beside = Path(sys.executable).parent
    command = shutil.which("opentelemetry-instrument", path=str(beside)) or shutil.which("opentelemetry-instrument")
    if command is None:
        raise DemoError(f"there is no opentelemetry-instrument; {INSTALL}")
    return [command, sys.executable]


def examples_folder() -> Path:
    """Where the examples are: in the installed package, else in the checkout. Raises DemoError if nowhere."""
    here = Path(__file__).resolve().parent
    places = (here / "examples", here.parents[1] / "examples")
    for place in places:
        if (place / EXAMPLES[0].file).is_file():
            return place
    raise DemoError(f"the examples are neither in {places[0]} nor in {places[1]}")


def environment_of(outer: Mapping[str, str], endpoint: str, provider: Mapping[str, str]) -> dict[str, str]:
    """The environment of an example: the outer one, with OpenTelemetry and the model's server set by the demo.

    The outer OTEL_* settings would change what arrives, so only those of this package stay.
    """
    kept = {name: value for name, value in outer.items() if not name.startswith("OTEL_")}
    own = {name: value for name, value in outer.items() if name.startswith(KEPT_PREFIX)}
    return {
        **kept,
        **own,
        **provider,
        ENDPOINT: endpoint,
        PROTOCOL: "http/protobuf",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        CAPTURE: "SPAN_ONLY",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ",".join(_other_instrumentations()),
        "NO_PROXY": ",".join(filter(None, (outer.get("NO_PROXY"), "127.0.0.1"))),
        "PYTHONUNBUFFERED": "1",
    }


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _other_instrumentations() -> list[str]:
    installed = {point.name for point in entry_points(group="opentelemetry_instrumentor")}
    return sorted(installed - INSTRUMENTATIONS)


def _tail(output: str) -> str:
    """The end of what a program printed, indented."""
    return "\n".join(f"    {line}" for line in output.strip().splitlines()[-TAIL:])
