"""The attributes of spans, one by one, against the GenAI conventions and their OpenAI page."""

from __future__ import annotations

import re
from typing import Any

import openai
import pytest
from loopback_client import MESSAGES, MODEL
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode
from spans_kit import modes

from otel_llm_sessions.testing import capture_spans

TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"


LLM_SESSION = ("session.id", "llm_session.source", "llm_session.turn")


SPANS = {"traces": "turn"}
"""The settings of the fixture ``spans``."""


@pytest.fixture
def client(server, shared_client):
    """One client for all tests, with a server that has forgotten the earlier ones: making a client takes 50 ms."""
    return shared_client


def port_of(server: Any) -> int:
    return int(server.base_url.split(":")[2].split("/")[0])


def created(server: Any, api_type: str, operation: str = "chat", **more: Any) -> dict[str, Any]:
    """What every span starts with."""
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "openai",
        "openai.api.type": api_type,
        "server.address": "127.0.0.1",
        "server.port": port_of(server),
        **more,
    }


def usage(read: int, written: int, cached: int = 0, reasoning: int = 0) -> dict[str, int]:
    return {
        "gen_ai.usage.input_tokens": read,
        "gen_ai.usage.output_tokens": written,
        **({"gen_ai.usage.cache_read.input_tokens": cached} if cached else {}),
        **({"gen_ai.usage.reasoning.output_tokens": reasoning} if reasoning else {}),
    }


def of_session(session_id: str, source: str, turn: int | None = 1) -> dict[str, Any]:
    named = {"session.id": session_id, "llm_session.source": source}
    return named if turn is None else {**named, "llm_session.turn": turn}


def read(span: Any) -> dict[str, Any]:
    """A span's attributes without the one that is a measured time."""
    attributes = dict(span.attributes)
    taken = attributes.pop(TIME_TO_FIRST_CHUNK, None)
    assert taken is None or 0 < taken < 60
    return attributes


# --- every attribute of every operation ---------------------------------------------------------------------


def test_a_chat_call_has_exactly_the_attributes_of_the_conventions(api, server, spans):
    reply = api.chat("Hello")
    assert [(span.name, span.kind, span.status.status_code) for span in spans] == [
        (f"chat {MODEL}", SpanKind.CLIENT, StatusCode.UNSET)
    ]
    assert read(spans[0]) == {
        **created(server, "chat_completions"),
        "gen_ai.request.model": MODEL,
        "gen_ai.response.id": reply.id,
        "gen_ai.response.model": MODEL,
        "gen_ai.response.finish_reasons": ("stop",),
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp_loopback",
        **usage(reply.usage.prompt_tokens, reply.usage.completion_tokens),
    }


def test_a_responses_call_has_exactly_the_attributes_of_the_conventions(api, server, spans):
    reply = api.respond("Hello")
    assert (spans[0].name, spans[0].kind) == (f"chat {MODEL}", SpanKind.CLIENT)
    assert read(spans[0]) == {
        **created(server, "responses"),
        **of_session(reply.id, "new"),
        "gen_ai.request.model": MODEL,
        "gen_ai.response.id": reply.id,
        "gen_ai.response.model": MODEL,
        "gen_ai.response.finish_reasons": ("stop",),
        "openai.response.service_tier": "default",
        **usage(reply.usage.input_tokens, reply.usage.output_tokens),
    }


def test_a_streamed_chat_call_says_the_same_and_when_the_first_chunk_came(api, server, spans):
    chunks = api.read(api.chat("Hello", stream=True, stream_options={"include_usage": True}))
    (span,) = spans
    assert TIME_TO_FIRST_CHUNK in span.attributes
    assert read(span) == {
        **created(server, "chat_completions"),
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": True,
        "gen_ai.response.id": chunks[0].id,
        "gen_ai.response.model": MODEL,
        "gen_ai.response.finish_reasons": ("stop",),
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp_loopback",
        **usage(chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens),
    }


def test_a_streamed_responses_call_says_the_same_and_when_the_first_chunk_came(api, server, spans):
    reply = api.read(api.respond("Hello", stream=True))[-1].response
    (span,) = spans
    assert TIME_TO_FIRST_CHUNK in span.attributes
    assert read(span) == {
        **created(server, "responses"),
        **of_session(reply.id, "new"),
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": True,
        "gen_ai.response.id": reply.id,
        "gen_ai.response.model": MODEL,
        "gen_ai.response.finish_reasons": ("stop",),
        "openai.response.service_tier": "default",
        **usage(reply.usage.input_tokens, reply.usage.output_tokens),
    }


