"""A long or old session goes on in further traces, each linked to the one before."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from traces_kit import LINK, ask, only

from otel_llm_sessions import session_trace_id
from otel_llm_sessions.testing import capture_spans

# --- long sessions ------------------------------------------------------------------------------------------


def parts_of(spans: Any) -> tuple[list[Any], dict[int, int]]:
    roots = sorted(filter(is_root, spans), key=lambda s: s.attributes["llm_session.part"])
    turns = Counter(s.attributes["llm_session.part"] for s in spans if s.name.startswith("chat"))
    return roots, dict(turns)


@pytest.mark.slow
def test_1200_turns_make_three_parts_each_linked_to_the_one_before(quick_client):
    with capture_spans() as spans:
        for _ in range(1200):
            ask(quick_client, "X")
    roots, turns = parts_of(spans)
    assert turns == {1: 500, 2: 500, 3: 200}
    assert_parts(roots, "X")


def is_root(span: Any) -> bool:
    return bool(span.attributes.get("llm_session.root"))


def assert_parts(roots: list[Any], id_: str) -> None:
    assert [root.name for root in roots] == ["session"] + ["session continued"] * (len(roots) - 1)
    assert [root.attributes["llm_session.part"] for root in roots] == list(range(1, len(roots) + 1))
    assert {root.attributes["session.id"] for root in roots} == {id_}
    for before, root in zip(roots, roots[1:]):
        part = root.attributes["llm_session.part"]
        assert f"{root.context.trace_id:032x}" == session_trace_id(id_, part=part)
        link = only(root.links)
        assert (link.context.trace_id, link.context.span_id) == (before.context.trace_id, before.context.span_id)
        assert link.attributes[LINK] == "session"


@pytest.mark.parametrize("turns", [1, 5, 6, 12])
def test_no_part_has_more_turns_than_allowed_and_none_is_begun_early(quick_client, turns):
    with capture_spans(max_turns=5) as spans:
        for _ in range(turns):
            ask(quick_client, "X")
    roots, counts = parts_of(spans)
    assert list(counts.values()) == [5] * (turns // 5) + [turns % 5] * bool(turns % 5)
    assert_parts(roots, "X")


def test_a_chain_continues_in_parts_too(client):
    with capture_spans(max_turns=2) as spans:
        first = previous = client.responses.create(model="m", input="x")
        for _ in range(4):
            previous = client.responses.create(model="m", input="x", previous_response_id=previous.id)
    roots, counts = parts_of(spans)
    assert counts == {None: 0, 1: 2, 2: 2, 3: 1} or counts == {1: 2, 2: 2, 3: 1}
    assert_parts(roots, first.id)


def test_parallel_turns_and_forks_overfill_no_part(client):
    with capture_spans(max_turns=5) as spans:
        first = client.responses.create(model="m", input="x")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: ask(client, "X"), range(24)))
            forks = range(11)
            list(
                pool.map(lambda _: client.responses.create(model="m", input="x", previous_response_id=first.id), forks)
            )
    for id_, turns in (("X", 24), (first.id, 12)):
        roots, counts = parts_of(spans.of_session(id_))
        # A part may stay short of a turn or two: a turn's number counts those of other processes too, at the most.
        assert sum(counts.values()) == turns
        assert max(counts.values()) == 5
        assert len(counts) == len(roots) <= turns / 3
        assert_parts(roots, id_)
        by_part = {root.attributes["llm_session.part"]: root.context.span_id for root in roots}
        for span in spans.of_session(id_):
            if not is_root(span):
                assert span.parent.span_id == by_part[span.attributes["llm_session.part"]]


def test_a_session_that_grows_old_continues_in_a_new_part(client):
    with capture_spans(max_age="50ms") as spans:
        ask(client, "X")
        begun = time.monotonic()
        while time.monotonic() - begun < 0.06:
            time.sleep(0.01)
        ask(client, "X")
    roots, counts = parts_of(spans)
    assert counts == {1: 1, 2: 1}
    assert_parts(roots, "X")


def test_markers_say_their_part(client, exported, tracer):
    with capture_spans(tracer_provider=exported.provider, max_turns=1):
        for _ in range(2):
            with tracer.start_as_current_span("request"):
                ask(client, "X")
    roots = {root.attributes["llm_session.part"]: root.span_id for root in exported.named("session")}
    assert [(m.attributes["llm_session.part"], m.parent_id) for m in exported.named("turn")] == sorted(roots.items())
