"""Prompt cache keys: those of openai-agents' form tie calls together, others only where the settings say so."""

from __future__ import annotations

import uuid
from hashlib import sha256
from typing import Any

import openai
import pytest
from session_kit import found_of
from traces_kit import linked, only, ref

from otel_llm_sessions.testing import capture_spans


def key_of(kind: str, name: str) -> str:
    """A key as openai-agents 0.24 makes it."""
    return f"agents-sdk:{kind}:{sha256(name.encode()).hexdigest()[:32]}"


def some_key(kind: str = "session") -> str:
    return key_of(kind, uuid.uuid4().hex)


@pytest.fixture(params=["chat", "responses", "chat stream", "responses stream"])
def ask(request: Any, api: Any) -> Any:
    """Return a function that makes a call without any id, and returns that of its reply."""
    api_name, _, stream = request.param.partition(" ")
    make = api.chat if api_name == "chat" else api.respond

    def asked(**arguments: Any) -> str:
        made = make(**arguments, stream=bool(stream))
        if not stream:
            return str(made.id)
        (first, *_) = api.read(made)
        return str(first.id if api_name == "chat" else first.response.id)

    return asked


@pytest.mark.parametrize("kind", ["conversation", "session", "group", "run"])
def test_calls_with_one_key_are_one_session_named_by_the_first(ask, both_modes, kind):
    key = some_key(kind)
    first = ask(prompt_cache_key=key)
    ask(prompt_cache_key=key)
    ask(extra_body={"prompt_cache_key": key})
    assert found_of(both_modes) == [(first, "new", 1), (first, "item", 2), (first, "item", 3)]


def test_two_keys_are_two_sessions(ask, spans):
    keys = [some_key(), some_key()]
    firsts = [ask(prompt_cache_key=key) for key in keys]
    for key in keys:
        ask(prompt_cache_key=key)
    assert [session_id for session_id, _, _ in found_of(spans)] == firsts * 2


@pytest.mark.parametrize(
    "key",
    [
        "my-application",
        "agents-sdk:session:",
        "agents-sdk:session:1234",
        "agents-sdk:other:" + "a" * 32,
        "agents-sdk:run:" + "G" * 32,
        "agents-sdk:run:" + "a" * 32 + "\n",
        "x:agents-sdk:run:" + "a" * 32,
        "",
        7,
        None,
        ["agents-sdk"],
    ],
)
def test_other_keys_tie_nothing(api, spans, key):
    ids = [api.respond(extra_body={"prompt_cache_key": key}).id for _ in range(2)]
    api.chat(extra_body={"prompt_cache_key": key})
    assert found_of(spans) == [(ids[0], "new", 1), (ids[1], "new", 1), (None, None, None)]


@pytest.mark.parametrize("spans", [{"body_keys": ["prompt_cache_key"]}], indirect=True)
def test_a_setting_takes_any_key_for_the_sessions_name(ask, spans):
    for _ in range(2):
        ask(prompt_cache_key="chat-42")
    assert found_of(spans) == [("chat-42", "body", 1), ("chat-42", "body", 2)]


def test_one_key_at_two_servers_is_two_sessions(api, server, spans):
    key = some_key()
    ids = [api.respond(prompt_cache_key=key).id]
    other = api.with_options(base_url=server.base_url.replace("127.0.0.1", "localhost"))
    ids.append(other.respond(prompt_cache_key=key).id)
    assert [session_id for session_id, _, _ in found_of(spans)] == ids


def test_what_is_echoed_is_stronger_and_the_other_session_is_linked(api, traced):
    key = some_key()
    other = api.respond()
    first = api.respond(prompt_cache_key=key)
    api.respond(input=[item.to_dict() for item in other.output], prompt_cache_key=key)
    api.respond(previous_response_id=other.id, prompt_cache_key=key)
    found = traced.named("chat")
    assert [span.attributes["session.id"] for span in found] == [other.id, first.id, other.id, other.id]
    roots = {root.attributes["session.id"]: ref(root) for root in traced.named("session")}
    assert linked(found[2], "other_session") == [roots[first.id]]


def test_a_chat_call_alone_with_a_key_opens_no_trace_until_a_second_proves_it(api, traced):
    key = some_key()
    api.chat(prompt_cache_key=key)
    assert not traced.named("session")
    api.chat(prompt_cache_key=key)
    root = only(traced.named("session"))
    first, second = traced.named("chat")
    assert (second.trace_id, second.parent_id) == ref(root)
    marker = only(traced.named("turn"))
    assert [(link.trace_id, link.span_id) for link in marker.links] == [ref(first)]


@pytest.mark.parametrize("kind", ["conversation", "session"])
def test_the_key_of_a_conversation_is_that_conversations_from_the_first_turn_on(api, spans, kind):
    talk = api.finish(api.client.conversations.create()).id
    for _ in range(2):
        api.respond(prompt_cache_key=key_of(kind, talk))
    api.respond(conversation=talk)
    assert found_of(spans) == [(talk, "item", 1), (talk, "item", 2), (talk, "conversation", 3)]


def test_a_conversation_that_another_process_made_is_known_when_its_items_are_asked_for(api, spans, elsewhere):
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    with suppress_instrumentation():
        talk = api.finish(api.client.conversations.create()).id
    listed = api.client.conversations.items.list(talk)
    if hasattr(listed, "__await__"):
        api.finish(_awaited(listed))
    api.respond(prompt_cache_key=key_of("session", talk))
    assert found_of(spans) == [(talk, "item", 1)]


async def _awaited(pages: Any) -> Any:
    return await pages


@pytest.mark.usefixtures("patient")
def test_another_process_goes_on(api, shared_url):
    key, chat = some_key(), some_key()
    with capture_spans(store=shared_url):
        first = api.respond(prompt_cache_key=key).id
        api.chat(prompt_cache_key=chat)
    with capture_spans(store=shared_url) as spans:
        api.respond(prompt_cache_key=key)
        api.chat(prompt_cache_key=chat)
    assert found_of(spans)[0] == (first, "item", 2)
    assert found_of(spans)[1][1:] == ("item", 2)


def test_a_call_that_fails_leaves_nothing(api, spans):
    key = some_key()
    with pytest.raises(openai.InternalServerError):
        api.respond(prompt_cache_key=key, extra_headers={"x-loopback-mode": "status=500"})
    made = api.respond(prompt_cache_key=key)
    assert found_of(spans)[1] == (made.id, "new", 1)
