"""Two people talk through each framework, as its documentation writes it: each has one session, and nobody another's.

A scenario is a script in a process of its own, in the framework's own environment, under `opentelemetry-instrument`.
What it exports over OTLP is all that is looked at.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from frameworks.environments import PINNED
from frameworks.scenarios_told import SCENARIOS
from loopback import LoopbackServer
from otlp_receiver import OtlpReceiver

from otel_llm_sessions.view.spans import ReceivedSpan

SCRIPTS = Path(__file__).with_name("scenarios")
CALLS = ("/chat/completions", "/responses")
ENDS_WITHIN = 300.0

pytestmark = pytest.mark.frameworks


EACH = [
    pytest.param(framework, name, sources, id=f"{framework} {name}")
    for framework, scenarios in SCENARIOS.items()
    for name, sources in scenarios.items()
]


class Played:
    """A scenario that has been played: the requests that it made, and the spans that arrived."""

    def __init__(self, framework: str, name: str) -> None:
        with LoopbackServer() as server, OtlpReceiver() as receiver:
            self.process = play(framework, name, server, receiver)
        self.requests = [r for r in server.requests if r.method == "POST" and r.path.endswith(CALLS)]
        self.spans = sorted(receiver.spans, key=lambda span: span.start)

    @property
    def calls(self) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.attributes.get("gen_ai.operation.name") == "chat"]

    def by_person(self) -> dict[str, list[ReceivedSpan]]:
        found = defaultdict(list)
        for call in self.calls:
            found[call.attributes["test.person"]].append(call)
        return dict(found)

    def story(self) -> str:
        """What went over the wire and what was made of it."""
        sent = (f"{request.path} {json.dumps(request.body)}" for request in self.requests)
        made = (f"{span.name} {span.attributes}" for span in self.spans)
        return "\n".join([self.process.stderr, *sent, *made])


def play(framework: str, name: str, server: LoopbackServer, receiver: OtlpReceiver) -> subprocess.CompletedProcess[str]:
    programs = PINNED.made(framework).directory / "bin"
    script = SCRIPTS / f"with_{framework.replace('-', '_')}.py"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OPENAI_"))}
    settings = {
        "OPENAI_API_KEY": "sk-loopback",
        "OPENAI_BASE_URL": server.base_url,
        "OPENAI_API_BASE": server.base_url,  # what LlamaIndex reads
        "OTEL_LLM_SESSIONS_HISTORY": str("small_talk" in name),
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    return subprocess.run(
        [
            programs / "opentelemetry-instrument",
            "--service_name",
            framework,
            programs / "python",
            script,
            *name.split(),
        ],
        env={**inherited, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=ENDS_WITHIN,
    )


@pytest.fixture
def played(framework: str, name: str) -> Played:
    """The scenario, played in its framework's environment."""
    return Played(framework, name)


@pytest.mark.parametrize(("framework", "name", "sources"), EACH)
def test_each_conversation_is_one_session(played: Played, name: str, sources: str) -> None:
    assert played.process.returncode == 0, played.story()
    assert len(played.calls) == len(played.requests), played.story()
    assert "streamed" not in name or any(request.body.get("stream") for request in played.requests), played.story()
    told = {person: [seen(call) for call in calls] for person, calls in played.by_person().items()}
    expected = list(enumerate(sources.split(), 1))
    assert told == {"ann": expected, "bob": expected}, played.story()
    sessions = [{session_of(call) for call in calls} for calls in played.by_person().values()]
    assert [len(found) for found in sessions] == [1, 1], played.story()
    assert sessions[0] != sessions[1], played.story()
    roots = [session_of(span) for span in played.spans if span.attributes.get("llm_session.root")]
    assert sorted(roots) == sorted(map(str, set.union(*sessions))), played.story()


def seen(call: ReceivedSpan) -> tuple[object, object]:
    return call.attributes.get("llm_session.turn"), call.attributes.get("llm_session.source")


def session_of(span: ReceivedSpan) -> str:
    return str(span.attributes.get("session.id"))
