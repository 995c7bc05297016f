"""The ways that most replies and requests take come to the same as the general ones."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response
from opentelemetry.context import Context

from otel_llm_sessions.openai.evidence import LEFT, READERS, Asked, evidence_of
from otel_llm_sessions.openai.learn import keys_of
from otel_llm_sessions.openai.request import TELLING, KeyLists, Request, given_session
from otel_llm_sessions.openai.response import Reply, read_reply
from otel_llm_sessions.openai.routes import CHAT, RESPONSES, Match
from otel_llm_sessions.openai.server import Server
from otel_llm_sessions.sessions.digest import UNSHARED
from otel_llm_sessions.sessions.resolver import Evidence, only_key
from otel_llm_sessions.sessions.sources import BODY_KEYS, HEADERS, METADATA_KEYS, Given, first_id

odd = st.none() | st.booleans() | st.integers(-1, 2**54) | st.text(max_size=3) | st.just({"cached_tokens": 4})
count = st.integers(0, 9) | odd
details = st.fixed_dictionaries({}, optional={"cached_tokens": count, "reasoning_tokens": count, "audio_tokens": count})


def usage_of(api: str) -> st.SearchStrategy[dict[str, Any]]:
    is_chat = api == "chat_completions"
    fields = dict.fromkeys(
        ("prompt_tokens", "completion_tokens") if is_chat else ("input_tokens", "output_tokens"), count
    )
    fields |= {f"{name}_details": details | odd for name in fields}
    return st.fixed_dictionaries(fields) | st.fixed_dictionaries({}, optional=fields)


choice = st.fixed_dictionaries(
    {}, optional={"index": st.integers(0, 2) | odd, "finish_reason": st.sampled_from(["stop", "length"]) | odd}
)
text = st.text(max_size=3) | odd
TEXTS = {CHAT: ("id", "model", "service_tier", "system_fingerprint"), RESPONSES: ("id", "model", "service_tier")}
replies = {
    route: st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(names, text)
        | {"choices": st.lists(choice, max_size=3) | odd, "usage": usage_of(route.api) | odd},
    )
    for route, names in TEXTS.items()
}


def as_model(value: Any) -> Any:
    """Return a value as models have it: with attributes."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_model(inner) for name, inner in value.items()})
    return [as_model(inner) for inner in value] if isinstance(value, list) else value


def told_by(route: Any, value: Any) -> tuple[Any, ...]:
    reply = Reply(route)
    read_reply(reply, value)
    return reply.final_attributes(), reply.ids, reply.choices, reply.error_type, reply.token_counts()


@pytest.mark.parametrize("route", replies, ids=lambda route: route.api)
@given(data=st.data())
def test_a_model_is_read_as_a_dict_is(route: Any, data: st.DataObject):
    said = data.draw(replies[route])
    assert told_by(route, as_model(said)) == told_by(route, said)


item = st.fixed_dictionaries(
    {},
    optional={"type": st.sampled_from(["message", "function_call"]) | odd, "id": text, "call_id": text, "name": text},
)
responses = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys((*TEXTS[RESPONSES], "system_fingerprint"), text)
    | {
        "status": st.sampled_from(["completed", "incomplete", "failed", "queued"]) | odd,
        "output": st.lists(item, max_size=3) | odd,
        "background": st.booleans() | odd,
        "conversation": text | st.fixed_dictionaries({"id": text}),
        "incomplete_details": st.fixed_dictionaries({"reason": text}) | odd,
        "error": st.fixed_dictionaries({"code": text}) | odd,
        "usage": usage_of("responses") | odd,
    },
)


@given(said=responses)
def test_a_response_of_the_client_is_read_as_a_dict_is(said: dict[str, Any]):
    assert told_by(RESPONSES, Response.construct(**said)) == told_by(RESPONSES, said)


SERVER = Server("socket.test", 443, "openai", "socket.test:443", "socket.test", None, True)
left_ids = st.sampled_from(["resp_1", "msg_7", f"resp_{'0123456789abcdef' * 3}", f"call_{uuid.UUID(int=7**40).hex}", 7])
left_item = st.fixed_dictionaries({}, optional={"id": left_ids, "call_id": left_ids, "name": st.just("weather")}) | odd


