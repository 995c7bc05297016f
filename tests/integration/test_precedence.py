"""Which source wins, and what ``gen_ai.conversation.id`` says (docs/sessions.md)."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

import pytest
from odd_kit import empty
from openai import Omit
from opentelemetry import baggage
from opentelemetry.context import attach, detach, get_current
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor as GenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.util.genai.handler import TelemetryHandler

from otel_llm_sessions import current_session, session
from otel_llm_sessions.telemetry.span import UTIL_GENAI_INFERENCE
from otel_llm_sessions.testing import capture_spans

CONVERSATION = "conv_68a0c5f1e2d3c4b5a69788796a5b4c3d2e1f0"
UNKNOWN = "resp_0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a6978"
DEFAULTS = {"x-session-id": "default header"}


@contextlib.contextmanager
def visit(**entries: str):
    """The baggage that came with a request being served."""
    context = None
    for name, value in entries.items():
        context = baggage.set_baggage(name.replace("__", "."), value, context)
    assert context is not None
    token = attach(context)
    try:
        yield
    finally:
        detach(token)


def answers(server: Any, turns: int) -> None:
    """Let the server answer whatever it is asked, also for a conversation or a response that it does not know."""
    for _ in range(turns):
        id_ = f"resp_{uuid.uuid4().hex}"
        server.script(empty(id_), path="/responses")


def call(spans: Any) -> Any:
    return [span for span in spans if span.name.startswith("chat ")][-1].attributes


ORDER = ["header", "body", "metadata", "context", "default header", "conversation", "chain", "baggage", "new"]
"""The sources of a Responses call, the strongest first."""

SAID = {"default header": "header"}
"""``llm_session.source`` of a source, where it is called otherwise."""


def respond_with(api: Any, sources: list[str], previous: str) -> Any:
    """Make a call whose session all ``sources`` name."""
    extra: dict[str, Any] = {}
    if "default header" in sources:
        api = api.with_options(default_headers=DEFAULTS)
    if "header" in sources:
        extra["extra_headers"] = {"X-Session-Id": "header"}
    if "body" in sources:
        extra["extra_body"] = {"session_id": "body"}
    if "metadata" in sources:
        extra["metadata"] = {"session_id": "metadata"}
    # The API takes one of the two; the loopback server is not that strict.
    if "conversation" in sources:
        extra["conversation"] = previous if previous.startswith("conv_") else CONVERSATION
    if "chain" in sources:
        extra["previous_response_id"] = previous
    with contextlib.ExitStack() as around:
        if "baggage" in sources:
            around.enter_context(visit(session__id="baggage"))
        if "context" in sources:
            around.enter_context(session("context"))
        return api.respond(**extra)


@pytest.mark.parametrize("strongest", range(len(ORDER)), ids=ORDER)
def test_the_strongest_source_wins(api, server, both_modes, strongest):
    first = api.respond(metadata={"session_id": "chain"})
    server.script(empty(UNKNOWN))
    respond_with(api, ORDER[strongest:], first.id)
    name = ORDER[strongest]
    assert call(both_modes)["session.id"] == {"conversation": CONVERSATION, "new": UNKNOWN}.get(name, name)
    assert call(both_modes)["llm_session.source"] == SAID.get(name, name)


def test_a_session_around_the_call_is_stronger_than_what_a_client_says_of_all_its_calls(api, both_modes):
    shared = api.with_options(default_headers=DEFAULTS)
    with session("alice"):
        shared.chat()
    assert call(both_modes)["session.id"] == "alice"
    shared.chat()
    assert (call(both_modes)["session.id"], call(both_modes)["llm_session.source"]) == ("default header", "header")


@pytest.mark.parametrize("own", [Omit(), "x" * 300])
def test_what_a_call_says_of_a_header_hides_the_default_as_on_the_wire(api, both_modes, own):
    api.with_options(default_headers=DEFAULTS).chat(extra_headers={"X-SESSION-ID": own})
    assert "session.id" not in call(both_modes)


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"X-Agent-Session-Id": "agent"}, "agent"),
        ({"X-Mine": "mine", "x-agent-session-id": "agent"}, "mine"),
        ({"x-long-session-id": "x" * 300, "x-agent-session-id": "agent"}, "agent"),
        ({"x-session-id": "no room for a star"}, None),
        ({"x-agent-session-id-2": "longer"}, None),
        ({"x-api-key-session-id": "secret", "X-Auth-Session-Id": "secret"}, None),
    ],
)
def test_a_name_in_the_list_of_headers_may_hold_a_star_which_matches_nothing_that_says_who_asks(api, headers, named):
    with capture_spans(headers="x-mine, x-*-session-id", traces="turn") as spans:
        api.chat(extra_headers=headers)
        api.with_options(default_headers=headers).chat()
    assert [span.attributes.get("session.id") for span in spans] == [named, named]


def test_a_conversation_that_is_continued_the_next_day_is_not_cut_in_two_by_the_visit(api, server, both_modes):
    answers(server, 4)
    with visit(session__id="monday"):
        first = api.respond(conversation=CONVERSATION)
    with visit(session__id="tuesday"):
        api.respond(conversation=CONVERSATION)
        chained = api.respond(previous_response_id=first.id)
        api.respond(previous_response_id=chained.id)
    assert {span.attributes["session.id"] for span in both_modes} == {CONVERSATION}


def test_an_unknown_chain_is_stronger_than_the_visit(api, server, both_modes):
    answers(server, 1)
    with visit(session__id="tuesday"):
        api.respond(previous_response_id=UNKNOWN)
    assert (call(both_modes)["session.id"], call(both_modes)["llm_session.source"]) == (UNKNOWN, "chain_partial")


def test_baggage_of_a_conversation_is_stronger_than_that_of_a_visit(api, both_modes):
    with visit(session__id="visit", gen_ai__conversation__id="conversation"):
        api.chat()
    assert call(both_modes)["session.id"] == "conversation"


def test_baggage_is_ignored_where_it_is_told_so(api, server):
    with capture_spans(baggage=False, traces="turn") as spans, visit(session__id="visit"):
        api.chat()
        first = api.respond()
        assert current_session() is None
    assert [span.attributes.get("session.id") for span in spans] == [None, first.id]


def test_what_came_with_the_request_is_the_current_session_where_nothing_else_is():
    with capture_spans(), visit(session__id="visit"):
        inside = current_session()
        assert inside is not None
        assert inside.id == "visit"
        with session("mine"):
            assert current_session() == session_named("mine")


def session_named(id_: str) -> Any:
    from otel_llm_sessions import Session

    return Session(id_)


# --- gen_ai.conversation.id -----------------------------------------------------------------------------------


def test_the_conversation_is_the_providers_whatever_names_the_session(api, server, both_modes):
    answers(server, 2)
    with session("support-42"):
        first = api.respond(conversation={"id": CONVERSATION})
    assert call(both_modes)["session.id"] == "support-42"
    assert call(both_modes)["gen_ai.conversation.id"] == CONVERSATION
    api.respond(previous_response_id=first.id)
    assert call(both_modes)["gen_ai.conversation.id"] == "support-42"


def test_a_response_may_name_the_conversation_too(api, server, both_modes):
    server.script(empty(UNKNOWN, conversation={"id": CONVERSATION}))
    with session("support-42"):
        api.respond()
    assert call(both_modes)["gen_ai.conversation.id"] == CONVERSATION


def test_a_derived_session_is_no_conversation(api, server, both_modes):
    answers(server, 3)
    first = api.respond()
    api.respond(previous_response_id=first.id)
    api.respond(previous_response_id=UNKNOWN)
    assert not any("gen_ai.conversation.id" in span.attributes for span in both_modes)


def test_an_inherited_conversation_is_told_as_the_provider_wrote_it(api, server, both_modes):
    answers(server, 2)
    first = api.respond(conversation="conv_1")
    api.respond(previous_response_id=first.id)
    assert call(both_modes)["session.id"].startswith("conv_1@127.0.0.1:")
    assert call(both_modes)["gen_ai.conversation.id"] == "conv_1"


@pytest.fixture(params=["theirs first", "ours first"])
def beside_genai(request):
    """The official instrumentation and ours on one provider, in either order."""
    provider, peer = TracerProvider(shutdown_on_exit=False), GenAIInstrumentor()
    if request.param == "theirs first":
        peer.instrument(tracer_provider=provider)
    with capture_spans(tracer_provider=provider, traces="turn") as spans:
        if request.param == "ours first":
            peer.instrument(tracer_provider=provider)
        yield spans
    peer.uninstrument()


def test_beside_the_official_instrumentation_the_conversation_is_the_providers(api, beside_genai):
    conversation = api.finish(api.client.conversations.create()).id
    with session("support-42"):
        api.respond(conversation=conversation)
        api.read(api.respond(conversation=conversation, stream=True))
        api.respond()
    assert [span.attributes["session.id"] for span in beside_genai] == ["support-42"] * 3
    told = [span.attributes["gen_ai.conversation.id"] for span in beside_genai]
    assert told == [conversation, conversation, "support-42"]


def test_what_the_owner_of_a_span_calls_the_conversation_stays(client):
    provider = TracerProvider(shutdown_on_exit=False)
    handler = TelemetryHandler(tracer_provider=provider)
    with capture_spans(tracer_provider=provider, traces="turn") as spans, session("support-42"):
        with handler.inference("openai", request_model="m", conversation_id="theirs"):
            client.chat.completions.create(model="m", messages=[])
        with handler.inference("openai", request_model="m"):
            client.chat.completions.create(model="m", messages=[])
        with handler.inference("openai", request_model="m"):
            get_current()[UTIL_GENAI_INFERENCE].conversation_id = "theirs"  # by whoever is called on the way, as we are
            client.chat.completions.create(model="m", messages=[])
        owner = {"gen_ai.operation.name": "chat", "gen_ai.conversation.id": "theirs"}
        with provider.get_tracer("owner").start_as_current_span("x", attributes=owner):
            client.chat.completions.create(model="m", messages=[])
    assert [span.attributes["gen_ai.conversation.id"] for span in spans] == ["theirs", "support-42", "theirs", "theirs"]
    assert {span.attributes["session.id"] for span in spans} == {"support-42"}
