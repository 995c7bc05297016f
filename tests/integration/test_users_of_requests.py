"""With ``USER``, the user that a request names stands on its call; it is never remembered."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from otel_llm_sessions import session
from otel_llm_sessions.openai.users import users_in
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

USER = "user.id"
X = {"x-session-id": "X"}


def users(spans: Any) -> list[tuple[str, str | None]]:
    return [(span.name.split(" ")[0], span.attributes.get(USER)) for span in spans]


class Remembering(MemoryStore):
    """A store that keeps all that it is ever told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def put(self, keys: Any, link: Any) -> None:
        self.told.append(link)
        super().put(keys, link)


STRONGEST_FIRST = [
    {"safety_identifier": "s"},
    {"user": "u"},
    {"metadata": {"user_id": "m", "langfuse_user_id": "l"}},
    {"metadata": {"langfuse_user_id": "l"}},
    {"extra_headers": {"Helicone-User-Id": "h"}},
]


@pytest.mark.parametrize(("strongest", "expected"), [*enumerate("sumlh")])
def test_the_strongest_that_a_request_says_is_the_user(api, strongest, expected):
    said: dict[str, Any] = {}
    for arguments in reversed(STRONGEST_FIRST[strongest:]):
        said |= arguments
    with capture_spans(user=True) as spans:
        api.chat(**said)
    assert users(spans) == [("chat", expected)]


def test_extra_body_and_a_clients_own_headers_say_it_too(api):
    with capture_spans(user=True) as spans:
        api.chat(extra_body={"user": "extra"}, user="argument")
        api.chat(extra_body={"metadata": {"user_id": 42}})
        api.with_options(default_headers={"helicone-user-id": "client"}).respond()
    assert [user for _, user in users(spans) if user] == ["extra", "42", "client", "client"]  # and the chain's root


@pytest.mark.parametrize(
    "value", ["", " ", "x" * 257, "a\nb", True, {"a": 1}, ["u"]], ids=lambda value: ascii(value)[:9]
)
def test_what_is_no_user_is_passed_over(api, value):
    with capture_spans(user=True) as spans:
        api.chat(extra_body={"safety_identifier": value}, user="u")
    assert users(spans) == [("chat", "u")]


def test_nothing_is_taken_from_requests_unless_asked_for(api):
    with capture_spans() as spans:
        api.chat(user="u", safety_identifier="s", extra_headers={"helicone-user-id": "h"})
    assert users(spans) == [("chat", None)]


@pytest.mark.parametrize("nested", [False, True])
def test_it_stands_on_its_turn_the_marker_and_the_root_that_it_opens_and_is_never_remembered(api, nested):
    store, provider = Remembering(), TracerProvider(shutdown_on_exit=False)
    with capture_spans(user=True, store=store, tracer_provider=provider) as spans:
        tracer = provider.get_tracer("the application's")
        with tracer.start_as_current_span("request") if nested else trace.use_span(trace.INVALID_SPAN):
            api.chat(user="one", extra_headers=X)
            api.chat(user="two", extra_headers=X)
            api.chat(extra_headers=X)
    found = users(spans)
    assert [user for name, user in found if name == "session"] == ["one"]
    assert [user for name, user in found if name == "chat"] == ["one", "two", None]
    assert [user for name, user in found if name == "turn"] == ["one", "two", None] * nested
    assert [user for name, user in found if name == "request"] == [None] * nested
    assert store.told and not any(link.user for link in store.told)


def test_a_chain_without_an_id_has_it_on_the_root_that_its_first_turn_opens(api):
    with capture_spans(user=True) as spans:
        first = api.respond(safety_identifier="one")
        api.respond(safety_identifier="two", previous_response_id=first.id)
        api.respond(previous_response_id=first.id)
    found = users(spans)
    assert sorted(found, key=str) == sorted(
        [("session", "one"), ("chat", "one"), ("chat", "two"), ("chat", None)], key=str
    )


def test_whom_the_application_names_counts_for_more_and_alone_is_remembered(api):
    store = Remembering()
    with capture_spans(user=True, store=store) as spans:
        with session("X", user="theirs"):
            first = api.respond(user="request's")
        api.respond(user="request's", previous_response_id=first.id)
        with session("Y", name="no user"):
            api.respond(user="request's")
    assert [user for name, user in users(spans) if name == "chat"] == ["theirs", "theirs", "request's"]
    assert {link.user for link in store.told} == {"theirs", ""}


def test_a_weak_start_has_it_and_the_marker_that_is_made_of_what_is_remembered_has_not(api):
    with capture_spans(user=True) as spans:
        first = api.respond(user="one", store=False)
        items = [item.to_dict() for item in first.output]
        api.respond(user="two", store=False, input=items)
    assert users(spans) == [("chat", "one"), ("session", "two"), ("turn", None), ("chat", "two")]


@pytest.mark.parametrize("own", [None, "the owner's"])
def test_another_instrumentations_span_gets_it_unless_it_says_one_itself(api, own):
    provider = TracerProvider(shutdown_on_exit=False)
    attributes = {"gen_ai.operation.name": "chat"} | ({USER: own} if own else {})
    with capture_spans(user=True, tracer_provider=provider) as spans:
        tracer = provider.get_tracer("another")
        with tracer.start_as_current_span("theirs", attributes=attributes):
            api.chat(user="request's")
    assert users(spans) == [("theirs", own or "request's")]


def test_an_unsampled_call_keeps_nothing_of_it(api):
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    store = Remembering()
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    with capture_spans(user=True, store=store, tracer_provider=provider) as spans:
        api.chat(user="one", extra_headers=X)
    assert (users(spans), [link.user for link in store.told]) == ([], [""])


anything = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
bodies = st.dictionaries(st.sampled_from(["user", "safety_identifier", "metadata"]), anything | st.dictionaries(
    st.sampled_from(["user_id", "langfuse_user_id"]), anything))  # fmt: skip


@given(bodies, bodies, anything | st.dictionaries(st.text(max_size=3), anything), anything)
def test_whatever_stands_there_nothing_fails(extra, body, headers, defaults):
    assert len([*users_in(extra, body, headers, defaults)]) == 9
