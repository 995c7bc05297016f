"""Roots can be told apart: by their names, and are found whatever they are named."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any

import pytest
from opentelemetry.context import attach, get_current, set_value
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from session_kit import a_process, by_kind, calls
from traces_kit import Elsewhere

from otel_llm_sessions import session
from otel_llm_sessions.testing import capture_spans

NAME = "llm_session.name"
ROOT = "llm_session.root"


def roots(spans: Any) -> list[ReadableSpan]:
    return [span for span in spans if span.attributes.get(ROOT) is True]


def name_in(span: Any) -> str | None:
    """What a span says the session's name is."""
    name: str | None = span.attributes.get(NAME)
    return name


def test_a_name_stands_on_root_turns_markers_and_everything_inside(api):
    with a_process() as (spans, tracer):
        with session("X", name="refund"):
            api.chat()
            with tracer.start_as_current_span("tool"):
                api.chat()
        api.chat(metadata={"session_id": "Y"})
    everywhere = {"session refund": ["refund"], "chat": ["refund"] * 2 + [None], "tool": ["refund"]}
    assert by_kind(spans, name_in) == {**everywhere, "session": [None]}


def test_a_marker_has_the_name(api):
    with a_process() as (spans, tracer), tracer.start_as_current_span("request"), session("X", name="refund"):
        api.chat()
    assert by_kind(spans, name_in) == {
        "session refund": ["refund"],
        "chat": ["refund"],
        "turn": ["refund"],
        "request": [None],
    }


def test_roots_are_found_whatever_they_are_named(api):
    with capture_spans(max_turns=1, root_name="talk {name} {id}") as spans:
        with session("X", name="refund"):
            api.chat()
            api.chat()
        chain = api.respond()
    found = {(root.attributes["llm_session.part"], root.name) for root in roots(spans)}
    assert found == {(1, "talk refund X"), (2, "talk refund X continued"), (1, f"talk {chain.id}")}
    assert all(root.parent is None and root.attributes["session.id"] for root in roots(spans))


def test_a_root_whose_call_failed_before_it_had_an_id_is_no_sessions(client):
    with capture_spans(root_name="talk {id}") as spans:
        with pytest.raises(Exception, match="429"):
            client.responses.create(model="m", input="x", extra_headers={"x-loopback-mode": "status=429"})
    (root,) = [span for span in spans if span.parent is None]
    assert root.name == "no session"
    assert not {ROOT, "session.id"} & set(root.attributes)


def test_an_inner_block_of_the_same_session_keeps_the_name_and_one_of_another_does_not(api):
    with capture_spans() as spans, session("X", name="refund"):
        with session("X"):
            api.chat()
        with session("X", name="complaint"):
            api.chat()
        with session("Y"):
            api.chat()
        api.chat(metadata={"session_id": "Z"})
        api.chat(metadata={"session_id": "X"})
    said = [(span.attributes["session.id"], name_in(span)) for span in calls(spans)]
    assert said == [("X", "refund"), ("X", "complaint"), ("Y", None), ("Z", None), ("X", "refund")]


def test_what_another_mechanism_names_inside_has_no_name(api):
    with a_process() as (spans, tracer), session("X", name="refund"):
        outer = get_current()
        attach(set_value("session.id", "Y"))  # OpenInference's using_session, which ``session()`` is nearer than
        tracer.start_span("tool", attributes={"session.id": "Y"}).end()
        attach(outer)
    assert by_kind(spans, name_in)["tool"] == [None]


@pytest.mark.parametrize("how", ["a decorator", "async"])
def test_a_name_works_in_each_form_of_a_block(client, how):
    import asyncio

    async def inside() -> None:
        async with session("X", name="refund"):
            client.chat.completions.create(model="m", messages=[])

    @session("X", name="refund")
    def decorated() -> None:
        client.chat.completions.create(model="m", messages=[])

    with capture_spans() as spans:
        decorated() if how == "a decorator" else asyncio.run(inside())
    assert by_kind(spans, name_in) == {"session refund": ["refund"], "chat": ["refund"]}


