"""Spans of other instrumentations, told in the conventions' names."""

from __future__ import annotations

from typing import Any

import pytest
from openinference.instrumentation import get_llm_attributes, get_session_attributes, get_span_kind_attributes
from openinference.semconv.trace import SpanAttributes
from opentelemetry.semconv_ai import SpanAttributes as OpenLLMetry
from view_kit import REQUEST_1, call, ids_of, span

from otel_llm_sessions.view.dialects import NAMES, OPERATIONS, told
from otel_llm_sessions.view.sessions import sessions_of
from otel_llm_sessions.view.spans import ReceivedLog

ASSOCIATED = "traceloop.association.properties."


def only_turn(*spans: Any) -> Any:
    (session,) = sessions_of(spans)
    (turn,) = session.turns
    return turn


def said(messages: Any) -> list[Any]:
    return [(message.role, *((part.kind, part.name, part.text) for part in message.parts)) for message in messages]


def test_every_name_of_the_installed_conventions_is_spelled_as_there():
    theirs = {value for name, value in vars(SpanAttributes).items() if name.isupper()}
    theirs |= {value for name, value in vars(OpenLLMetry).items() if name.isupper()}
    ours = {other for others in NAMES.values() for other in others} | {name for name, _ in OPERATIONS}
    # What their older releases call so, and what users name themselves.
    older = {
        "llm.request.model", "llm.response.model", "llm.usage.prompt_tokens", "llm.usage.completion_tokens",
        "llm.vendor",
    }  # fmt: skip
    assert {name for name in ours - theirs - older if not name.startswith(ASSOCIATED)} == set()


