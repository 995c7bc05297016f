"""Which session a call belongs to (docs/sessions.md), through both clients over real HTTP."""

from __future__ import annotations

import hashlib

import pytest
from odd_kit import empty
from openai import Omit, OpenAI
from openinference.instrumentation import using_session
from opentelemetry import baggage
from opentelemetry.context import attach, detach
from opentelemetry.util.genai._conversation_context import with_conversation_id
from session_kit import attribute, calls, linked_to

from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

UNKNOWN = "resp_0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a6978"


@pytest.fixture(params=[{"traces": "turn"}, {"traces": "session"}], ids=lambda p: p["traces"])
def spans(request: pytest.FixtureRequest):
    with capture_spans(**request.param) as captured:
        yield captured


def test_litellms_chat_form_names_the_session_of_both_calls(api, spans):
    for _ in range(2):
        api.chat(extra_body={"metadata": {"litellm_session_id": "X"}})
    assert attribute(spans, "session.id") == ["X", "X"]
    assert attribute(spans, "llm_session.source") == ["metadata", "metadata"]
    assert attribute(spans, "llm_session.turn") == [1, 2]
    assert attribute(spans, "gen_ai.conversation.id") == ["X", "X"]
    first, second = calls(spans)
    assert linked_to(second) == [first.context.span_id]
    assert linked_to(first) == []


def test_litellms_responses_form_is_one_session_named_by_the_first_response(api, spans):
    first = api.respond()
    api.respond(previous_response_id=first.id)
    assert attribute(spans, "session.id") == [first.id, first.id]
    assert attribute(spans, "llm_session.source") == ["new", "chain"]
    assert attribute(spans, "llm_session.turn") == [1, 2]
    assert attribute(spans, "gen_ai.conversation.id") == [None, None]
    assert linked_to(calls(spans)[1]) == [calls(spans)[0].context.span_id]


def test_three_turns_and_a_fork_share_the_session(api, spans):
    first = api.respond()
    second = api.respond(previous_response_id=first.id)
    api.respond(previous_response_id=second.id)
    api.respond(previous_response_id=second.id)
    one, two, three, fork = calls(spans)
    assert attribute(spans, "session.id") == [first.id] * 4
    assert attribute(spans, "llm_session.turn") == [1, 2, 3, 3]
    assert linked_to(three) == linked_to(fork) == [two.context.span_id]
    assert linked_to(two) == [one.context.span_id]


def test_a_chain_inherits_an_explicit_session(api, spans):
    first = api.respond(metadata={"session_id": "mine"})
    api.respond(previous_response_id=first.id)
    assert attribute(spans, "session.id") == ["mine", "mine"]
    assert attribute(spans, "llm_session.source") == ["metadata", "chain"]
    assert attribute(spans, "llm_session.turn") == [1, 2]
    assert attribute(spans, "gen_ai.conversation.id") == ["mine", "mine"]


def test_an_explicit_session_wins_over_the_chain_and_still_links_to_the_previous_turn(api, spans):
    first = api.respond()
    api.respond(previous_response_id=first.id, metadata={"session_id": "mine"})
    one, two = calls(spans)
    assert attribute(spans, "session.id") == [first.id, "mine"]
    assert linked_to(two) == [one.context.span_id]
    assert len(linked_to(two, "other_session")) == 1


def test_an_unknown_previous_response_names_the_session(api, spans, server):
    for _ in range(2):
        server.script({"id": "resp_" + "ab12cd34ef56" * 4, "object": "response", "status": "completed", "output": []})
        api.respond(previous_response_id=UNKNOWN)
    assert attribute(spans, "session.id") == [UNKNOWN, UNKNOWN]
    assert attribute(spans, "llm_session.source") == ["chain_partial", "chain_partial"]


def test_a_first_turn_that_was_streamed_and_cut_after_response_created_is_remembered(api, spans):
    stream = api.respond(stream=True)
    created = api.read(stream, at_most=1)[0]
    api.respond(previous_response_id=created.response.id, extra_headers={"x-loopback-mode": "no_usage"})
    assert attribute(spans, "session.id") == [created.response.id] * 2
    assert attribute(spans, "llm_session.turn") == [1, 2]