def test_a_plain_call_has_no_time_to_first_chunk_and_is_not_marked_as_streamed(api, spans):
    api.chat()
    api.respond()
    assert not [span for span in spans if {TIME_TO_FIRST_CHUNK, "gen_ai.request.stream"} & span.attributes.keys()]


def test_compacting_is_an_operation_of_its_own_and_invents_no_finish_reason(api, server, spans):
    first = api.respond("Hello")
    compacted = api.finish(api.client.responses.compact(model=MODEL, input="Go on", previous_response_id=first.id))
    assert spans[1].name == f"compact {MODEL}"
    assert read(spans[1]) == {
        **created(server, "responses", "compact"),
        **of_session(first.id, "chain", 2),
        "gen_ai.request.model": MODEL,
        "gen_ai.request.previous_response.id": first.id,
        "gen_ai.response.id": compacted.id,
        **usage(compacted.usage.input_tokens, compacted.usage.output_tokens, first.usage.total_tokens),
    }


def test_fetching_a_response_tells_of_it_but_never_counts_its_tokens_again(api, server, spans):
    made = api.respond("Hello")
    assert api.retrieve(made.id).usage.total_tokens > 0
    assert spans[1].name == "fetch_response"
    assert read(spans[1]) == {
        **created(server, "responses", "fetch_response"),
        **of_session(made.id, "chain", turn=None),
        "gen_ai.response.id": made.id,
        "gen_ai.response.model": MODEL,
        "gen_ai.response.status": "completed",
        "gen_ai.response.finish_reasons": ("stop",),
        "openai.response.service_tier": "default",
    }


def test_a_streamed_fetch_says_where_it_takes_up_again_and_counts_no_tokens(api, server, spans):
    made = api.respond("Hello")
    api.read(api.retrieve(made.id, stream=True, starting_after=3))
    assert read(spans[1]) == {
        **created(server, "responses", "fetch_response"),
        **of_session(made.id, "chain", turn=None),
        "gen_ai.request.stream": True,
        "gen_ai.request.stream_cursor": "3",
        "gen_ai.response.id": made.id,
        "gen_ai.response.model": MODEL,
        "gen_ai.response.status": "completed",
        "gen_ai.response.finish_reasons": ("stop",),
        "openai.response.service_tier": "default",
    }


def test_a_background_response_is_queued_and_has_no_finish_reason_until_it_is_fetched_or_cancelled(api, server, spans):
    queued = api.respond("Hello", background=True)
    api.finish(api.client.responses.cancel(queued.id))
    made, cancelled = map(read, spans)
    assert made["gen_ai.response.status"] == "queued"
    assert "gen_ai.response.finish_reasons" not in made
    assert not [name for name in made if name.startswith("gen_ai.usage")]
    assert spans[1].name == "cancel_response"
    assert cancelled == {
        **created(server, "responses", "cancel_response"),
        **of_session(queued.id, "chain", turn=None),
        "gen_ai.response.id": queued.id,
        "gen_ai.response.model": MODEL,
        "gen_ai.response.status": "cancelled",
        "gen_ai.response.finish_reasons": ("cancelled",),
        "openai.response.service_tier": "default",
    }


def test_fetching_a_response_whose_generation_failed_is_not_a_failure_of_the_fetch(api, spans):
    made = api.respond("Hello", extra_headers=modes("failed"))
    api.retrieve(made.id)
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR, StatusCode.UNSET]
    assert "error.type" not in spans[1].attributes
    assert spans[1].attributes["gen_ai.response.status"] == "failed"
    assert spans[1].attributes["gen_ai.response.finish_reasons"] == ("error",)


# --- what was asked for -------------------------------------------------------------------------------------

