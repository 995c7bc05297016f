"""A root's ``tracestate`` (``ot=th:8`` of a sampler) is carried on by all that stands below it, in every process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from loopback_client import THINKING
from openai import OpenAI
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import TraceState
from traces_kit import Elsewhere

from otel_llm_sessions import session
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

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


@contextmanager
def a_process(state: dict[str, str] = STATE, **settings: Any) -> Iterator[Any]:
    provider = TracerProvider(sampler=ParentBased(Stating(state)), shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, **settings) as spans:
        spans.tracer = provider.get_tracer("the application's")  # type: ignore[attr-defined]
        yield spans


def states(spans: list[ReadableSpan]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for span in spans:
        found.setdefault(span.name, []).append(dict(span.context.trace_state))
    return found


def ask(client: OpenAI, **arguments: Any) -> Any:
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], **arguments)


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
    with a_process() as spans:
        WAYS[way](client)
    assert states(spans) == {"session": [STATE], "chat m": [STATE, STATE]}


def test_it_goes_to_later_parts_and_their_turns(client):
    with a_process(max_turns=1) as spans:
        WAYS["named"](client)
    assert states(spans) == {"session": [STATE], "chat m": [STATE, STATE], "session continued": [STATE]}


def test_it_goes_to_markers_and_to_whatever_is_started_inside_of_a_block(client):
    with a_process() as spans:
        with session("X"):
            spans.tracer.start_span("tool").end()
        with spans.tracer.start_as_current_span("request"):
            ask(client, **NAMED)
    assert states(spans)["tool"] == states(spans)["turn"] == [STATE]


def test_a_first_turn_that_is_marked_after_the_fact_has_it(client):
    with a_process() as spans:
        with spans.tracer.start_as_current_span("request"):
            first = client.responses.create(model="m", input="x")
        client.responses.create(model="m", input="x", previous_response_id=first.id)
    assert states(spans)["turn"] == [STATE]


def test_below_a_root_that_another_process_emits_the_same_sampler_says_it(client):
    with a_process(store=Elsewhere()) as spans:
        ask(client, **NAMED)
    assert states(spans) == {"chat m": [STATE]}


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("way", ["named", "chain"])
def test_below_a_root_of_another_process_it_is_what_the_record_says(client, tmp_path, way):
    arguments = NAMED if way == "named" else {}
    url = f"sqlite:///{tmp_path}/store.db"
    with a_process(store=url) as first:
        before = client.responses.create(model="m", input="x", **arguments)
    with a_process({"ot": "th:c"}, store=url) as second:
        client.responses.create(model="m", input="x", previous_response_id=before.id)
    assert states(first)["session"] == [STATE]
    assert states(second) == {"chat m": [STATE]}


@pytest.mark.parametrize("way", ["named", "chain"])
@pytest.mark.usefixtures("thinks_meanwhile")
def test_it_travels_with_the_conversation(client, server, way):
    arguments = NAMED if way == "named" else {}
    with a_process(propagate="metadata") as first:
        before = client.responses.create(model="m", input="x", **arguments)
        before = client.responses.create(model="m", input="x", previous_response_id=before.id)
    assert server.requests[-1].body["metadata"]["tracestate"].endswith(",ot=th:8,acme@vendor=a b")
    with a_process({"ot": "th:c"}, provider_lookup=True) as second:
        client.responses.create(model="m", input="x", previous_response_id=before.id, **THINKING)
    assert states(first)["session"] == [STATE]
    assert states(second) == {"chat m": [{"ot": "th:c"}], "turn": [STATE]}


@pytest.mark.parametrize("own", [{}, {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}], ids=["", "its own"])
def test_a_gateway_is_sent_it_beside_the_traceparent_that_it_belongs_to(client, server, own):
    with a_process(propagate="headers"):
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
    with a_process({}, store=Poisoned(state)) as spans:
        WAYS["named"](client)
    assert states(spans) == {"session": [{}], "chat m": [{}, {}]}
    assert not caplog.records


def test_a_long_tracestate_is_carried_on_as_far_as_512_characters(client):
    long = {"ot": "th:8", **{f"v{number}": "x" * 100 for number in range(9)}}
    with a_process(long) as spans:
        ask(client, **NAMED)
    (carried,) = states(spans)["chat m"]
    assert list(carried) == ["ot", "v0", "v1", "v2", "v3"]
