"""Beside what a pipeline may already have: whose span has the session, and how many spans a call has.

Each peer is in an environment of its own. Two turns in every form (`talk.py`): chat and responses, sync, async,
streamed. The application gets what it gets without us, whichever is loaded first, and whichever is switched off and on
again. docs/beside-others.md has the table.
"""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from beside.environments import PINNED
from beside.peers import PEERS
from beside.talk_forms import AGAIN, APIS, IN_A_BLOCK
from beside.told import BOTH, EXPECTED, LOGFIRE, OWN, THEIRS
from loopback import LoopbackServer
from otlp_receiver import OtlpReceiver
from spreading import unit_of

from otel_llm_sessions.view.spans import ReceivedSpan

pytestmark = pytest.mark.frameworks

HERE = Path(__file__).parent
ENDS_WITHIN = 300.0
TURNS = 2
OURS = "otel_llm_sessions"
OUR_ENTRY = "openai_sessions"
NONE_OF_THEM = {"httpx", "httpx2", "requests", "urllib3"}
"""What some environments have besides."""
BRING_THEIR_OWN = ("logfire",)
"""Peers that set up the SDK themselves; the others run under opentelemetry-instrument."""

ORDERS = ("first", "last")
SWITCHED = [peer for peer in EXPECTED if PEERS[peer].off is not None]
SURROUNDING = {"fastapi": "GET /", "celery": "run/", "openai-agents": "invoke_agent"}
"""How the names of the spans begin that stand around a call."""
OF_A_MODEL = ("gen_ai.request.model", "llm.model_name", "langfuse.observation.model.name")
"""Attributes by which a span is known as a model call's."""


class Played(NamedTuple):
    got: dict[str, Any]
    """What the application got in each form."""
    spans: list[ReceivedSpan]
    said: str
    code: int

    def of(self, form: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.attributes.get("test.form") == form]


def forms(peer: str) -> list[str]:
    return [f"{api} {way}" for api in APIS for way in PEERS[peer].ways]


def forms_again(peer: str) -> list[str]:
    return [form for form in AGAIN if form in forms(peer)]


def disabled(peer: str, order: str) -> str:
    """What opentelemetry-instrument is not to load: where the script says the order, neither side."""
    theirs = set(PEERS[peer].entries.split(",")) - {""}
    ours = set() if order == "without" else {OUR_ENTRY}
    return ",".join(sorted(ours | NONE_OF_THEM - theirs | (set() if order == "alone" else theirs)))