CHAT_PARAMETERS = [
    ({"max_tokens": 20}, {"gen_ai.request.max_tokens": 20}),
    ({"max_completion_tokens": 20}, {"gen_ai.request.max_tokens": 20}),
    ({"temperature": 0.5}, {"gen_ai.request.temperature": 0.5}),
    ({"temperature": 0}, {"gen_ai.request.temperature": 0}),
    ({"top_p": 0.9}, {"gen_ai.request.top_p": 0.9}),
    ({"extra_body": {"top_k": 40}}, {"gen_ai.request.top_k": 40}),
    ({"frequency_penalty": 0.1}, {"gen_ai.request.frequency_penalty": 0.1}),
    ({"presence_penalty": -0.1}, {"gen_ai.request.presence_penalty": -0.1}),
    ({"seed": 7}, {"gen_ai.request.seed": 7}),
    ({"stop": "END"}, {"gen_ai.request.stop_sequences": ("END",)}),
    ({"stop": ["a", "b"]}, {"gen_ai.request.stop_sequences": ("a", "b")}),
    ({"n": 1}, {}),
    ({"n": 3}, {"gen_ai.request.choice.count": 3, "gen_ai.response.finish_reasons": ("stop",) * 3}),
    ({"response_format": {"type": "text"}}, {"gen_ai.output.type": "text"}),
    ({"response_format": {"type": "json_object"}}, {"gen_ai.output.type": "json"}),
    ({"reasoning_effort": "low"}, {"gen_ai.request.reasoning.level": "low"}),
    ({"service_tier": "flex"}, {"openai.request.service_tier": "flex"}),
    ({"stop": None, "seed": None, "n": None, "max_tokens": None, "response_format": openai.NOT_GIVEN}, {}),
    ({"temperature": openai.NOT_GIVEN, "top_p": openai.NOT_GIVEN, "service_tier": openai.NOT_GIVEN}, {}),
]


RESPONSES_PARAMETERS = [
    ({"max_output_tokens": 20}, {"gen_ai.request.max_tokens": 20}),
    ({"temperature": 0.5, "top_p": 0.9}, {"gen_ai.request.temperature": 0.5, "gen_ai.request.top_p": 0.9}),
    ({"reasoning": {"effort": "high"}}, {"gen_ai.request.reasoning.level": "high"}),
    ({"reasoning": {"summary": "auto"}}, {}),
    ({"service_tier": "priority"}, {"openai.request.service_tier": "priority"}),
    ({"text": {"format": {"type": "text"}}}, {"gen_ai.output.type": "text"}),
    ({"text": {"format": {"type": "json_object"}}}, {"gen_ai.output.type": "json"}),
    ({"text": {"verbosity": "low"}}, {}),
    ({"prompt": {"id": "pmpt_1", "version": "2"}}, {"gen_ai.prompt.name": "pmpt_1", "gen_ai.prompt.version": "2"}),
    ({"prompt": {"id": "pmpt_1"}}, {"gen_ai.prompt.name": "pmpt_1"}),
    ({"instructions": "Be brief", "user": "me", "reasoning": None, "text": openai.NOT_GIVEN}, {}),
]


VARYING = re.compile(r"^gen_ai\.(usage|response\.id)|^session\.id$")


def names_and_values(span: Any) -> dict[str, Any]:
    return {name: value for name, value in span.attributes.items() if not VARYING.search(name)}


@pytest.mark.parametrize(("parameters", "expected"), CHAT_PARAMETERS, ids=str)
def test_a_parameter_of_chat_becomes_its_attribute_and_no_other(client, spans, parameters, expected):
    client.chat.completions.create(model=MODEL, messages=MESSAGES)
    client.chat.completions.create(model=MODEL, messages=MESSAGES, **parameters)
    plain, asked = map(names_and_values, spans)
    assert asked == {**plain, **expected}


@pytest.mark.parametrize(("parameters", "expected"), RESPONSES_PARAMETERS, ids=str)
def test_a_parameter_of_responses_becomes_its_attribute_and_no_other(client, spans, parameters, expected):
    client.responses.create(model=MODEL, input="Hello")
    client.responses.create(model=MODEL, input="Hello", **parameters)
    plain, asked = map(names_and_values, spans)
    assert asked == {**plain, **expected}


def test_parsing_into_a_model_asks_for_json(client, spans):
    from pydantic import BaseModel

    class City(BaseModel):
        name: str

    client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=City)
    client.responses.parse(model=MODEL, input="Hello", text_format=City)
    assert [span.attributes["gen_ai.output.type"] for span in spans] == ["json", "json"]