def test_the_second_turn_may_start_before_the_first_stream_ends(api, spans):
    client_stream = api.respond(stream=True)
    iterator = _first_of(api, client_stream)
    api.respond(previous_response_id=iterator.response.id)
    api.read(client_stream)
    assert set(attribute(spans, "session.id")) == {iterator.response.id}
    assert sorted(attribute(spans, "llm_session.turn")) == [1, 2]


def _first_of(api, stream):
    if hasattr(stream, "__aiter__"):
        return api.finish(stream.__anext__())
    return next(stream)


def test_ids_of_470_characters_are_followed(api, spans):
    headers = {"x-loopback-mode": "long_ids"}
    first = api.respond(extra_headers=headers)
    second = api.respond(previous_response_id=first.id, extra_headers=headers)
    api.respond(previous_response_id=second.id, extra_headers=headers)
    assert len(first.id) == 470
    name = first.id[:24] + "~" + hashlib.sha256(first.id.encode()).hexdigest()[:32]
    assert attribute(spans, "session.id") == [name] * 3


@pytest.mark.parametrize("name", ["x-litellm-session-id", "X-Session-Id", "helicone-session-id", "x-litellm-trace-id"])
def test_request_headers_name_the_session(api, spans, name):
    api.chat(extra_headers={name: "h"}, extra_body={"session_id": "b", "metadata": {"session_id": "m"}})
    assert attribute(spans, "session.id") == ["h"]
    assert attribute(spans, "llm_session.source") == ["header"]


def test_default_headers_name_the_session_unless_a_request_overrides_or_omits_them(api, spans):
    api = api.with_options(default_headers={"x-session-id": "default"})
    api.chat()
    api.chat(extra_headers={"X-Session-ID": "own"})
    api.chat(extra_headers={"x-session-id": Omit()})
    assert attribute(spans, "session.id") == ["default", "own", None]


@pytest.mark.parametrize("name", ["litellm_session_id", "session_id", "litellm_trace_id"])
def test_the_body_names_the_session(api, spans, name):
    api.chat(extra_body={name: "b", "metadata": {"session.id": "m"}})
    api.respond(extra_body={name: 17})
    assert attribute(spans, "session.id") == ["b", "17"]
    assert attribute(spans, "llm_session.source") == ["body", "body"]


METADATA = ["session.id", "litellm_session_id", "session_id", "langfuse_session_id", "conversation_id", "thread_id"]


@pytest.mark.parametrize("position", range(len(METADATA)))
def test_metadata_names_the_session_in_the_order_of_the_keys(api, spans, position):
    api.chat(metadata={name: name for name in reversed(METADATA[position:])})
    assert attribute(spans, "session.id") == [METADATA[position]]


@pytest.mark.parametrize("value", ["", " ", "x" * 257, "a\nb", "\ud800", None, [], {}, True, {"id": "x"}])
def test_values_that_are_no_ids_are_ignored(api, spans, value):
    try:
        api.chat(extra_body={"metadata": {"session.id": value, "session_id": "good"}})
    except UnicodeEncodeError:
        pass  # as without us: such a string cannot be sent
    assert attribute(spans, "session.id") == ["good"]


def test_the_context_of_others_names_the_session(api, spans):
    with using_session("openinference"):
        api.chat()
    token = attach(with_conversation_id("genai"))
    api.chat()
    detach(token)
    for name in ("session.id", "gen_ai.conversation.id"):
        token = attach(baggage.set_baggage(name, f"bag {name}"))
        api.chat()
        detach(token)
    assert attribute(spans, "session.id") == ["openinference", "genai", "bag session.id", "bag gen_ai.conversation.id"]
    assert attribute(spans, "llm_session.source") == ["context", "context", "baggage", "baggage"]