@given(ids=st.lists(left_ids, max_size=3), output=st.lists(left_item, max_size=3) | odd)
def test_a_response_in_one_piece_leaves_what_the_rows_say(ids: list[Any], output: Any):
    reply = Reply(RESPONSES)
    for id_ in ids:
        reply.add_id(id_)
    read_reply(reply, {"output": output})
    request = Request(Match(RESPONSES, None), SERVER, "chat", None, {}, Evidence(), False, True)
    assert keys_of(request, reply) == keys_of(request, reply, LEFT["responses"])


KEYS = KeyLists(HEADERS, BODY_KEYS, METADATA_KEYS, TELLING.union(BODY_KEYS), frozenset(BODY_KEYS), UNSHARED)
ids = st.sampled_from(["a", "b", "", 7, True, None])
bodies = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("model", "store", *BODY_KEYS), ids)
    | {"metadata": st.dictionaries(st.sampled_from([*METADATA_KEYS, "other"]), ids, max_size=3) | ids},
)


@given(body=bodies, extra=bodies)
def test_a_body_that_says_nothing_at_a_glance_names_no_session(body: dict[str, Any], extra: dict[str, Any]):
    asked = {**body, **extra}
    told = {} if KEYS.telling.isdisjoint(asked) else asked
    found = given_session({}, None, body, extra, told, Context(), KEYS)
    metadata = [part["metadata"] for part in (extra, body) if isinstance(part.get("metadata"), dict)]
    places = [(part, KEYS.body, "body") for part in (extra, body)] + [(m, KEYS.metadata, "metadata") for m in metadata]
    named = ((first_id(part, names), source) for part, names, source in places)
    assert found == next(((id_, source) for id_, source in named if id_ is not None), None)


def test_calls_that_only_name_their_session_have_its_evidence_made_once():
    name: Any = "chat-42"
    for source in ("body", "header"):
        given: Any = Given(name, source)
        found = evidence_of("chat_completions", given, None, {"model": "m"}, SERVER)
        assert found == Evidence(given)
        assert evidence_of("responses", given._replace(), None, {"model": "other"}, SERVER) is found


ties = st.fixed_dictionaries(
    {},
    optional={
        "input": st.sampled_from(["Hello", [{"type": "message", "id": f"msg_{uuid.UUID(int=7**45).hex}"}]]),
        "prompt_cache_key": st.just(f"agents-sdk:run:{uuid.UUID(int=7).hex}"),
    },
)


@given(
    previous=st.none() | left_ids.filter(lambda id_: id_ != 7),
    name=st.none() | st.just(Given("chat-42", "body")),  # type: ignore[arg-type]
    body=ties,
)
def test_the_one_key_that_evidence_knows_is_the_one_to_look_up(previous: Any, name: Any, body: dict[str, Any]):
    evidence = evidence_of("responses", name, previous, body, SERVER)
    assert evidence.key in ("", only_key(evidence))
    assert previous is None or name is not None or len(evidence.ties) > 1 or evidence.key


@given(body=ties, previous=st.none() | st.just(f"resp_{uuid.UUID(int=5**50).hex}"))
def test_a_text_hides_nothing_that_stands_beside_it(body: dict[str, Any], previous: str | None):
    asked = Asked(body, previous, SERVER, UNSHARED)
    rows = [tie for reader in READERS["responses"] for tie in reader.ties(asked)]
    assert [*evidence_of("responses", None, previous, body, SERVER).ties[previous is not None :]] == rows


def test_a_text_beside_the_messages_of_a_chat_hides_none_of_them():
    messages = [{"role": "tool", "tool_call_id": f"call_{uuid.UUID(int=7**45).hex}", "content": "4"}]
    told = evidence_of("chat_completions", None, None, {"messages": messages}, SERVER)
    assert told.ties
    assert evidence_of("chat_completions", None, None, {"messages": messages, "input": "Hello"}, SERVER) == told
