"""What is said of a conversation's items under ``/conversations`` ties the turns that only echo those items to it."""

from __future__ import annotations

import json
import uuid
from typing import Any

import openai
import pytest
from held_backend import HeldBackend
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from session_kit import calls, found_of
from store_kit import until
from traces_kit import linked, only, ref

from otel_llm_sessions import session, session_trace_id
from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.testing import capture_spans

HELLO = {"type": "message", "role": "user", "content": "Hello"}


def dicts(items: Any) -> list[Any]:
    """Items as an application echoes them."""
    return [item.to_dict(warnings=False) for item in items]


class Talk:
    """The application's way with conversations, by either client."""

    def __init__(self, api: Any, how: str = "plain") -> None:
        self._api = api
        self._conversations = api.client.conversations
        self._how = how

    def made(self, **arguments: Any) -> str:
        return str(self._done(self._conversations, "create", **arguments).id)

    def add(self, talk: str, *items: Any) -> list[Any]:
        return dicts(self._done(self._conversations.items, "create", conversation_id=talk, items=items).data)

    def items(self, talk: str, **arguments: Any) -> list[Any]:
        arguments = {"conversation_id": talk, "order": "asc", **arguments}
        if self._how == "plain":
            return dicts(self._api.finish(self._all(self._conversations.items.list(**arguments))))
        return dicts(self._done(self._conversations.items, "list", **arguments).data)

    def _all(self, pages: Any) -> Any:
        if not hasattr(pages, "__aiter__"):
            return list(pages)

        async def every() -> list[Any]:
            return [item async for item in pages]

        return every()

    def _done(self, resource: Any, name: str, **arguments: Any) -> Any:
        if self._how == "raw":
            raw = getattr(resource.with_raw_response, name)(**arguments)
            return self._api.finish(raw).parse()
        if self._how == "streaming response":
            return self._api.parsed(getattr(resource.with_streaming_response, name)(**arguments))
        return self._api.finish(getattr(resource, name)(**arguments))


@pytest.fixture
def talk(api: Any) -> Talk:
    return Talk(api)


# --- ties ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["plain", "raw", "streaming response"])
def test_a_turn_that_only_echoes_items_that_were_added_is_the_conversations(api, both_modes, how):
    talk = Talk(api, how)
    id_ = talk.made()
    added = talk.add(id_, HELLO)
    api.respond(input=added)
    assert found_of(both_modes) == [(id_, "item", 1)]
    assert calls(both_modes)[0].attributes["gen_ai.conversation.id"] == id_


@pytest.mark.parametrize("how", ["plain", "raw", "streaming response"])
def test_the_turns_after_it_go_on_from_what_is_listed(api, spans, how):
    talk = Talk(api, how)
    id_ = talk.made()
    talk.add(id_, HELLO)
    for _ in range(3):
        made = api.respond(input=talk.items(id_))
        talk.add(id_, {"role": "assistant", "content": made.output_text}, HELLO)
    assert found_of(spans) == [(id_, "item", number) for number in (1, 2, 3)]


def test_it_stands_in_the_trace_of_the_conversation(api, talk, traced):
    id_ = talk.made()
    api.respond(input=talk.add(id_, HELLO))
    api.respond(input=talk.items(id_))
    api.respond(conversation=id_)
    root = only(traced.named("session"))
    calls = traced.named("chat")
    assert root.trace_id == session_trace_id(id_)
    assert [(span.trace_id, span.parent_id) for span in calls] == [ref(root)] * 3
    assert [linked(span, "previous_turn") for span in calls] == [[], [ref(calls[0])], [ref(calls[1])]]


def test_items_of_turns_that_name_the_conversation_are_its_next_turns_too(api, talk, spans):
    id_ = talk.made()
    api.respond(conversation=id_)
    api.respond(conversation=id_)
    api.respond(input=talk.items(id_))
    assert found_of(spans) == [(id_, "conversation", 1), (id_, "conversation", 2), (id_, "item", 3)]


def test_a_conversation_that_is_made_with_items_has_them(api, talk, spans):
    item = {**HELLO, "id": f"msg_{uuid.uuid4().hex}", "status": "completed"}
    id_ = talk.made(items=[item])
    api.respond(input=[item])
    assert found_of(spans) == [(id_, "item", 1)]