@pytest.mark.parametrize("shape", [lambda id_: id_, lambda id_: {"id": id_}])
def test_the_conversation_names_the_session(api, spans, shape):
    conversation = api.finish(api.client.conversations.create())
    for _ in range(2):
        api.respond(conversation=shape(conversation.id))
    assert attribute(spans, "session.id") == [conversation.id] * 2
    assert attribute(spans, "llm_session.source") == ["conversation"] * 2
    assert attribute(spans, "gen_ai.conversation.id") == [conversation.id] * 2
    assert len(calls(spans)) == len(spans) - (spans[0].name == "session")


def test_a_chat_call_without_evidence_has_no_session(api, spans):
    api.chat()
    (span,) = spans
    assert not {"session.id", "llm_session.source", "llm_session.turn"} & set(span.attributes)


def test_a_fetched_response_belongs_to_its_session_and_is_no_turn(api, spans):
    first = api.respond()
    api.retrieve(first.id)
    fetch = spans[-1]
    assert fetch.name == "fetch_response"
    assert fetch.attributes["session.id"] == first.id
    assert "llm_session.turn" not in fetch.attributes


def test_a_retrieved_id_is_an_alias(api, spans, server):
    first = api.respond()
    alias = "resp_" + "0a1b2c3d4e5f" * 4
    server.script(empty(alias))
    api.retrieve(first.id)
    server.script({"id": "resp_" + "f0e1d2c3b4a5" * 4, "object": "response", "status": "completed", "output": []})
    api.respond(previous_response_id=alias)
    assert attribute(spans, "session.id") == [first.id, first.id]


def test_short_ids_of_two_servers_are_not_mixed_up(spans, server):
    from loopback import LoopbackServer

    headers = {"x-loopback-mode": "short_ids"}
    with (
        LoopbackServer() as other,
        OpenAI(base_url=server.base_url, api_key="x") as here,
        OpenAI(base_url=other.base_url, api_key="x") as there,
    ):
        first = here.responses.create(model="m", input="x", metadata={"session_id": "here"}, extra_headers=headers)
        other.script({"id": "resp_2", "object": "response", "status": "completed", "output": []})
        there.responses.create(model="m", input="x", previous_response_id=first.id)
    here_id, there_id = attribute(spans, "session.id")
    assert here_id == "here"
    assert there_id.startswith(f"{first.id}@{other.base_url.split('/')[2]}~")


def test_settings_change_where_a_session_is_looked_for(server, client):
    with capture_spans(headers="x-mine", body_keys=["chat"], metadata_keys="chat_id", traces="turn") as spans:
        client.chat.completions.create(model="m", messages=[], extra_headers={"X-Mine": "1"})
        client.chat.completions.create(model="m", messages=[], extra_body={"chat": "2"})
        client.chat.completions.create(model="m", messages=[], extra_body={"metadata": {"chat_id": "3"}})
        client.chat.completions.create(model="m", messages=[], extra_body={"metadata": {"session_id": "4"}})
    assert attribute(spans, "session.id") == ["1", "2", "3", None]


def test_derived_ids_are_conversation_ids_only_when_asked(client):
    with capture_spans(conversation_id="always", traces="turn") as spans:
        first = client.responses.create(model="m", input="x")
    assert spans[0].attributes["gen_ai.conversation.id"] == first.id


def test_a_turn_whose_session_nobody_can_tell_keeps_the_key_of_the_turn_before_it(api, server):
    store = MemoryStore()
    second, third = (f"resp_{hashlib.sha256(word).hexdigest()[:48]}" for word in (b"second", b"third"))
    with capture_spans(store=store):
        for asked, id_ in ((UNKNOWN, second), (second, third)):
            server.script(empty(id_))
            api.respond(previous_response_id=asked)
    left = store.get_all([f"r:{second}", f"r:{third}"])
    assert [link.source for link in left] == ["chain_partial", "chain_partial"]
    assert [link.before for link in left] == [f"r:{UNKNOWN}", f"r:{second}"]