@cache
def play(peer: str, order: str) -> Played:
    """Play all forms in a process of the peer's environment, once for all tests of the peer, which share a process."""
    programs = PINNED.made(peer).directory / "bin"
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
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": disabled(peer, order),
            "DD_TRACE_ENABLED": "false" if order in ("without", "bare") else "true",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_TRACE_OTEL_ENABLED": "false",
            "LOGFIRE_SEND_TO_LOGFIRE": "false",
            "LOGFIRE_CONSOLE": "false",
        }
        done = subprocess.run(
            [*start, programs / "python", HERE / "talk.py", peer, order],
            env={**inherited, **settings},
            capture_output=True,
            text=True,
            check=False,
            timeout=ENDS_WITHIN,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        got = {line["form"]: line["got"] for line in lines}
        spans = sorted(receiver.spans, key=lambda span: span.start)
        return Played(got, spans, done.stdout + done.stderr, done.returncode)


def models(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
    """The spans of model calls, whoever made them."""
    return [
        span
        for span in spans
        if any(name in span.attributes for name in OF_A_MODEL) and not span.scope.startswith(f"{OURS}.traces")
    ]


def is_ours(span: ReceivedSpan) -> bool:
    return span.scope.startswith(OURS)


def session_in(played: Played, form: str, whose: str) -> str:
    """A form's session, when each call has as many model spans as it should, and the session on the right one."""
    spans = models(played.of(form))
    ours = [span for span in spans if is_ours(span)]
    theirs = [span for span in spans if not is_ours(span)]
    counts = {THEIRS: (0, TURNS), OWN: (TURNS, 0), BOTH: (TURNS, TURNS)}[whose]
    assert (len(ours), len(theirs)) == counts, (form, [(span.name, span.scope) for span in spans])
    with_session = theirs if whose == THEIRS else ours
    named = {span.attributes.get("session.id") for span in with_session}
    assert len(named) == 1, (form, [span.attributes for span in with_session])
    assert None not in named
    numbers = [span.attributes["llm_session.turn"] for span in with_session]
    assert numbers == [numbers[0], numbers[0] + 1]  # a session that has been named before goes on
    roots = [span for span in played.of(form) if span.attributes.get("llm_session.root")]
    assert [span.attributes["session.id"] for span in roots] == (list(named) if numbers[0] == 1 else [])
    return named.pop()


def expected(peer: str, form: str) -> str:
    return EXPECTED[peer]["responses" in form]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("peer", EXPECTED)
def test_the_application_gets_what_it_gets_without_us(peer: str, order: str) -> None:
    alone, beside, bare = play(peer, "alone"), play(peer, order), play(peer, "bare")
    assert (alone.code, beside.code) == (0, 0), beside.said
    assert list(bare.got) == forms(peer), bare.said
    assert not any(isinstance(got, str) for got in bare.got.values()), bare.said  # an error
    assert alone.got == bare.got
    for form, got in beside.got.items():
        assert got == bare.got[form.partition(": ")[2] or form], form
    assert set(forms(peer)) <= set(beside.got)
    assert OURS not in beside.said  # nothing of ours warns


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("peer", EXPECTED)
def test_the_session_is_on_the_span_that_the_user_looks_at(peer: str, order: str) -> None:
    played = play(peer, order)
    sessions = {session_in(played, form, expected(peer, form)) for form in forms(peer)}
    assert len(sessions) == len(forms(peer))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("peer", EXPECTED)
def test_in_a_block_every_span_of_a_call_has_the_session(peer: str, order: str) -> None:
    played = play(peer, order)
    spans = models(played.of(f"in a block: {IN_A_BLOCK}"))
    assert {span.attributes.get("session.id") for span in spans} == {IN_A_BLOCK}


@pytest.mark.parametrize("peer", EXPECTED)
def test_disabling_either_side_leaves_the_other(peer: str) -> None:
    """By OTEL_PYTHON_DISABLED_INSTRUMENTATIONS, where opentelemetry-instrument finds both."""
    alone, without, both = play(peer, "alone"), play(peer, "without"), play(peer, "first")
    assert not any(is_ours(span) for span in alone.spans)
    assert without.got == alone.got
    for form in forms(peer):
        assert len(models(alone.of(form))) == sum(not is_ours(span) for span in models(both.of(form)))
        session_in(without, form, OWN)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("peer", SWITCHED)
def test_switching_either_side_off_leaves_the_other_and_on_again_both(peer: str, order: str) -> None:
    """By `uninstrument()`, or what a peer has instead."""
    played = play(peer, order)
    for form in forms_again(peer):
        session_in(played, f"theirs off: {form}", OWN)
        session_in(played, f"theirs on: {form}", expected(peer, form))
        assert not any(is_ours(span) for span in played.of(f"ours off: {form}"))
        assert not any("session.id" in span.attributes for span in played.of(f"ours off: {form}"))
        assert len(models(played.of(f"ours off: {form}"))) == len(models(play(peer, "alone").of(form)))
        session_in(played, f"ours on: {form}", expected(peer, form))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("peer", SURROUNDING)
def test_the_call_stands_in_what_it_serves(peer: str, order: str) -> None:
    played = play(peer, order)
    for form in forms(peer):
        around = {span.span_id: span for span in played.of(form) if span.name.startswith(SURROUNDING[peer])}
        calls = models(played.of(form))
        assert [call.parent_id in around for call in calls] == [True] * TURNS, form
        markers = [span for span in played.of(form) if span.name == "turn"]
        assert {call.span_id for call in calls} <= {link.span_id for marker in markers for link in marker.links}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("peer", ["http"])
def test_the_request_of_a_call_stands_below_it(peer: str, order: str) -> None:
    played = play(peer, order)
    for form in forms(peer):
        calls = [span.span_id for span in models(played.of(form))]
        sent = [
            span.parent_id for span in played.of(form) if {"http.method", "http.request.method"} & {*span.attributes}
        ]
        assert sent == calls, form


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("peer", ["logfire"])
def test_logfire_with_the_lines_that_the_documentation_has(peer: str, order: str) -> None:
    beside, alone, bare = play(peer, order), play(peer, "alone"), play(peer, "bare")
    assert alone.got == bare.got
    for form, got in beside.got.items():
        assert got == bare.got[form.partition(": ")[2] or form], form
    stages = {
        "": (LOGFIRE[order], forms(peer)),
        "theirs off: ": (OWN, forms_again(peer)),
        "theirs on: ": (LOGFIRE["last"], forms_again(peer)),  # off and on again: as if loaded after us
        "ours on: ": (LOGFIRE["first"], forms_again(peer)),
    }
    for stage, (whose, played) in stages.items():
        for form in played:
            beside_logfire(beside, stage + form, whose)
    for form in forms_again(peer):
        assert not any("session.id" in span.attributes for span in beside.of(f"ours off: {form}"))
        assert len(models(beside.of(f"ours off: {form}"))) == len(models(alone.of(form)))


def test_all_tests_of_a_peer_are_sent_to_one_process(request: pytest.FixtureRequest) -> None:
    """Or what it plays is played more than once."""
    of_peers = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    assert [unit_of(item.nodeid) for item in of_peers] == [item.callspec.params["peer"] for item in of_peers]


def beside_logfire(played: Played, form: str, whose: str) -> None:
    """Fail unless each call has the spans that it should, with the session on the right one, and nothing scrubbed."""
    spans = [span for span in played.of(form) if not span.name.startswith("streaming response")]
    calls = [span for span in spans if "llm_session.turn" in span.attributes and span.name != "turn"]
    assert [is_ours(span) for span in calls] == [whose != THEIRS] * TURNS, form
    assert len(models(spans)) == TURNS * (2 if whose == BOTH else 1), form
    first = calls[0].attributes["llm_session.turn"]
    assert [span.attributes["llm_session.turn"] for span in calls] == [first, first + 1]
    # Its span of a stream ends when the stream begins, before a reply has named a new session.
    late = whose == THEIRS and "responses" in form and form.endswith("stream")
    named = [span.attributes.get("session.id") for span in calls]
    assert len(set(named[late:])) == 1
    assert None not in named[late:]
    assert not any("Scrubbed" in str(value) for span in spans for value in span.attributes.values())