def test_each_page_of_a_list_counts(api, talk, spans):
    with suppress_instrumentation():
        id_ = talk.made()
        for number in range(7):
            talk.add(id_, {"role": "user", "content": str(number)})
    listed = talk.items(id_, limit=3)
    assert len(listed) == 7
    for item in listed:
        api.respond(input=[item])
    assert {(session_id, source) for session_id, source, _ in found_of(spans)} == {(id_, "item")}


def test_items_that_a_server_names_anew_are_known_by_both_names(api, server, talk, spans):
    id_, own, given = talk.made(), f"msg_{uuid.uuid4().hex}", f"msg_{uuid.uuid4().hex}"
    server.script({"object": "list", "data": [{**HELLO, "id": given}], "has_more": False}, path="/items")
    talk.add(id_, {**HELLO, "id": own, "status": "completed"})
    api.respond(input=[{**HELLO, "id": own}])
    api.respond(input=[{**HELLO, "id": given}])
    assert [session_id for session_id, _, _ in found_of(spans)] == [id_, id_]


def test_tool_calls_are_items_like_others(api, talk, spans):
    id_, call_id = talk.made(), f"call_{uuid.uuid4().hex[:24]}"
    call = {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"}
    talk.add(id_, call)
    api.respond(input=[HELLO, call, {"type": "function_call_output", "call_id": call_id, "output": "7"}])
    assert found_of(spans) == [(id_, "item", 1)]


def test_a_chain_that_is_put_into_a_conversation_goes_on_as_that(api, talk, spans):
    made = api.respond()
    id_ = talk.made(items=dicts(made.output))
    api.respond(input=dicts(made.output))
    assert [session_id for session_id, _, _ in found_of(spans)] == [made.id, id_]


# --- strangers ----------------------------------------------------------------------------------------------


def test_ids_that_may_be_anybodys_tie_nothing(api, server, talk, spans):
    item = {**HELLO, "id": "msg_1", "status": "completed"}
    talk.add(talk.made(), item)
    made = api.respond(input=[HELLO, item])
    assert found_of(spans) == [(made.id, "new", 1)]


def test_two_conversations_stay_apart(api, talk, spans):
    ids = [talk.made() for _ in range(2)]
    items = {id_: talk.add(id_, HELLO) for id_ in ids}
    for _ in range(2):
        for id_ in ids:
            api.respond(input=items[id_] + talk.items(id_))
    assert [session_id for session_id, _, _ in found_of(spans)] == ids * 2


def test_a_session_that_the_application_names_is_stronger(api, talk, spans):
    id_ = talk.made()
    with session("mine"):
        api.respond(input=talk.add(id_, HELLO))
    assert found_of(spans) == [("mine", "context", 1)]
    assert not [link for span in spans for link in span.links]


# --- nothing else -------------------------------------------------------------------------------------------


def test_the_requests_themselves_leave_no_span_no_metric_and_nothing_on_the_wire(api, server):
    reader = InMemoryMetricReader()
    with capture_spans(
        meter_provider=MeterProvider([reader]), propagate=["metadata", "headers", "litellm"], provider_lookup=True
    ) as spans:
        talk = Talk(api)
        with session("mine"):
            id_ = talk.made()
            talk.add(id_, HELLO)
            talk.items(id_)
    assert [span.name for span in spans] == ["session"], "which the block opens"
    assert reader.get_metrics_data() is None
    for request in server.requests:
        assert not {"traceparent", "tracestate", "baggage"} & request.headers.keys()
        assert not (request.body or {}).keys() - {"items"}


def test_what_is_not_of_items_passes_untouched(api, talk, spans):
    client = api.client.conversations
    id_ = talk.made()
    (item,) = talk.add(id_, HELLO)
    for request in (
        lambda: client.retrieve(id_),
        lambda: client.update(id_, metadata={"a": "b"}),
        lambda: client.items.retrieve(item["id"], conversation_id=id_),
        lambda: client.items.delete(item["id"], conversation_id=id_),
        lambda: client.delete(id_),
    ):
        api.finish(request())
    assert not spans


def test_spans_of_others_stay_where_they_are(client, exported, server):
    tracer = exported.provider.get_tracer("the application's")
    with capture_spans(tracer_provider=exported.provider):
        with tracer.start_as_current_span("request") as around:
            with client.conversations.with_streaming_response.create() as response:
                with tracer.start_as_current_span("inside") as inside:
                    response.read()
    assert inside.parent.span_id == around.get_span_context().span_id
    assert [span.name for span in exported.spans] == ["request", "inside"]


def test_without_instrumentation_nothing_is_learned(api, talk, spans):
    with suppress_instrumentation():
        items = talk.add(talk.made(), HELLO)
    made = api.respond(input=items)
    assert found_of(spans) == [(made.id, "new", 1)]


# --- odd servers --------------------------------------------------------------------------------------------

ODD = [
    b"",
    b"<html></html>",
    {"message": "Success"},
    {"data": None},
    {"data": {}},
    {"data": [None, 7, "x", [], {"id": None}, {"id": 7}, {"id": "\n"}, {"id": "x" * 5000}, {"type": []}]},
    {"id": None},
    {"id": 7},
    {"id": "x" * 5000},
    [],
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: json.dumps(odd)[:30] if not isinstance(odd, bytes) else repr(odd))
def test_odd_replies_teach_nothing_and_fail_nothing_of_ours(api, server, spans, ours, odd):
    conversations = api.client.conversations
    for request in (
        lambda: conversations.create(),
        lambda: conversations.items.create("conv_1", items=[HELLO]),
        lambda: conversations.items.list("conv_1"),
        lambda: conversations.items.with_raw_response.list("conv_1"),
    ):
        server.script(odd)
        try:
            api.finish(request())
        except (openai.APIError, AttributeError, TypeError, ValueError):
            pass  # as without us
    assert not ours
    assert not spans


@pytest.mark.parametrize("mode", ["status=500", "close", "break=0"])
def test_a_failure_is_the_applications(api, talk, spans, ours, mode):
    id_ = talk.made()
    with pytest.raises(openai.APIError):
        api.finish(api.client.conversations.items.create(id_, items=[HELLO], extra_headers={"x-loopback-mode": mode}))
    assert not ours
    assert not spans


# --- other processes ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
def test_another_process_knows_it_by_the_store(api, shared_url):
    with capture_spans(store=shared_url):
        id_ = Talk(api).made()
        items = Talk(api).add(id_, HELLO)
    with capture_spans(store=shared_url) as spans:
        api.respond(input=items)
    assert found_of(spans) == [(id_, "item", 1)]
    with capture_spans(store=shared_url) as spans:
        api.respond(input=Talk(api).items(id_))
    assert found_of(spans) == [(id_, "item", 2)]


def test_a_store_that_answers_late_is_heard_all_the_same(api, talk, proxy):
    proxy.delay = 0.1
    with capture_spans(store=proxy.url) as spans:
        id_ = talk.made()
        talk.add(id_, HELLO)
        for number in range(3):
            made = api.respond(input=talk.items(id_))
            until(lambda number=number: len(calls(spans)) > number)  # models take longer than stores
            talk.add(id_, {"role": "assistant", "content": made.output_text})
    assert sorted(found_of(spans)) == [(id_, "item", number) for number in (1, 2, 3)]


@pytest.mark.parametrize("traces", ["session", "turn"])
@pytest.mark.parametrize(("how", "number_of_turns"), [("listed", 4), ("echoed", 4)])
def test_turns_that_nothing_is_heard_of_yet_are_counted_all_the_same(api, how, number_of_turns, traces):
    backend = HeldBackend()
    store = GuardedStore(backend)
    with capture_spans(store=store, traces=traces) as spans:
        talk = Talk(api)
        id_ = talk.made()
        said = talk.add(id_, HELLO)
        with backend.held(store):
            for _ in range(number_of_turns):
                made = api.respond(input=talk.items(id_) if how == "listed" else said)
                said += talk.add(id_, {"role": "assistant", "content": made.output_text}, HELLO)
        until(lambda: len(calls(spans)) == number_of_turns)
    told = sorted(calls(spans), key=lambda span: span.start_time)
    assert found_of(told) == [(id_, "item", number + 1) for number in range(number_of_turns)]
