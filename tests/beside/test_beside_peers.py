"""Beside what a pipeline may already have: whose span has the session, and how many spans a call has.

Each peer is in an environment of its own. Two turns in every form (`talk.py`): chat and responses, sync, async,
streamed. The application gets what it gets without us, whichever is loaded first. docs/beside-others.md has the table.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from beside.environments import PEERS, environment, version
from contract.matrix import HOME, make
from loopback import LoopbackServer
from otlp_receiver import OtlpReceiver

from otel_llm_sessions.view.spans import ReceivedSpan

pytestmark = pytest.mark.frameworks

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "beside-others.md"
ENDS_WITHIN = 300.0
FORMS = [f"{api} {way}" for api in ("chat", "responses") for way in ("sync", "async", "stream", "astream")]
TURNS = 2
OURS = "otel_llm_sessions"
BRING_THEIR_OWN = ("logfire",)
"""Peers that set up the SDK themselves; the others run under opentelemetry-instrument."""

THEIRS, OWN, BOTH = "theirs", "ours", "both"
"""Who has the model span of a call: the peer, with our session on it; we; or each has one, and ours has the session."""

EXPECTED: dict[str, tuple[str, str]] = {
    # peer: chat, responses
    "genai-openai": (THEIRS, THEIRS),
    "openai-v2": (THEIRS, OWN),
    "openllmetry": (THEIRS, BOTH),
    "openinference": (THEIRS, THEIRS),
    "elastic": (THEIRS, OWN),
    "langfuse": (BOTH, BOTH),
    "openlit": (THEIRS, THEIRS),
    "http": (OWN, OWN),
    "sentry": (OWN, OWN),
    "ddtrace": (OWN, OWN),
    "newrelic": (OWN, OWN),
}
ORDERS = ("first", "last")
EACH = [pytest.param(peer, marks=pytest.mark.xdist_group(peer)) for peer in EXPECTED]
"""What is played of a peer is looked at by one process of those that run the tests."""
OF_A_MODEL = ("gen_ai.request.model", "llm.model_name", "langfuse.observation.model.name")
"""Attributes by which a span is known as a model call's."""


class Played(NamedTuple):
    got: list[Any]
    """What the application got in each form."""
    spans: list[ReceivedSpan]
    said: str
    code: int

    def of(self, form: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.attributes.get("test.form") == form]


@cache
def play(peer: str, order: str) -> Played:
    """Play all forms in a process of the peer's environment; the environment is made by whoever comes first."""
    HOME.mkdir(exist_ok=True)
    with (HOME / f"beside-{peer}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make(environment(peer))
    programs = environment(peer).directory / "bin"
    start = [] if peer in BRING_THEIR_OWN else [programs / "opentelemetry-instrument", "--service_name", peer]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OPENAI_"))}
    with LoopbackServer() as server, OtlpReceiver() as receiver:
        settings = {
            "OPENAI_API_KEY": "sk-loopback",
            "OPENAI_BASE_URL": server.base_url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            # The script loads both sides, in the order that it is told.
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "openai_sessions,openai,openai_v2,httpx,httpx2,requests,urllib3",
            "DD_TRACE_ENABLED": "false" if order in ("without", "bare") else "true",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_TRACE_OTEL_ENABLED": "false",
        }
        done = subprocess.run(
            [*start, programs / "python", HERE / "talk.py", peer, order],
            env={**inherited, **settings},
            capture_output=True,
            text=True,
            check=False,
            timeout=ENDS_WITHIN,
        )
        got = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return Played(
            got, sorted(receiver.spans, key=lambda span: span.start), done.stdout + done.stderr, done.returncode
        )


def models(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
    """The spans of model calls, whoever made them."""
    return [
        span
        for span in spans
        if any(name in span.attributes for name in OF_A_MODEL) and not span.scope.startswith(f"{OURS}.traces")
    ]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("peer", EACH)
def test_the_application_gets_what_it_gets_without_us(peer: str, order: str) -> None:
    alone, beside = play(peer, "alone"), play(peer, order)
    assert (alone.code, beside.code) == (0, 0), beside.said
    assert [each["form"] for each in beside.got] == FORMS, beside.said
    assert beside.got == alone.got == play(peer, "bare").got
    assert OURS not in beside.said  # nothing of ours warns


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("peer", EACH)
def test_the_session_is_on_the_span_that_the_user_looks_at(peer: str, order: str) -> None:
    played = play(peer, order)
    sessions = set()
    for form in FORMS:
        spans = models(played.of(form))
        whose = EXPECTED[peer][form.startswith("responses")]
        ours = [span for span in spans if span.scope.startswith(OURS)]
        theirs = [span for span in spans if not span.scope.startswith(OURS)]
        counts = {THEIRS: (0, TURNS), OWN: (TURNS, 0), BOTH: (TURNS, TURNS)}[whose]
        assert (len(ours), len(theirs)) == counts, (form, [(span.name, span.scope) for span in spans])
        with_session = theirs if whose == THEIRS else ours
        named = {span.attributes.get("session.id") for span in with_session}
        assert len(named) == 1, (form, [span.attributes for span in with_session])
        assert None not in named
        assert [span.attributes["llm_session.turn"] for span in with_session] == [1, 2]
        sessions |= named
        roots = [span for span in played.of(form) if span.attributes.get("llm_session.root")]
        assert [span.attributes["session.id"] for span in roots] == list(named)
    assert len(sessions) == len(FORMS)


@pytest.mark.parametrize("peer", EACH)
def test_each_side_works_alone(peer: str) -> None:
    alone, without = play(peer, "alone"), play(peer, "without")
    assert not any(span.scope.startswith(OURS) for span in alone.spans)
    for form in FORMS:
        both = play(peer, "first")
        theirs = [span for span in models(both.of(form)) if not span.scope.startswith(OURS)]
        assert len(models(alone.of(form))) == len(theirs)
        assert [span.scope.startswith(OURS) for span in models(without.of(form))] == [True] * TURNS


@pytest.mark.xdist_group("logfire")
@pytest.mark.parametrize(("order", "whose"), [("first", BOTH), ("last", THEIRS)])
def test_logfire_with_the_two_lines_that_the_documentation_has(order: str, whose: str) -> None:
    beside = play("logfire", order)
    assert beside.got == play("logfire", "alone").got == play("logfire", "bare").got
    for form in FORMS:
        spans = [span for span in beside.of(form) if not span.name.startswith("streaming response")]
        calls = [span for span in spans if "llm_session.turn" in span.attributes and span.name != "turn"]
        assert [span.scope.startswith(OURS) for span in calls] == [whose == BOTH] * TURNS
        assert [span.attributes["llm_session.turn"] for span in calls] == [1, 2]
        # Its span of a stream ends when the stream begins, before a reply has named a new session.
        late = whose == THEIRS and form in ("responses stream", "responses astream")
        named = [span.attributes.get("session.id") for span in calls]
        assert len(set(named[late:])) == 1
        assert None not in named[late:]
        assert not any("Scrubbed" in str(value) for span in spans for value in span.attributes.values())


def test_the_documentation_says_the_same() -> None:
    """The table of docs/beside-others.md, row by row."""
    rows = re.findall(
        r"^\| `([\w-]+)`[^|]* \| ([^|]+) \| (theirs|ours|both) \| (theirs|ours|both) \|", DOCS.read_text(), re.M
    )
    assert {name: (chat, responses) for name, _, chat, responses in rows if name in EXPECTED} == EXPECTED
    for peer, seen, _, _ in rows:
        package = PEERS[peer][0].partition("[")[0]
        assert seen == version(peer, package), peer
