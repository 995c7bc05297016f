"""Sessions that are opened inside others: their roots link to the root of the session around."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry.context import attach, detach, set_value
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import NoOpTracerProvider
from traces_kit import LINK, Elsewhere, linked, only, ref
from waiting import until

from otel_llm_sessions import session, session_trace_id
from otel_llm_sessions.testing import capture_spans

PARENT = {"x-parent-session-id": "A"}
CHILD = {"x-session-id": "B", **PARENT}
KIND = "parent_session"


def root_of(exported: Any, session_id: str) -> Any:
    return only([root for root in exported.named("session") if root.attributes["session.id"] == session_id])


def parents_of(exported: Any, session_id: str) -> list[tuple[str, str]]:
    """Where the root of a session says that it was opened."""
    return linked(root_of(exported, session_id), KIND)


# --- blocks -------------------------------------------------------------------------------------------------


def test_a_block_inside_another_links_its_root_to_the_other_sessions(api, traced):
    with session("A"):
        with session("B"):
            api.chat()
            api.respond()
        api.chat()
    assert parents_of(traced, "B") == [ref(root_of(traced, "A"))]
    assert parents_of(traced, "A") == []
    turns = [span for span in traced.named("chat") if span.attributes["session.id"] == "B"]
    assert [linked(turn, KIND) for turn in turns] == [[], []], "it is said once, where the session begins"


async def test_blocks_on_an_event_loop_do_too(async_client, traced):
    async with session("A"), session("B"):
        await async_client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    assert parents_of(traced, "B") == [ref(root_of(traced, "A"))]


def test_under_a_span_of_the_applications_the_root_that_the_first_call_opens_does(api, traced, tracer):
    with tracer.start_as_current_span("request"), session("A"):
        api.chat()
        with session("B"), session("B"):
            api.chat()
    assert parents_of(traced, "B") == [ref(root_of(traced, "A"))]


def test_a_call_that_names_another_session_than_its_place_opens_that_inside_the_places(api, traced):
    with session("A"):
        api.chat(metadata={"session_id": "B"})
        api.chat(metadata={"session_id": "A"})
    assert parents_of(traced, "B") == [ref(root_of(traced, "A"))]
    assert parents_of(traced, "A") == []


def test_jobs_and_generators_take_it_along(client, traced, tracer):
    def steps() -> Iterator[None]:
        with session("C"):
            yield
            ask(client)

    def ask(client: Any, *_: Any) -> None:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])

    with tracer.start_as_current_span("request"), session("A"):
        with session("B"), ThreadPoolExecutor(1) as pool:
            pool.submit(ask, client).result()
        list(steps())
    there = [(session_trace_id("A"), parents_of(traced, "B")[0][1])]
    assert parents_of(traced, "B") == parents_of(traced, "C") == there


def test_using_another_packages_block_around_counts_as_well(client, traced):
    token = attach(set_value("session.id", "A"))  # OpenInference's using_session
    try:
        with session("B"):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    finally:
        detach(token)
    assert [trace_id for trace_id, _ in parents_of(traced, "B")] == [session_trace_id("A")]


def test_nothing_is_its_own_parent(api, traced, tracer):
    with tracer.start_as_current_span("request"), session("A"), session("B"), session("A"):
        api.chat()
        api.chat(extra_headers={"x-session-id": "C", "x-parent-session-id": "C"})
    assert parents_of(traced, "A") == parents_of(traced, "C") == []


# --- headers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_header_names_the_parent_of_the_calls_session(api, traced, stream):
    api.chat(extra_headers={"x-session-id": "A"})
    for _ in range(2):
        reply = api.chat(extra_headers={"x-session-id": "B", "X-Parent-Session-Id": "A"}, stream=stream)
        if stream:
            api.read(reply)
    assert parents_of(traced, "B") == [ref(root_of(traced, "A"))]


def test_the_clients_own_headers_may_name_it(api, traced):
    api.with_options(default_headers=CHILD).chat()
    assert [trace_id for trace_id, _ in parents_of(traced, "B")] == [session_trace_id("A")]


def test_a_chain_begins_inside_the_session_that_its_first_turn_names(api, traced):
    first = api.respond(extra_headers=PARENT)
    api.respond(previous_response_id=first.id)
    api.chat(extra_headers={"x-session-id": "A"})
    assert parents_of(traced, first.id) == [ref(root_of(traced, "A"))]


def test_a_chain_whose_root_comes_late_still_says_it(api, traced, tracer):
    with tracer.start_as_current_span("request"):
        first = api.respond(extra_headers=PARENT)
    assert not traced.named("session")
    with tracer.start_as_current_span("request"):
        api.respond(previous_response_id=first.id)
    api.chat(extra_headers={"x-session-id": "A"})
    assert parents_of(traced, first.id) == [ref(root_of(traced, "A"))]


@pytest.mark.parametrize("spans", [{"headers": ["x-*-session-id"]}], indirect=True)
@pytest.mark.parametrize("headers", [{"x-parent-session-id": ""}, {"x-parent-session-id": "x" * 257}, PARENT])
def test_it_names_no_session_by_itself(api, spans, headers):
    api.chat(extra_headers=headers)
    assert [span.name for span in spans] == ["chat gpt-4o-mini"]
    assert "session.id" not in spans[0].attributes


# --- other processes ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
def test_another_process_that_opens_the_root_knows_it_by_the_store(api, exported, tracer, tmp_path):
    store = f"sqlite:///{tmp_path / 'sessions.db'}"
    with capture_spans(tracer_provider=exported.provider, store=store), tracer.start_as_current_span("request"):
        first = api.respond(extra_headers=PARENT)
    with capture_spans(tracer_provider=exported.provider, store=store), tracer.start_as_current_span("request"):
        api.respond(previous_response_id=first.id)
        api.chat(extra_headers={"x-session-id": "A"})
        until(lambda: len(exported.named("session")) == 2)  # what a busy machine's file answers late included
    assert parents_of(exported, first.id) == [ref(root_of(exported, "A"))]


def test_whoever_does_not_emit_the_root_says_nothing(api, exported):
    with capture_spans(tracer_provider=exported.provider, store=Elsewhere()), session("A"), session("B"):
        api.chat()
    assert not exported.named("session")


# --- samplers, providers, modes -----------------------------------------------------------------------------


class Asked(Sampler):
    """Samples all but one session, and remembers what it was asked."""

    def __init__(self, without: str = "") -> None:
        self.links: list[Any] = []
        self.sessions: list[str] = []
        self._without = without

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, kind: Any = None, attributes: Any = None, links: Any = None
    ) -> Any:
        self.links += links or ()
        self.sessions += [attributes["session.id"]] if name == "session" else []
        sampler = ALWAYS_OFF if (attributes or {}).get("session.id") == self._without else ALWAYS_ON
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        return "asked"


def test_the_sampler_is_asked_only_what_every_process_knows(client):
    sampler = Asked()
    with capture_spans(tracer_provider=TracerProvider(sampler=ParentBased(sampler), shutdown_on_exit=False)) as spans:
        with session("A"), session("B"):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    assert sampler.links == []
    assert sampler.sessions == ["A", "B"], "and about what is started, once"
    assert [link.context.trace_id for span in spans for link in span.links] == [int(session_trace_id("A"), 16)]


def test_a_parent_that_is_known_here_says_whether_its_trace_is_sampled(client):
    provider = TracerProvider(sampler=ParentBased(Asked(without="A")), shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider) as spans:
        for headers in ({"x-session-id": "A"}, CHILD):
            client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "x"}], extra_headers=headers
            )
    (link,) = [link for span in spans for link in span.links]
    assert not link.context.trace_flags.sampled


@pytest.mark.parametrize("provider", [TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False), None])
def test_where_nobody_sees_spans_nothing_happens(client, provider, ours):
    provider = provider or WithoutSpans()
    with capture_spans(tracer_provider=provider), session("A"), session("B"):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], extra_headers=CHILD)
        client.responses.create(model="m", input="x", extra_headers=PARENT)
    assert not ours


class WithoutSpans(NoOpTracerProvider):
    def add_span_processor(self, processor: Any) -> None:
        """Nothing to process."""


@pytest.mark.parametrize("spans", [{"traces": "turn"}], indirect=True)
def test_one_turn_one_trace_has_no_roots_to_link(api, spans):
    with session("A"), session("B"):
        api.chat(extra_headers=PARENT)
        api.respond(extra_headers=PARENT)
    assert [link for span in spans for link in span.links if link.attributes[LINK] == KIND] == []


def test_a_parent_that_nobody_has_met_is_linked_without_asking_the_sampler_about_it(client):
    sampler = Asked()
    with capture_spans(tracer_provider=TracerProvider(sampler=ParentBased(sampler), shutdown_on_exit=False)) as spans:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], extra_headers=CHILD)
    assert sampler.sessions == ["B"]
    assert [link.context.trace_id for span in spans for link in span.links] == [int(session_trace_id("A"), 16)]