def test_a_model_call_of_openinference_is_a_turn_with_all_its_kinds_of_parts():
    asked = [
        {"role": "user", "contents": [
            {"type": "text", "text": "What is this?"}, {"type": "image", "image": {"url": "https://x/y.png"}},
            {"type": "reasoning", "text": "Hm."}, {"type": "redacted", "data": "AAA"},
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "21"},
    ]  # fmt: skip
    calls = [{"id": "c2", "function": {"name": "look", "arguments": '{"city": "Paris"}'}}]
    count = {"prompt": 7, "completion": 8, "prompt_details": {"cache_read": 5}}
    attributes = get_llm_attributes(
        request_model_name="gpt-4o", response_model_name="gpt-4o-2024", provider="openai", token_count=count,
        input_messages=asked, output_messages=[{"role": "assistant", "content": "It is:", "tool_calls": calls}],
    )  # fmt: skip
    more = {"llm.cost.total": 0.25, "llm.token_count.completion_details.reasoning": 3, "tag.tags": ["beta"]}
    about = {**get_session_attributes(session_id="s"), **get_span_kind_attributes("llm"), "user.id": "u"}
    (session,) = sessions_of([span("ChatOpenAI", REQUEST_1, attributes={**about, **attributes, **more})])
    (turn,) = session.turns
    assert (turn.model, turn.attribute("gen_ai.request.model")) == ("gpt-4o-2024", "gpt-4o")
    assert (turn.input_tokens, turn.output_tokens, turn.cached_tokens, turn.reasoning_tokens) == (7, 8, 5, 3)
    assert (turn.cost, turn.currency) == (0.25, "USD")
    assert (session.user, session.tags) == ("u", ("beta",))
    first, second = turn.input
    assert [part.kind for part in first.parts] == ["text", "uri", "reasoning", "redacted"]
    assert [part.text for part in first.parts][:3] == ["What is this?", "https://x/y.png", "Hm."]
    assert said([second]) == [("tool", ("tool_call_response", "", "21"))]
    assert (second.parts[0].id, turn.output[0].parts[1].id) == ("c1", "c2")
    assert said(turn.output) == [("assistant", ("text", "", "It is:"), ("tool_call", "look", '{"city": "Paris"}'))]


def test_where_openinference_has_no_messages_the_whole_input_and_output_are_shown():
    about = {**get_session_attributes(session_id="s"), **get_span_kind_attributes("llm")}
    turn = only_turn(span("x", REQUEST_1, attributes={**about, "input.value": "Hi", "output.value": "There."}))
    assert said([*turn.input, *turn.output]) == [("user", ("text", "", "Hi")), ("assistant", ("text", "", "There."))]


@pytest.mark.parametrize("kind", ["CHAIN", "AGENT", "TOOL", "RETRIEVER", "EMBEDDING", "RERANKER"])
def test_what_is_around_model_calls_is_no_turn(kind):
    about = {**get_session_attributes(session_id="s"), "input.value": "x", "llm.token_count.prompt": 5}
    assert sessions_of([span("x", attributes={**about, "openinference.span.kind": kind})]) == []


def test_the_releases_of_openllmetry_that_number_their_messages_are_read():
    attributes = {
        f"{ASSOCIATED}session_id": "s", f"{ASSOCIATED}user_id": "u", "llm.request.type": "chat",
        "gen_ai.request.model": "gpt-4o", "gen_ai.usage.prompt_tokens": 3, "gen_ai.usage.completion_tokens": 4,
        "llm.usage.total_tokens": 7, "gen_ai.usage.cache_read_input_tokens": 1,
        "gen_ai.prompt.0.role": "system", "gen_ai.prompt.0.content": "Be brief.",
        "gen_ai.prompt.1.role": "user", "gen_ai.prompt.1.content": "Weather?",
        "gen_ai.prompt.10.role": "tool", "gen_ai.prompt.10.content": "21", "gen_ai.prompt.10.tool_call_id": "c1",
        "gen_ai.prompt.2.role": "assistant", "gen_ai.prompt.2.tool_calls.0.id": "c1",
        "gen_ai.prompt.2.tool_calls.0.type": "function",
        "gen_ai.prompt.2.tool_calls.0.name": "look", "gen_ai.prompt.2.tool_calls.0.arguments": "{}",
        "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "Warm.",
        "gen_ai.completion.0.finish_reason": "stop",
    }  # fmt: skip
    (session,) = sessions_of([span("openai.chat", REQUEST_1, attributes=attributes)])
    (turn,) = session.turns
    assert (session.id, session.user, turn.input_tokens, turn.output_tokens, turn.cached_tokens) == ("s", "u", 3, 4, 1)
    assert said(turn.input) == [
        ("system", ("text", "", "Be brief.")),
        ("user", ("text", "", "Weather?")),
        ("assistant", ("tool_call", "look", "{}")),
        ("tool", ("tool_call_response", "", "21")),
    ]
    assert said(turn.output) == [("assistant", ("text", "", "Warm."))]
    assert turn.output[0].finish_reason == "stop"


def test_the_oldest_releases_of_openllmetry_are_read():
    attributes = {
        f"{ASSOCIATED}chat_id": "s", "llm.request.type": "completion", "llm.request.model": "m",
        "llm.response.model": "m-1", "llm.usage.prompt_tokens": 3, "llm.usage.completion_tokens": 4,
        "llm.prompts.0.content": "Hi",
        "llm.completions.0.content": "There.",
    }  # fmt: skip
    turn = only_turn(span("openai.completion", REQUEST_1, attributes=attributes))
    assert (turn.model, turn.input_tokens, turn.output_tokens, turn.operation) == ("m-1", 3, 4, "text_completion")
    assert said([*turn.input, *turn.output]) == [("user", ("text", "", "Hi")), ("assistant", ("text", "", "There."))]


def test_a_langchain_call_that_two_instrumentations_see_counts_once():
    about = {**get_session_attributes(session_id="s"), **get_span_kind_attributes("llm")}
    chain = span("RunnableSequence", REQUEST_1, **{"session__id": "s", "openinference__span__kind": "CHAIN"})
    outer = span("ChatOpenAI", REQUEST_1, chain, attributes={**about, "llm.token_count.prompt": 5})
    inner = span("ChatCompletion", REQUEST_1, outer, attributes={**about, "llm.token_count.prompt": 5})
    assert ids_of(sessions_of([chain, outer, inner])) == [("s", [0])]
    assert only_turn(chain, outer, inner).input_tokens == 5


def test_what_the_conventions_say_wins_and_nothing_is_taken_away():
    attributes = {"gen_ai.usage.input_tokens": 5, "llm.token_count.prompt": 7, "llm.model_name": "m", "traceloop.x": 1}
    other = told(span(attributes=attributes))
    assert other.attributes == {**attributes, "gen_ai.response.model": "m"}
    for plain in (
        span(attributes={"gen_ai.usage.input_tokens": 5}),
        span(scope="otel_llm_sessions", attributes=attributes),
    ):
        assert told(plain) is plain


def event(name: str, body: object, of: object, time: int = 1) -> ReceivedLog:
    return ReceivedLog(name, time, body, {}, of.trace_id, of.span_id)


def test_events_of_one_message_each_are_the_words_of_their_span():
    made = call(1, REQUEST_1)
    tool = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": {"content": "Wait."}, "tool_calls": [tool]}
    logs = [
        event("gen_ai.choice", choice, made, 9),
        event("gen_ai.tool.message", {"content": "21", "id": "c0"}, made, 4),
        event("gen_ai.assistant.message", {"tool_calls": ({**tool, "id": "c0"},)}, made, 3),
        event("gen_ai.user.message", {"content": "Weather?"}, made, 2),
        event("gen_ai.user.message", {"content": "Be brief.", "role": "system"}, made, 1),
        ReceivedLog("", 5, {"content": "?"}, {"event.name": "gen_ai.user.message"}, made.trace_id, made.span_id),
        event("gen_ai.user.message", "odd", made), event("gen_ai.choice", {"message": 5}, call(2)),
        event("gen_ai.choice", {"message": {"tool_calls": [5, {"function": 6}]}}, call(3)),
    ]  # fmt: skip
    (session,) = sessions_of([made], [*logs, *logs])
    (turn,) = session.turns
    assert said(turn.input) == [
        ("system", ("text", "", "Be brief.")),
        ("user", ("text", "", "Weather?")),
        ("assistant", ("tool_call", "look", "{}")),
        ("tool", ("tool_call_response", "", "21")),
        ("user", ("text", "", "?")),
    ]
    assert said(turn.output) == [("assistant", ("text", "", "Wait."), ("tool_call", "look", "{}"))]
    assert (turn.output[0].finish_reason, turn.input[3].parts[0].id) == ("tool_calls", "c0")


def test_the_event_that_has_all_of_a_call_wins_over_those_of_one_message_each():
    made = call(1, REQUEST_1)
    whole = {"gen_ai.input.messages": ({"role": "user", "parts": ({"type": "text", "content": "All"},)},)}
    details = ReceivedLog("gen_ai.client.inference.operation.details", 1, None, whole, made.trace_id, made.span_id)
    (session,) = sessions_of([made], [event("gen_ai.user.message", {"content": "One"}, made), details])
    assert said(session.turns[0].input) == [("user", ("text", "", "All"))]


@pytest.mark.parametrize("value", [None, 5, ("x",), {"a": 1}, b"\xff", "", True])
def test_odd_values_are_no_words(value):
    names = ("role", "content", "tool_calls.0.name", "tool_calls.x.name", "tool_calls.99999999.id", "reasoning")
    attributes = {f"gen_ai.prompt.{at}.{name}": value for at in (0, "x", "9" * 30) for name in names}
    call = span(REQUEST_1, attributes={**attributes, "session.id": "s", "llm.request.type": "chat"})
    (message,) = only_turn(call).input
    assert message.role in ("", "user")
    assert {text for part in message.parts if part.kind != "reasoning" for text in (part.name, part.text)} == {""}
