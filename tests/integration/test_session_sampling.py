"""A session is sampled as a whole, by the application's own sampler (docs/traces.md)."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from programs import importing, run_code
from traces_kit import ask

from otel_llm_sessions import SessionLink
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

SAMPLED = """
    import json, sys
    sys.path.insert(0, sys.argv[1])
    from answered import client_of, httpx
    from test_session_sampling import sampled_sessions
    from traces_kit import CHAT_REPLY

    client = client_of(lambda request: httpx.Response(200, json=CHAT_REPLY))
    print(json.dumps(sampled_sessions(client, sys.argv[2])))
"""


def sampled_sessions(client: Any, kind: str) -> dict[str, list[str]]:
    """Make 1,000 sessions of two turns; return the names of the spans that were sampled, by session."""
    sampler = {"traceidratio": TraceIdRatioBased, "parentbased_traceidratio": ParentBasedTraceIdRatio}[kind](0.1)
    names = defaultdict(list)
    with capture_spans(tracer_provider=TracerProvider(sampler=sampler, shutdown_on_exit=False)) as spans:
        for _ in range(2):
            for number in range(1000):
                ask(client, f"s{number}")
    for span in spans:
        names[span.attributes["session.id"]].append(span.name)
    return names


def is_a_tenth_and_whole(sessions: dict[str, list[str]]) -> bool:
    return 70 <= len(sessions) <= 130 and set(map(tuple, sessions.values())) == {("session", "chat m", "chat m")}


@pytest.mark.slow
def test_of_1000_sessions_a_tenth_is_sampled_whole_below_a_sampler_by_parents(quick_client):
    assert is_a_tenth_and_whole(sampled_sessions(quick_client, "parentbased_traceidratio"))


@pytest.mark.slow
def test_of_1000_sessions_the_same_tenth_is_sampled_whole_in_two_processes(quick_client):
    here = sampled_sessions(quick_client, "traceidratio")
    assert is_a_tenth_and_whole(here)
    done = run_code(SAMPLED, os.path.dirname(__file__), "traceidratio", env=os.environ | importing())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == here


def test_chains_are_sampled_whole_too(client):
    sampler = ParentBasedTraceIdRatio(0.5)
    with capture_spans(tracer_provider=TracerProvider(sampler=sampler, shutdown_on_exit=False)) as spans:
        for _ in range(24):
            first = client.responses.create(model="m", input="x")
            client.responses.create(model="m", input="x", previous_response_id=first.id)
    by_session = defaultdict(list)
    for span in spans:
        by_session[span.attributes["session.id"]].append(span.name)
    assert 0 < len(by_session) < 24
    assert set(map(tuple, by_session.values())) == {("session", "chat m", "chat m")}


def test_always_on_with_a_parent_samples_all(client):
    provider = TracerProvider(sampler=ParentBased(ALWAYS_ON), shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider) as spans:
        ask(client, "X")
        client.responses.create(model="m", input="x")
    assert [span.name for span in spans] == ["session", "chat m"] * 2


class Switch(Sampler):
    """A sampler of the application's own, which is told to begin."""

    def __init__(self, on: bool = False) -> None:
        self.on = on

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None, trace_state=None):
        return SamplingResult(Decision.RECORD_AND_SAMPLE if self.on else Decision.DROP, attributes)

    def get_description(self) -> str:
        return "Switch"


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, Switch(on=False)])
def test_unsampled_sessions_make_no_spans_and_keep_their_chain(api, sampler):
    store = MemoryStore()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, store=store) as spans:
        first = api.respond()
        second = api.respond(previous_response_id=first.id)
        link = store.get_all([f"r:{second.id}"])[0]
    assert spans == []
    assert isinstance(link, SessionLink)
    assert (link.session_id, link.turn) == (first.id, 2)


def test_a_session_whose_first_turn_was_not_sampled_goes_on_when_the_sampler_begins(client):
    sampler = Switch()
    with capture_spans(tracer_provider=TracerProvider(sampler=sampler, shutdown_on_exit=False)) as spans:
        first = client.responses.create(model="m", input="x")
        sampler.on = True
        client.responses.create(model="m", input="x", previous_response_id=first.id)
    (turn,) = spans
    assert (turn.attributes["session.id"], turn.attributes["llm_session.turn"]) == (first.id, 2)


class Chosen(Sampler):
    """Samples one session, by what a root says at its creation."""

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None, trace_state=None):
        chosen = (attributes or {}).get("session.id") == "chosen"
        return SamplingResult(Decision.RECORD_AND_SAMPLE if chosen else Decision.DROP, attributes)

    def get_description(self) -> str:
        return "Chosen"


@pytest.mark.parametrize("sampler", [Chosen(), ParentBased(Chosen())])
def test_a_custom_sampler_sees_the_session_of_root_and_turns(client, sampler):
    with capture_spans(tracer_provider=TracerProvider(sampler=sampler, shutdown_on_exit=False)) as spans:
        for name in ("chosen", "other", "chosen"):
            ask(client, name)
    assert [span.name for span in spans] == ["session", "chat m", "chat m"]
    assert {span.attributes["session.id"] for span in spans} == {"chosen"}


def test_whoever_loses_the_claim_comes_to_the_same_decision(quick_client):
    class Lost(MemoryStore):
        def claim(self, key: str) -> bool:
            return False

    def sampled(store: MemoryStore) -> set[Any]:
        sampler = ParentBasedTraceIdRatio(0.5)
        with capture_spans(tracer_provider=TracerProvider(sampler=sampler, shutdown_on_exit=False), store=store) as s:
            for number in range(40):
                ask(quick_client, f"s{number}")
        return {span.attributes["session.id"] for span in s if span.name != "session"}

    assert 0 < len(sampled(Lost())) < 40
    assert sampled(Lost()) == sampled(MemoryStore())