def test_a_chained_call_says_which_response_it_continues(api, spans):
    first = api.respond("Hello")
    api.respond("Go on", previous_response_id=first.id)
    assert spans[1].attributes["gen_ai.request.previous_response.id"] == first.id
    assert spans[1].attributes["gen_ai.usage.cache_read.input_tokens"] == first.usage.total_tokens


def test_reasoning_tokens_are_counted_apart(api, spans):
    chat = api.chat(model="gpt-5-mini", reasoning_effort="high").usage
    response = api.respond(model="gpt-5-mini", reasoning={"effort": "high"}).usage
    told = [span.attributes["gen_ai.usage.reasoning.output_tokens"] for span in spans]
    assert told == [
        chat.completion_tokens_details.reasoning_tokens,
        response.output_tokens_details.reasoning_tokens,
    ]
    assert min(told) > 0


def test_no_usage_is_invented_when_the_server_sends_none(api, spans):
    api.chat(extra_headers=modes("no_usage"))
    api.respond(extra_headers=modes("no_usage"))
    api.read(api.chat(stream=True))
    assert len(spans) == 3
    assert not [name for span in spans for name in span.attributes if name.startswith("gen_ai.usage")]


def test_usage_is_recorded_as_sent_even_where_it_does_not_add_up(client, server, spans):
    sent = {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 99,
        "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    server.script({"id": "chatcmpl-odd", "object": "chat.completion", "model": "m", "choices": [], "usage": sent})
    client.chat.completions.create(model=MODEL, messages=MESSAGES)
    told = {name: value for name, value in spans[0].attributes.items() if name.startswith("gen_ai.usage")}
    assert told == {**usage(3, 4, 30, 40), "gen_ai.usage.cache_write.input_tokens": 5}


def test_the_model_that_answers_is_told_apart_from_the_model_that_was_asked(client, server, spans):
    server.script(
        {"id": "chatcmpl-dated", "object": "chat.completion", "model": "gpt-4o-mini-2024-07-18", "choices": []}
    )
    client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert spans[0].attributes["gen_ai.request.model"] == MODEL
    assert spans[0].attributes["gen_ai.response.model"] == "gpt-4o-mini-2024-07-18"


# --- when attributes are there ------------------------------------------------------------------------------


class Witness(Sampler):
    """Remembers what a sampler gets to see."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None, trace_state=None):
        self.seen.append((name, dict(attributes or {})))
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return "Witness"


def test_a_sampler_sees_whom_the_call_goes_to_and_which_session_it_belongs_to(api, server):
    witness = Witness()
    provider = TracerProvider(sampler=witness, shutdown_on_exit=False)
    with capture_spans(traces="turn", tracer_provider=provider):
        first = api.respond("Hello")
        api.respond("Go on", previous_response_id=first.id, temperature=0.5)
        api.chat("Hello", extra_body={"metadata": {"session_id": "chat-42"}})
        api.retrieve(first.id)
    assert witness.seen == [
        (
            f"chat {MODEL}",
            {
                **created(server, "responses"),
                "gen_ai.request.model": MODEL,
                "llm_session.source": "new",
                "llm_session.turn": 1,
            },
        ),
        (
            f"chat {MODEL}",
            {
                **created(server, "responses"),
                **of_session(first.id, "chain", 2),
                "gen_ai.request.model": MODEL,
                "gen_ai.request.temperature": 0.5,
                "gen_ai.request.previous_response.id": first.id,
            },
        ),
        (
            f"chat {MODEL}",
            {
                **created(server, "chat_completions"),
                **of_session("chat-42", "metadata"),
                "gen_ai.request.model": MODEL,
                "gen_ai.conversation.id": "chat-42",
            },
        ),
        (
            "fetch_response",
            {
                **created(server, "responses", "fetch_response"),
                **of_session(first.id, "chain", turn=None),
                "gen_ai.response.id": first.id,
            },
        ),
    ]


def test_the_provider_of_the_application_decides_which_spans_there_are(api):
    class Never(Witness):
        def should_sample(self, *args, **kwargs):
            return SamplingResult(Decision.DROP)

    with capture_spans(traces="turn", tracer_provider=TracerProvider(sampler=Never(), shutdown_on_exit=False)) as spans:
        first = api.respond("Hello")
        assert api.respond("Go on", previous_response_id=first.id).output_text
    assert not spans
