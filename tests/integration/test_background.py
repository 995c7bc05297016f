"""Responses that are made in the background: who asks for one, fetches it and goes on from it is in one session."""

from __future__ import annotations

from typing import Any

import pytest
from traces_kit import linked, only, ref

from otel_llm_sessions import session
from otel_llm_sessions.testing import capture_spans

UNFINISHED = ("queued", "in_progress")


def fetched(api: Any, response_id: str, how: str) -> Any:
    """Fetch a response in one of the ways that the client has."""
    responses = api.client.responses
    if how == "streamed":
        return api.read(api.retrieve(response_id, stream=True))[-1].response
    if how == "raw":
        return api.finish(responses.with_raw_response.retrieve(response_id)).parse()
    if how == "streaming response":
        return api.parsed(responses.with_streaming_response.retrieve(response_id))
    return api.retrieve(response_id)


def until_done(api: Any, made: Any, how: str = "plain") -> Any:
    while made.status in UNFINISHED:
        made = fetched(api, made.id, how)
    return made


@pytest.mark.parametrize("how", ["plain", "raw", "streaming response", "streamed"])
@pytest.mark.parametrize("traces", ["session", "turn"])
def test_a_response_that_is_fetched_until_it_is_done_and_the_turn_after_it_are_one_session(api, traces, how):
    with capture_spans(traces=traces) as spans:
        made = api.respond(background=True)
        done = until_done(api, made, how)
        api.respond(previous_response_id=done.id)
    first, *fetches, second = [span for span in spans if span.name != "session"]
    assert {span.name for span in fetches} == {"fetch_response"}
    assert {span.attributes["session.id"] for span in spans} == {made.id}
    assert [first.attributes["llm_session.turn"], second.attributes["llm_session.turn"]] == [1, 2]
    assert first.attributes["gen_ai.response.status"] == "queued"
    assert first.end_time <= fetches[0].start_time, "it ends when create() returns"
    statuses = [span.attributes["gen_ai.response.status"] for span in fetches]
    assert statuses == (["completed"] if how == "streamed" else ["in_progress", "completed"])
    for span in fetches:
        assert not [name for name in span.attributes if "usage" in name or name == "llm_session.turn"]


def test_the_next_turn_links_to_the_first_and_a_fetch_is_none(api, traced):
    made = api.respond(background=True)
    until_done(api, made)
    api.respond(previous_response_id=made.id)
    first, second = traced.named("chat")
    root = only(traced.named("session"))
    assert linked(second, "previous_turn") == [ref(first)]
    below = [(span.trace_id, span.parent_id) for span in traced.named("fetch_response")]
    assert below == [ref(root)] * 2
    assert not traced.named("turn")


def test_under_a_span_a_fetch_stays_there_and_leaves_no_marker(api, traced, tracer):
    with tracer.start_as_current_span("request"):
        made = api.respond(background=True)
        until_done(api, made)
        api.respond(previous_response_id=made.id)
    request = only(traced.named("request"))
    assert {(span.trace_id, span.parent_id) for span in traced.named("fetch_response")} == {ref(request)}
    assert len(traced.named("turn")) == 2


def test_a_stream_in_the_background_that_is_left_is_taken_up_again(api, spans):
    events = api.read(api.respond(background=True, stream=True), at_most=3)
    response_id, seen = events[0].response.id, events[-1].sequence_number
    rest = api.read(api.retrieve(response_id, stream=True, starting_after=seen))
    assert rest[-1].type == "response.completed"
    api.respond(previous_response_id=response_id)
    left, taken_up, after = [span for span in spans if span.name != "session"]
    assert {span.attributes["session.id"] for span in spans} == {response_id}
    assert not left.status.status_code.value, "that nobody reads on is no error"
    assert taken_up.attributes["gen_ai.request.stream_cursor"] == str(seen)
    assert after.attributes["llm_session.turn"] == 2


def test_a_named_session_is_that_of_its_fetches_also_from_outside(api, spans):
    with session("mine"):
        made = api.respond(background=True)
    until_done(api, made)
    fetches = [span for span in spans if span.name == "fetch_response"]
    assert [span.attributes["session.id"] for span in fetches] == ["mine"] * 2
    assert [span.attributes["llm_session.source"] for span in fetches] == ["chain"] * 2


def test_a_fetch_that_fails_is_its_own_failure_only(api, server, spans):
    made = api.respond(background=True)
    with pytest.raises(Exception, match="500|error"):
        api.retrieve(made.id, extra_headers={"x-loopback-mode": "status=500"})
    api.respond(previous_response_id=made.id)
    failed = only([span for span in spans if span.name == "fetch_response"])
    assert failed.attributes["session.id"] == made.id
    assert failed.attributes["error.type"] == "openai.InternalServerError"
    assert {span.attributes["session.id"] for span in spans} == {made.id}


@pytest.mark.usefixtures("patient")
def test_another_process_fetches_it_and_goes_on(api, shared_url, exported):
    with capture_spans(tracer_provider=exported.provider, store=shared_url):
        made = api.respond(background=True)
    with capture_spans(tracer_provider=exported.provider, store=shared_url):
        until_done(api, made)
    with capture_spans(tracer_provider=exported.provider, store=shared_url):
        api.respond(previous_response_id=made.id)
    assert {span.attributes["session.id"] for span in exported.spans} == {made.id}
    assert [span.attributes["llm_session.turn"] for span in exported.named("chat")] == [1, 2]
    assert len(exported.named("session")) == 1


def test_without_a_store_the_fetch_tells_another_process_that_it_began_its_session(api, spans, elsewhere):
    made = elsewhere(background=True)
    for _ in range(2):
        api.retrieve(made)
    api.respond(previous_response_id=made)
    turn = only([span for span in spans if span.name.startswith("chat")])
    assert {span.attributes["session.id"] for span in spans if span.name != "session"} == {made}
    assert (turn.attributes["llm_session.source"], turn.attributes["llm_session.turn"]) == ("chain", 2)