def test_a_job_takes_the_name_along_with_its_session(client):
    def job() -> None:
        client.chat.completions.create(model="m", messages=[])

    with capture_spans() as spans, ThreadPoolExecutor(1) as pool:
        with session("X", name="refund"):
            pool.submit(job).result()
        with session("Y"):
            pool.submit(job).result()
        pool.submit(job).result()
    assert by_kind(spans, name_in) == {"session refund": ["refund"], "session": [None], "chat": ["refund", None, None]}


class Label(str, Enum):
    REFUND = "refund"


@pytest.mark.parametrize("name", ["x" * 256, "é {id}", "", Label.REFUND], ids=["long", "odd", "empty", "enum"])
def test_what_is_printable_and_no_longer_than_256_characters_is_a_name(api, name):
    with capture_spans() as spans, session("X", name=name):
        api.chat()
    plain = str.__str__(name)
    (root,) = roots(spans)
    assert (root.name, root.attributes.get(NAME)) == (f"session {plain}".strip(), plain or None)


@pytest.mark.parametrize("name", ["x" * 257, "a\nb", "\ud800", 7, b"x", ["x"]], ids=ascii)
def test_what_is_no_name_is_refused_at_once(name):
    with pytest.raises(ValueError, match="name=.* is not valid: expected a printable string of at most 256"):
        session("X", name=name)


@pytest.mark.usefixtures("patient")
def test_the_turn_after_has_the_name_in_another_process_too(client, tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    with capture_spans(store=url, max_turns=2), session("X", name="refund"):
        client.responses.create(model="m", input="x")
        first = client.responses.create(model="m", input="x")
    with capture_spans(store=url, max_turns=2) as spans:
        client.responses.create(model="m", input="x", previous_response_id=first.id)
        client.chat.completions.create(model="m", messages=[], extra_headers={"x-session-id": "X"})
    assert by_kind(spans, name_in) == {"session refund continued": ["refund"], "chat": ["refund", "refund"]}


class ByName(Sampler):
    """Decides by all that it is told of a span, as samplers do that go by rules."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        self.asked.append((trace_id, name, kind, dict(attributes or {}), list(links or ())))
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return "ByName"


def test_each_process_asks_its_sampler_the_same_whatever_it_calls_the_session(client):
    """Otherwise one would record turns of a session that the other drops."""
    asked = []
    for settings, name, by in (
        ({}, "refund", "block"),
        ({"root_name": "{id}"}, None, "block"),
        ({"store": Elsewhere()}, None, "header"),
        ({"store": Elsewhere(), "root_name": "talk"}, "complaint", "block"),
    ):
        sampler = ByName()
        provider = TracerProvider(sampler=ParentBased(sampler), shutdown_on_exit=False)
        with capture_spans(tracer_provider=provider, **settings):
            if by == "header":
                client.chat.completions.create(model="m", messages=[], extra_headers={"x-session-id": "X"})
            else:
                with session("X", name=name):
                    client.chat.completions.create(model="m", messages=[])
        asked.append(sampler.asked)
    assert asked[0] == asked[1] == asked[2] == asked[3]
    ((_, name, _, attributes, _),) = asked[0]
    assert (name, attributes) == ("session", {"session.id": "X", ROOT: True, "llm_session.part": 1})


class Forgetting(Sampler):
    """Drops the attributes of roots, as ``composite_sampler`` of opentelemetry-sdk 1.45 does."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_AND_SAMPLE)

    def get_description(self) -> str:
        return "Forgetting"


def test_a_root_is_found_also_if_its_sampler_drops_what_it_was_told(client):
    provider = TracerProvider(sampler=ParentBased(Forgetting(), local_parent_sampled=ALWAYS_ON), shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider) as spans, session("X", name="refund"):
        client.chat.completions.create(model="m", messages=[])
    (root,) = roots(spans)
    assert root.attributes == {
        "session.id": "X",
        ROOT: True,
        "llm_session.part": 1,
        "llm_session.source": "context",
        NAME: "refund",
    }
