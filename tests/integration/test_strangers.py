"""No two strangers in one session, whatever ids their servers give them (docs/architecture.md)."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from typing import Any

import pytest
from counting import CountingServer
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from waiting import until

from otel_llm_sessions import session_trace_id
from otel_llm_sessions.sessions.link import SpanRef
from otel_llm_sessions.sessions.names import name_of_response
from otel_llm_sessions.testing import CapturedSpans, capture_spans


@pytest.fixture
def two() -> tuple[CountingServer, CountingServer]:
    return CountingServer("tenant-a.test"), CountingServer("tenant-b.test:8080")


def calls(spans: CapturedSpans) -> list[Any]:
    return [span for span in spans if span.name == "chat m"]


def sessions(spans: CapturedSpans) -> list[Any]:
    return [span.attributes["session.id"] for span in calls(spans)]


def test_chains_on_two_servers_that_count_are_two_sessions_and_two_traces(two, both_modes):
    for server in two:
        server.respond(previous_response_id=server.respond())
    a, a2, b, b2 = sessions(both_modes)
    assert a == a2 != b == b2
    assert re.fullmatch(r"resp_1@tenant-a\.test~[0-9a-f]{8}", a)
    assert re.fullmatch(r"resp_1@tenant-b\.test:8080~[0-9a-f]{8}", b)
    first, second, third, fourth = (span.context.trace_id for span in calls(both_modes))
    assert first != third
    assert {first, second}.isdisjoint({third, fourth})


def test_nested_chains_have_that_name_in_their_root_their_marker_and_their_trace_id(two, spans):
    for number, server in enumerate(two, 1):
        request = NonRecordingSpan(SpanContext(number, number, is_remote=False, trace_flags=TraceFlags(1)))
        with use_span(request):
            server.respond(previous_response_id=server.respond())
    a, _, b, _ = sessions(spans)
    assert a != b
    for id_ in (a, b):
        of_session = [span for span in spans.of_session(id_) if span.name != "chat m"]
        assert {f"{span.context.trace_id:032x}" for span in of_session} == {session_trace_id(id_)}
        assert sorted(span.name.partition(" ")[0] for span in of_session) == ["session", "turn", "turn"]


def test_unknown_previous_responses_of_two_servers_are_two_sessions_and_go_on_as_them(two, both_modes):
    for server in two:
        server.respond(previous_response_id=server.respond(previous_response_id="resp_77"))
    a, a2, b, b2 = sessions(both_modes)
    assert a == a2 != b == b2
    assert a.startswith("resp_77@tenant-a.test~")
    assert [span.attributes["llm_session.source"] for span in calls(both_modes)] == ["chain_partial", "chain"] * 2


def test_conversations_of_two_servers_that_count_are_two_sessions(two, both_modes):
    for server in two:
        server.respond(conversation="conv_1")
        server.respond(conversation={"id": "conv_1"})
    assert sessions(both_modes) == ["conv_1@tenant-a.test"] * 2 + ["conv_1@tenant-b.test:8080"] * 2
    assert {span.attributes["gen_ai.conversation.id"] for span in calls(both_modes)} == {"conv_1"}
    assert [span.attributes["llm_session.turn"] for span in calls(both_modes)] == [1, 2, 1, 2]


def test_what_the_application_names_is_one_session_wherever_it_goes(two, both_modes):
    for server in two:
        server.respond(metadata={"session_id": "7"})
    assert sessions(both_modes) == ["7", "7"]


def test_an_id_that_holds_an_address_is_not_taken_for_that_servers(both_modes):
    here, there = CountingServer("tenant-a.test", first=123), CountingServer("tenant-b.test")
    here.respond()
    there.respond(previous_response_id="tenant-a.test:80:resp_123")
    a, b = sessions(both_modes)
    assert a != b
    assert calls(both_modes)[1].attributes["llm_session.source"] == "chain_partial"


def test_a_count_that_begins_again_begins_other_sessions(both_modes):
    server = CountingServer("a.test")
    server.respond(previous_response_id=server.respond())
    server.restart()
    server.respond(previous_response_id=server.respond())
    a, a2, b, b2 = sessions(both_modes)
    assert a == a2 != b == b2
    assert [span.attributes["llm_session.turn"] for span in calls(both_modes)] == [1, 2, 1, 2]


class Conversation:
    """One of many that go on at the same time."""

    def __init__(self, server: CountingServer, turns: int) -> None:
        self.server = server
        self.left = turns
        self.previous: str | None = None
        self.seen: list[str] = []

    def go_on(self, spans: CapturedSpans) -> None:
        """Make one turn, and note the session it was given."""
        given = {"previous_response_id": self.previous} if self.previous else {}
        self.previous = self.server.respond(**given)
        until(lambda: calls(spans))  # a store that is late keeps the end of a span back
        self.seen.append(calls(spans)[-1].attributes["session.id"])
        spans.clear()
        self.left -= 1


@pytest.mark.slow
@pytest.mark.parametrize(("traces", "store"), [("session", "memory://"), ("turn", "sqlite:///{}/db")])
def test_of_a_thousand_conversations_on_five_servers_that_count_none_are_merged(traces, store, tmp_path):
    draw = random.Random(7)
    servers = [CountingServer(f"{name}.test") for name in "abcde"]
    waiting = [Conversation(draw.choice(servers), draw.randint(1, 2)) for _ in range(1000)]
    everyone = list(waiting)
    with capture_spans(traces=traces, store=store.format(tmp_path)) as spans:
        going: list[Conversation] = []
        for at in range(10_000):
            if at == 600:
                servers[0].restart()
                # Nobody goes on with what the server has forgotten.
                going = [one for one in going if one.server is not servers[0] or not one.seen]
            if waiting and (len(going) < 20 or draw.random() < 0.3):
                going.append(waiting.pop())
            if not going:
                break
            conversation = draw.choice(going)
            conversation.go_on(spans)
            if not conversation.left:
                going.remove(conversation)
    assert not waiting
    by_session = defaultdict(set)
    for number, conversation in enumerate(everyone):
        assert len(set(conversation.seen)) == 1
        by_session[conversation.seen[0]].add(number)
    assert not [numbers for numbers in by_session.values() if len(numbers) > 1]


@pytest.mark.usefixtures("patient")
def test_who_shares_the_store_learns_the_name(tmp_path):
    server, found = CountingServer("a.test"), []
    for _ in range(2):  # two processes, as far as the store can tell
        with capture_spans(store=f"sqlite:///{tmp_path}/sessions.db") as spans:
            server.respond(**({"previous_response_id": "resp_1"} if found else {}))
            until(lambda: calls(spans))
            found += sessions(spans)
    assert found[0] == found[1]


def test_the_name_can_be_told_from_the_first_turns_span_which_travels_with_it(both_modes):
    CountingServer("a.test").respond()
    (call,) = calls(both_modes)
    span = SpanRef(call.context.trace_id, call.context.span_id, 1)
    assert call.attributes["session.id"] == name_of_response("resp_1", "a.test", span)
