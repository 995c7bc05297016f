"""A root's ``tracestate`` (``ot=th:8`` of a sampler) is carried on by all that stands below it, in every process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from loopback_client import THINKING
from openai import OpenAI
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import TraceState
from session_kit import a_process, ask, by_kind
from traces_kit import Elsewhere

from otel_llm_sessions import session
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import CapturedSpans

STATE = {"ot": "th:8", "acme@vendor": "a b"}


class Stating(Sampler):
    """Samples what is asked for, and says by which threshold, as ``composite_sampler`` does for roots."""

    def __init__(self, state: dict[str, str], decision: Decision = Decision.RECORD_AND_SAMPLE) -> None:
        self._state = TraceState(list(state.items()))
        self._decision = decision

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *args: Any, **kwargs: Any) -> SamplingResult:
        attributes = args[1] if len(args) > 1 else kwargs.get("attributes")
        return SamplingResult(self._decision, attributes, self._state)

    def get_description(self) -> str:
        return "Stating"


def stating(state: dict[str, str] = STATE, **settings: Any) -> AbstractContextManager[tuple[CapturedSpans, Any]]:
    """A process whose sampler gives each span a state."""
    return a_process(sampler=ParentBased(Stating(state)), **settings)


def state_of(span: ReadableSpan) -> dict[str, str]:
    return dict(span.context.trace_state)


NAMED: dict[str, Any] = {"metadata": {"session_id": "X"}}


def chain(client: OpenAI) -> None:
    first = client.responses.create(model="m", input="x")
    client.responses.create(model="m", input="x", previous_response_id=first.id)


def inside(client: OpenAI) -> None:
    with session("X"):
        ask(client)
        ask(client)


WAYS: dict[str, Callable[[OpenAI], None]] = {
    "named": lambda client: [ask(client, **NAMED) for _ in range(2)] and None,
    "a chain": chain,
    "a block": inside,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_roots_tracestate_goes_to_its_turns(client, way):
    with stating() as (spans, _):
        WAYS[way](client)
    assert by_kind(spans, state_of) == {"session": [STATE], "chat": [STATE, STATE]}


def test_it_goes_to_later_parts_and_their_turns(client):
    with stating(max_turns=1) as (spans, _):
        WAYS["named"](client)
    assert by_kind(spans, state_of) == {"session": [STATE], "chat": [STATE, STATE], "session continued": [STATE]}


def test_it_goes_to_markers_and_to_whatever_is_started_inside_of_a_block(client):
    with stating() as (spans, tracer):
        with session("X"):
            tracer.start_span("tool").end()
        with tracer.start_as_current_span("request"):
            ask(client, **NAMED)
    assert by_kind(spans, state_of)["tool"] == by_kind(spans, state_of)["turn"] == [STATE]


def test_a_first_turn_that_is_marked_after_the_fact_has_it(client):
    with stating() as (spans, tracer):
        with tracer.start_as_current_span("request"):
            first = client.responses.create(model="m", input="x")
        client.responses.create(model="m", input="x", previous_response_id=first.id)
    assert by_kind(spans, state_of)["turn"] == [STATE]


def test_below_a_root_that_another_process_emits_the_same_sampler_says_it(client):
    with stating(store=Elsewhere()) as (spans, _):
        ask(client, **NAMED)
    assert by_kind(spans, state_of) == {"chat": [STATE]}


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("way", ["named", "chain"])
def test_below_a_root_of_another_process_it_is_what_the_record_says(client, tmp_path, way):
    arguments = NAMED if way == "named" else {}
    url = f"sqlite:///{tmp_path}/store.db"
    with stating(store=url) as (first, _):
        before = client.responses.create(model="m", input="x", **arguments)
    with stating({"ot": "th:c"}, store=url) as (second, _):
        client.responses.create(model="m", input="x", previous_response_id=before.id)
    assert by_kind(first, state_of)["session"] == [STATE]
    assert by_kind(second, state_of) == {"chat": [STATE]}


@pytest.mark.parametrize("way", ["named", "chain"])
@pytest.mark.usefixtures("thinks_meanwhile")
def test_it_travels_with_the_conversation(client, server, way):
    arguments = NAMED if way == "named" else {}
    with stating(propagate="metadata") as (first, _):
        before = client.responses.create(model="m", input="x", **arguments)
        before = client.responses.create(model="m", input="x", previous_response_id=before.id)
    assert server.requests[-1].body["metadata"]["tracestate"].endswith(",ot=th:8,acme@vendor=a b")
    with stating({"ot": "th:c"}, provider_lookup=True) as (second, _):
        client.responses.create(model="m", input="x", previous_response_id=before.id, **THINKING)
    assert by_kind(first, state_of)["session"] == [STATE]
    assert by_kind(second, state_of) == {"chat": [{"ot": "th:c"}], "turn": [STATE]}


@pytest.mark.parametrize("own", [{}, {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}], ids=["", "its own"])
def test_a_gateway_is_sent_it_beside_the_traceparent_that_it_belongs_to(client, server, own):
    with stating(propagate="headers"):
        ask(client, **NAMED, extra_headers=own)
    sent = server.requests[-1].headers
    assert ("tracestate" in sent) is (not own)
    assert sent.get("tracestate", "ot=th:8,acme@vendor=a b") == "ot=th:8,acme@vendor=a b"


class Poisoned(MemoryStore):
    """A store whose records somebody else wrote."""

    def __init__(self, state: Any) -> None:
        super().__init__()
        self._state = state

    def get_all(self, keys: Any) -> list[SessionLink | None]:
        return [self._poisoned(link) for link in super().get_all(keys)]

    def _poisoned(self, link: SessionLink | None) -> SessionLink | None:
        if link is None or link.trace is None:
            return link
        return link._replace(trace=link.trace._replace(state=self._state))


@pytest.mark.parametrize("state", ["x", "a=1,a=2", "a=\0", "a=" + "x" * 600, "Ä=1"], ids=ascii)
def test_what_a_store_says_is_taken_only_if_it_is_a_tracestate(client, caplog, state):
    with stating({}, store=Poisoned(state)) as (spans, _):
        WAYS["named"](client)
    assert by_kind(spans, state_of) == {"session": [{}], "chat": [{}, {}]}
    assert not caplog.records


def test_a_long_tracestate_is_carried_on_as_far_as_512_characters(client):
    long = {"ot": "th:8", **{f"v{number}": "x" * 100 for number in range(9)}}
    with stating(long) as (spans, _):
        ask(client, **NAMED)
    (carried,) = by_kind(spans, state_of)["chat"]
    assert list(carried) == ["ot", "v0", "v1", "v2", "v3"]
