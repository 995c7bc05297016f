"""The provider's conversations: named by a request, by a reply, or by what was said of their items."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from session_kit import calls
from traces_kit import linked, only, ref

from otel_llm_sessions import session
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

CONVERSATION = f"conv_{uuid.uuid4().hex}"


class Kept(MemoryStore):
    """A store that outlives who uses it."""

    def close(self) -> None:
        """It is used again."""


def answer(server: Any, conversation: Any = CONVERSATION, stream: bool = False) -> None:
    """Let the server put the next response into a conversation that it thinks of itself."""
    made = {"id": f"resp_{uuid.uuid4().hex}", "object": "response", "status": "completed", "output": []}
    made["conversation"] = {"id": conversation}
    if not stream:
        return server.script(made, path="/responses")
    events = [
        {"type": kind, "response": made, "sequence_number": 0} for kind in ("response.created", "response.completed")
    ]
    server.script_stream(
        [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events], path="/responses"
    )
    return None


# --- a reply that names one ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["plain", "stream", "raw"])
def test_a_reply_names_the_conversation_that_its_request_did_not(api, server, both_modes, how):
    answer(server, stream=how == "stream")
    if how == "raw":
        api.finish(api.client.responses.with_raw_response.create(model="m", input="x"))
    else:
        made = api.respond(stream=how == "stream")
        api.read(made) if how == "stream" else None
    answer(server)
    api.respond(conversation=CONVERSATION)
    first, second = calls(both_modes)
    for span in first, second:
        assert span.attributes["session.id"] == span.attributes["gen_ai.conversation.id"] == CONVERSATION
        assert span.attributes["llm_session.source"] == "conversation"
    assert [span.attributes["llm_session.turn"] for span in (first, second)] == [1, 2]
    assert [root.attributes["llm_session.source"] for root in both_modes if root.name == "session"] in (
        [],
        ["conversation"],
    )


def test_the_next_turn_goes_on_in_the_trace_that_the_first_began(api, server, traced):
    answer(server)
    made = api.respond()
    answer(server)
    api.respond(conversation=CONVERSATION)
    api.respond(previous_response_id=made.id, extra_headers={"x-loopback-mode": "json={}"})
    root = only(traced.named("session"))
    calls = traced.named("chat")
    assert [(span.trace_id, span.parent_id) for span in calls] == [ref(root)] * 3
    assert linked(calls[1], "previous_turn") == linked(calls[2], "previous_turn") == [ref(calls[0])]
    assert {span.attributes["session.id"] for span in traced.spans} == {CONVERSATION}


@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_that_only_its_reply_puts_into_a_conversation_is_the_next_one_there(api, server, traced, stream):
    for _ in range(3):
        answer(server, stream=stream)
        made = api.respond(stream=stream)
        api.read(made) if stream else None
    answer(server)
    api.respond(conversation=CONVERSATION)
    calls = traced.named("chat")
    assert [span.attributes["llm_session.turn"] for span in calls] == [1, 2, 3, 4]
    assert [linked(span, "previous_turn") for span in calls[1:]] == [[ref(span)] for span in calls[:-1]]
    root, *others = traced.named("session")
    assert root.attributes["llm_session.root"]
    assert [(span.name, "llm_session.root" in span.attributes) for span in others] == [("session continued", False)] * 2
    assert [linked(span, "session") for span in calls[1:3]] == [[ref(root)]] * 2
    assert [span.trace_id for span in traced.named("turn")] == [root.trace_id] * 2
    assert {span.attributes["session.id"] for span in traced.spans} == {CONVERSATION}


def test_where_spans_stay_where_they_are_it_is_the_next_one_too(api, server):
    with capture_spans(traces="turn") as spans:
        for _ in range(2):
            answer(server)
            api.respond()
    assert [span.attributes["llm_session.turn"] for span in spans] == [1, 2]
    assert len(calls(spans)[1].links) == 1


def test_one_that_may_be_anybodys_is_named_with_its_server(api, server, spans):
    answer(server, "conv_1")
    api.respond()
    named = calls(spans)[0].attributes
    assert named["session.id"].startswith("conv_1@127.0.0.1:")
    assert named["gen_ai.conversation.id"] == "conv_1"


@pytest.mark.parametrize("odd", ["", None, 7, [], {"id": ""}, {"id": "x" * 2000}, "\n"])
def test_what_is_no_conversation_names_none(api, server, spans, odd):
    answer(server, odd)
    made = api.respond()
    assert calls(spans)[0].attributes["session.id"] == made.id


def test_a_session_that_the_request_has_is_kept(api, server, spans):
    first = api.respond()
    answer(server)
    api.respond(previous_response_id=first.id)
    answer(server)
    with session("mine"):
        api.respond()
    assert [span.attributes["session.id"] for span in calls(spans)] == [first.id, first.id, "mine"]
    assert [span.attributes.get("gen_ai.conversation.id") for span in calls(spans)] == [
        None,
        CONVERSATION,
        CONVERSATION,
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_where_nobody_sees_the_call_its_session_goes_on(api, server, stream):
    store = Kept()
    with capture_spans(tracer_provider=TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False), store=store):
        answer(server, stream=stream)
        made = api.respond(stream=stream)
        api.read(made) if stream else None
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, store=store) as spans:
        with provider.get_tracer("the application's").start_as_current_span("request"):
            answer(server)
            api.respond(conversation=CONVERSATION)
    assert calls(spans)[0].attributes["llm_session.turn"] == 2
