"""What real servers send, line by line: the call survives it, the span says what was sent and invents nothing."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import openai
import pytest
from loopback_client import MESSAGES, MODEL
from odd_kit import chat, response
from promises_kit import outcome

from otel_llm_sessions.testing import capture_spans

LONG_ID = "resp_" + "A1b2C3d4E5" * 46 + "xyzzy"

ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
REASONS = "gen_ai.response.finish_reasons"
STATUS = "gen_ai.response.status"
ERROR = "error.type"
INPUT = "gen_ai.usage.input_tokens"
OUTPUT = "gen_ai.usage.output_tokens"
CACHED = "gen_ai.usage.cache_read.input_tokens"
REASONING = "gen_ai.usage.reasoning.output_tokens"
SESSION = "session.id"

ABSENT: Any = None


class Case(NamedTuple):
    """One thing that a server sent, and what the span says of it."""

    name: str
    sent: Any
    """A JSON value, or exact bytes; for streams a list of events, or exact bytes."""
    expected: dict[str, Any]
    """Attributes; ``ABSENT`` for what must not be invented."""
    content_type: str = "application/json"


def choice(**fields: Any) -> dict[str, Any]:
    return {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}, **fields}


def usage(**fields: Any) -> dict[str, Any]:
    return chat(usage={"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, **fields})


def response_usage(**fields: Any) -> dict[str, Any]:
    return response(usage={"input_tokens": 5, "output_tokens": 7, "total_tokens": 12, **fields})


NO_REPLY = {ID: ABSENT, RESPONSE_MODEL: ABSENT, REASONS: ABSENT, INPUT: ABSENT, OUTPUT: ABSENT}
INVALID = {**NO_REPLY, ERROR: "invalid_response"}
NO_USAGE = {INPUT: ABSENT, OUTPUT: ABSENT, CACHED: ABSENT, REASONING: ABSENT}
BLANK = b"\n\n   \n"

CHAT_REPLIES = [
    # Ids
    Case("id empty", chat(id=""), {ID: ABSENT, REASONS: ("stop",)}),
    Case("id null", chat(id=None), {ID: ABSENT, REASONS: ("stop",)}),
    Case("id a number", chat(id=150), {ID: ABSENT}),
    Case("id short", chat(id="chatcmpl-150"), {ID: "chatcmpl-150", SESSION: ABSENT}),
    # Shape
    Case("empty body", b"", {**NO_REPLY, ERROR: ...}),
    Case("empty body that says it is text", b"", INVALID, "text/plain"),
    Case("text", b"upstream timed out", INVALID, "text/plain"),
    Case("html", b"<html>Sign in</html>", INVALID, "text/html; charset=utf-8"),
    Case("a message", {"message": "Success"}, {**NO_REPLY, ERROR: ABSENT}),
    Case("an empty object", {}, {**NO_REPLY, ERROR: ABSENT}),
    Case("no choices", {k: v for k, v in chat().items() if k != "choices"}, {ID: "chatcmpl-1", REASONS: ABSENT}),
    Case("blank lines first", BLANK + json.dumps(chat()).encode(), {ID: "chatcmpl-1", REASONS: ("stop",)}),
    Case("object done", chat(object="chat.completion.done"), {ID: "chatcmpl-1"}),
    Case("created a float", chat(created=1.5), {ID: "chatcmpl-1"}),
    Case("choices empty", chat(choices=[]), {ID: "chatcmpl-1", REASONS: ABSENT}),
    Case("choices null", chat(choices=None), {ID: "chatcmpl-1", REASONS: ABSENT}),
    Case("choices a dict", chat(choices={"a": 1}), {ID: "chatcmpl-1", REASONS: ABSENT}),
    Case("a choice null", chat(choices=[None]), {ID: "chatcmpl-1", REASONS: ABSENT}),
    Case("a choice without message", chat(choices=[{"index": 0, "finish_reason": "stop"}]), {REASONS: ("stop",)}),
    Case("message null", chat(choices=[choice(message=None)]), {REASONS: ("stop",)}),
    Case("model empty", chat(model=""), {RESPONSE_MODEL: ABSENT}),
    Case("model null", chat(model=None), {RESPONSE_MODEL: ABSENT}),
    Case("finish reason null", chat(choices=[choice(finish_reason=None)]), {REASONS: ABSENT}),
    Case("finish reason of its own", chat(choices=[choice(finish_reason="eos")]), {REASONS: ("eos",)}),
    Case("content a list", chat(choices=[choice(message={"content": [{"type": "text"}]})]), {REASONS: ("stop",)}),
    Case("tool calls empty", chat(choices=[choice(message={"tool_calls": []})]), {REASONS: ("stop",)}),
    Case(
        "tool calls odd",
        chat(choices=[choice(message={"tool_calls": [{"id": None, "type": None}, {"type": "custom", "id": ""}]})]),
        {REASONS: ("stop",), SESSION: ABSENT},
    ),
    Case("index missing", chat(choices=[{"finish_reason": "a"}, {"finish_reason": "b"}]), {REASONS: ("a", "b")}),
    # Usage
    Case("usage absent", chat(), NO_USAGE),
    Case("usage null", chat(usage=None), NO_USAGE),
    Case("usage partly", chat(usage={"total_tokens": 3}), NO_USAGE),
    Case("usage a string", chat(usage="3"), NO_USAGE),
    Case(
        "usage details null", usage(prompt_tokens_details=None, completion_tokens_details=None), {INPUT: 5, OUTPUT: 7}
    ),
    Case("usage with other things", usage(cost=3.75e-05, service_tier="standard"), {INPUT: 5, OUTPUT: 7}),
    Case("usage of floats", usage(prompt_tokens=5.5, completion_tokens="7"), {INPUT: ABSENT, OUTPUT: ABSENT}),
    Case(
        "reasoning over output", usage(completion_tokens_details={"reasoning_tokens": 90}), {OUTPUT: 7, REASONING: 90}
    ),
    Case("cached over input", usage(prompt_tokens_details={"cached_tokens": 90}), {INPUT: 5, CACHED: 90}),
    Case("total odd", usage(total_tokens=1), {INPUT: 5, OUTPUT: 7}),
    # Errors with status 200
    Case("error a string", {"error": "quota"}, {ERROR: "_OTHER", ID: ABSENT}),
    Case("error without code", {"error": {"message": "no"}}, {ERROR: "_OTHER"}),
    Case("error with a number", {"error": {"code": 503, "message": "busy"}}, {ERROR: "503"}),
    Case("error with a type", {"error": {"code": None, "type": "overloaded"}}, {ERROR: "overloaded"}),
    Case("detail", {"detail": "Not Found"}, {ERROR: ABSENT, ID: ABSENT}),
    # JSON that is no object
    Case("a list", [1, 2], {**NO_REPLY}),
    Case("null", b"null", {**NO_REPLY}),
]

RESPONSE_REPLIES = [
    Case("id empty", response(id=""), {ID: ABSENT, SESSION: ABSENT}),
    Case("id null", response(id=None), {ID: ABSENT, SESSION: ABSENT}),
    Case("id counted", response(id="resp_01000"), {ID: "resp_01000"}),
    Case("id of 470 characters", response(id=LONG_ID), {ID: LONG_ID}),
    Case("previous id rewritten", response(previous_response_id="resp_other"), {ID: "resp_1", SESSION: "resp_1"}),
    Case("item ids null", response(output=[{"id": None, "type": "message"}]), {ID: "resp_1", REASONS: ("stop",)}),
    Case("empty body", b"", {**NO_REPLY, ERROR: ...}),
    Case("text", b"upstream timed out", INVALID, "text/plain"),
    Case("html", b"<html>Sign in</html>", INVALID, "text/html"),
    Case("a message", {"message": "Success"}, {**NO_REPLY, SESSION: ABSENT}),
    Case("blank lines first", BLANK + json.dumps(response()).encode(), {ID: "resp_1"}),
    Case("status of its own", response(status="complete"), {STATUS: "complete", ID: "resp_1"}),
    Case("status a number", response(status=1), {STATUS: ABSENT, ID: "resp_1"}),
    Case("created at a float", response(created_at=1.5), {ID: "resp_1"}),
    Case("output null", response(output=None), {ID: "resp_1", REASONS: ABSENT}),
    Case("output a string", response(output="x"), {ID: "resp_1", REASONS: ABSENT}),
    Case("output of nulls", response(output=[None, 3]), {ID: "resp_1"}),
    Case("model null", response(model=None), {RESPONSE_MODEL: ABSENT}),
    Case("incomplete without details", response(status="incomplete"), {REASONS: ("incomplete",), ERROR: ABSENT}),
    Case("incomplete, details odd", response(status="incomplete", incomplete_details="x"), {REASONS: ("incomplete",)}),
    Case("failed without error", response(status="failed", error=None), {ERROR: "failed", REASONS: ("error",)}),
    Case("usage null", response(usage=None), NO_USAGE),
    Case("usage partly", response(usage={"total_tokens": 3}), NO_USAGE),
    Case("usage details null", response_usage(input_tokens_details=None), {INPUT: 5, OUTPUT: 7, CACHED: ABSENT}),
    Case("cached over input", response_usage(input_tokens_details={"cached_tokens": 90}), {INPUT: 5, CACHED: 90}),
    Case(
        "reasoning over output",
        response_usage(output_tokens_details={"reasoning_tokens": 9}),
        {OUTPUT: 7, REASONING: 9},
    ),
    Case("error a string", {"error": "quota"}, {ERROR: "_OTHER"}),
    Case("error with a number", {"error": {"code": 503}}, {ERROR: "503"}),
    Case("a list", [], {**NO_REPLY}),
]


def chunk(**fields: Any) -> dict[str, Any]:
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return {**base, "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}], **fields}


def last(**fields: Any) -> dict[str, Any]:
    return chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], **fields)


def counts(number: int) -> dict[str, Any]:
    return {"prompt_tokens": number, "completion_tokens": number, "total_tokens": 2 * number}


def sse(*events: Any, end: str = "\n\n", done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(event)}{end}" for event in events]
    return "".join([*lines, f"data: [DONE]{end}" if done else ""]).encode()


STOPPED = {ID: "chatcmpl-1", REASONS: ("stop",), ERROR: ABSENT}
CUT = b'data: {"id": "chatcmpl-1", "choices": []}\n\n'

CHAT_STREAMS = [
    Case("id empty first", [chunk(id="", choices=[]), chunk(), last()], STOPPED),
    Case("id null first", [chunk(id=None), chunk(), last()], STOPPED),
    Case("id empty last", [chunk(), last(id="")], STOPPED),
    Case("id empty all along", [chunk(id=""), last(id="")], {ID: ABSENT, REASONS: ("stop",)}),
    Case("id changes", [chunk(id="one"), chunk(id="two"), last(id="three")], {ID: "three", REASONS: ("stop",)}),
    Case("comments", b": OPENROUTER PROCESSING\n\n" + sse(chunk(), last()), STOPPED),
    Case("line ends of two characters", sse(chunk(), last(), end="\r\n\r\n"), STOPPED),
    Case("no done", sse(chunk(), last(), done=False), STOPPED),
    Case("done without a line end", sse(chunk(), last(), done=False) + b"data: [DONE]", STOPPED),
    Case("more after done", sse(chunk(), last()) + sse(chunk(id="late")), STOPPED),
    Case("events that say they are text", sse(chunk(), last()), STOPPED, "text/plain"),
    Case("events that say nothing", sse(chunk(), last()), STOPPED, ""),
    Case("choices empty first", [chunk(choices=[]), chunk(), last()], STOPPED),
    Case("choices null", [chunk(choices=None), last()], STOPPED),
    Case("no choices", [{"id": "chatcmpl-1"}, last()], STOPPED),
    Case("no delta", [chunk(choices=[{"index": 0, "finish_reason": None}]), last()], STOPPED),
    Case("delta null", [chunk(choices=[{"index": 0, "delta": None}]), last()], STOPPED),
    Case("model empty", [chunk(model=""), last(model="")], {**STOPPED, RESPONSE_MODEL: ABSENT}),
    Case("model null", [chunk(model=None), last()], {**STOPPED, RESPONSE_MODEL: MODEL}),
    Case("no finish reason", [chunk(), chunk()], {ID: "chatcmpl-1", REASONS: ABSENT}),
    Case("finish reason of its own", [chunk(choices=[{"index": 0, "finish_reason": "eos"}])], {REASONS: ("eos",)}),
    Case("content a list", [chunk(choices=[{"index": 0, "delta": {"content": [{"type": "text"}]}}]), last()], STOPPED),
    Case("tool calls empty", [chunk(choices=[{"index": 0, "delta": {"tool_calls": []}}]), last()], STOPPED),
    Case(
        "tool delta without index",
        [chunk(choices=[{"index": 0, "delta": {"tool_calls": [{"id": "", "type": None}]}}]), last()],
        STOPPED,
    ),
    Case(
        "tool delta of a type of its own",
        [chunk(choices=[{"index": 0, "delta": {"tool_calls": [{"type": "custom", "id": None}]}}]), last()],
        STOPPED,
    ),
    Case("usage in several", [chunk(usage=counts(1)), chunk(usage=counts(2)), last(usage=counts(3))], {INPUT: 3}),
    Case("usage not in the last", [chunk(usage=counts(2)), last()], {INPUT: 2, OUTPUT: 2}),
    Case("usage then null", [chunk(usage=counts(2)), last(usage=None)], {INPUT: 2}),
    Case("usage alone", [chunk(), last(), chunk(choices=[], usage=counts(4))], {INPUT: 4, REASONS: ("stop",)}),
    Case("usage absent", [chunk(), last()], NO_USAGE),
    Case("usage partly", [chunk(), last(usage={"total_tokens": 3})], NO_USAGE),
    Case("an error for a chunk", [chunk(), {"error": {"code": 502, "message": "no"}}], {ID: "chatcmpl-1", ERROR: ...}),
    Case("an error at once", [{"error": {"message": "busy"}}], {ID: ABSENT, ERROR: ...}),
    Case("an error that is a string", [{"error": "busy"}], {ID: ABSENT, ERROR: ...}),
    Case("an error beside choices", [chunk(error={"code": 1}), last()], {ERROR: ...}),
    Case("nothing", b"", INVALID),
    Case("only done", b"data: [DONE]\n\n", {**NO_REPLY, ERROR: "invalid_response"}),
    Case("html", b"<html></html>", INVALID, "text/html"),
    Case("json", json.dumps(chat()).encode(), {}, "application/json"),
    Case("broken json", b"data: {\n\n", {ERROR: ...}),
    Case("an event of null", b"data: null\n\n" + sse(last()), {}),
    Case("a list", b"data: [1]\n\n" + sse(last()), {}),
]


def state(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "sequence_number": 0, "response": response(**fields)}


def created(**fields: Any) -> dict[str, Any]:
    return state("created", **{"status": "in_progress", "output": [], **fields})


DELTA = {"type": "response.output_text.delta", "delta": "Hi", "item_id": "msg_1", "output_index": 0, "content_index": 0}
ENDED = {ID: "resp_1", REASONS: ("stop",), ERROR: ABSENT}

RESPONSE_STREAMS = [
    Case("as it should be", [created(), DELTA, state("completed")], {**ENDED, SESSION: "resp_1"}),
    Case(
        "three ids",
        [created(id="one"), state("in_progress", id="two", status="in_progress"), state("completed", id="three")],
        {ID: "three", SESSION: "one", REASONS: ("stop",)},
    ),
    Case("id empty first", [created(id=""), state("completed")], {**ENDED, SESSION: "resp_1"}),
    Case("done at the end", sse(created(), state("completed")), ENDED),
    Case("no done", sse(created(), state("completed"), done=False), ENDED),
    Case("line ends of two characters", sse(created(), state("completed"), end="\r\n\r\n", done=False), ENDED),
    Case("an event never seen", [created(), {"type": "response.dream", "x": 1}, state("completed")], ENDED),
    Case("an event without type", [created(), {"x": 1}, state("completed")], ENDED),
    Case("a type that is none", [created(), {"type": ["x"]}, state("completed")], ENDED),
    Case("response null", [created(), {"type": "response.in_progress", "response": None}, state("completed")], ENDED),
    Case("output null", [created(output=None), state("completed", output=None)], {ID: "resp_1", REASONS: ABSENT}),
    Case("status of its own", [created(), state("completed", status="complete")], {ID: "resp_1", STATUS: "complete"}),
    Case("usage null", [created(), state("completed", usage=None)], NO_USAGE),
    Case(
        "usage", [created(), state("completed", usage={"input_tokens": 5, "output_tokens": 7})], {INPUT: 5, OUTPUT: 7}
    ),
    Case(
        "failed", [created(), state("failed", status="failed", error={"code": "server_error"})], {ERROR: "server_error"}
    ),
    Case("an error event", [created(), {"type": "error", "code": "boom", "message": "x"}], {ERROR: ...}),
    Case("an error without type", [created(), {"error": {"code": "boom"}}], {ERROR: ...}),
    Case("an error that is a string", [{"type": "error", "error": "busy"}], {ERROR: ...}),
    Case("nothing", b"", INVALID),
    Case("html", b"<html></html>", INVALID, "text/html"),
]


def body_of(sent: Any) -> Any:
    return sse(*sent, done=False) if isinstance(sent, list) else sent


def call(client: Any, api: str, how: str, stream: bool) -> Any:
    """Make a call in one of the ways that the client has; return what the application sees."""
    resource = client.chat.completions if api == "chat" else client.responses
    arguments: dict[str, Any] = {"model": MODEL, **({"messages": MESSAGES} if api == "chat" else {"input": "x"})}
    if stream:
        arguments["stream"] = True
    if how == "parsed":
        return seen(resource.create(**arguments), stream)
    if how == "raw":
        raw = resource.with_raw_response.create(**arguments)
        return seen(raw.parse(), stream), dict(raw.headers) and raw.status_code
    with resource.with_streaming_response.create(**arguments) as raw:
        return raw.is_closed, list(raw.iter_lines()), raw.is_closed


def seen(reply: Any, stream: bool) -> Any:
    if stream and isinstance(reply, openai.Stream):
        return type(reply), [repr(event) for event in reply]
    return type(reply), repr(reply)


def begun_by(attributes: Any) -> str:
    """The response that names the span's session; the name of one with a short id goes on, to be one of a kind."""
    name, at, _ = attributes[SESSION].partition("@127.0.0.1:")
    assert at
    return name


def check(expected: dict[str, Any], attributes: Any) -> None:
    for name, value in expected.items():
        if value is ...:
            assert attributes.get(name), name
        elif name == SESSION and value is not ABSENT:
            assert begun_by(attributes) == value
        else:
            assert attributes.get(name) == value, name


def ids(case: Case) -> str:
    return case.name


HOW = pytest.mark.parametrize("how", ["parsed", "raw", "streaming"])


def run(server: Any, client: Any, api: str, how: str, case: Case, stream: bool) -> Any:
    def script() -> None:
        if stream:
            content_type = "text/event-stream" if case.content_type == "application/json" else case.content_type
            server.script_stream(body_of(case.sent), content_type=content_type)
        else:
            server.script(case.sent, content_type=case.content_type)

    script()
    bare = outcome(lambda: call(client, api, how, stream))
    script()
    with capture_spans(traces="turn") as spans:
        assert outcome(lambda: call(client, api, how, stream)) == bare
    assert len(spans) == 1
    check(case.expected, spans[0].attributes)


@HOW
@pytest.mark.parametrize("case", CHAT_REPLIES, ids=ids)
def test_chat_replies(server, client, ours, how, case):
    run(server, client, "chat", how, case, stream=False)
    assert not ours


@HOW
@pytest.mark.parametrize("case", RESPONSE_REPLIES, ids=ids)
def test_responses(server, client, ours, how, case):
    run(server, client, "responses", how, case, stream=False)
    assert not ours


@HOW
@pytest.mark.parametrize("case", CHAT_STREAMS, ids=ids)
def test_chat_streams(server, client, ours, how, case):
    run(server, client, "chat", how, case, stream=True)
    assert not ours


@HOW
@pytest.mark.parametrize("case", RESPONSE_STREAMS, ids=ids)
def test_response_streams(server, client, ours, how, case):
    run(server, client, "responses", how, case, stream=True)
    assert not ours


# --- ids that tie calls together ------------------------------------------------------------------------------


def ask(client: Any, previous: str, **reply: Any) -> Any:
    return client.responses.create(model=MODEL, input="x", previous_response_id=previous)


@pytest.mark.parametrize("previous", ["resp_one", "resp_two", "resp_three"])
def test_all_ids_of_one_stream_are_remembered(server, client, previous):
    events = [created(id="resp_one"), state("in_progress", id="resp_two"), state("completed", id="resp_three")]
    server.script_stream(sse(*events, done=False))
    server.script(response(id="resp_next"))
    with capture_spans(traces="turn") as spans:
        list(client.responses.create(model=MODEL, input="x", stream=True))
        ask(client, previous)
    assert [begun_by(span.attributes) for span in spans] == ["resp_one", "resp_one"]


def test_the_previous_id_of_the_reply_is_not_believed(server, client):
    server.script(response(id="resp_a"))
    server.script(response(id="resp_b"))
    server.script(response(id="resp_c", previous_response_id="resp_a"))
    with capture_spans(traces="turn") as spans:
        client.responses.create(model=MODEL, input="x")
        client.responses.create(model=MODEL, input="x")
        ask(client, "resp_b")
    assert [begun_by(span.attributes) for span in spans] == ["resp_a", "resp_b", "resp_b"]


def test_an_id_of_470_characters_names_a_chain(server, client):
    server.script(response(id=LONG_ID))
    server.script(response(id=LONG_ID[:-1] + "z"))
    with capture_spans(traces="turn") as spans:
        client.responses.create(model=MODEL, input="x")
        ask(client, LONG_ID)
    first, second = spans
    assert first.attributes[SESSION] == second.attributes[SESSION]
    assert second.attributes["llm_session.turn"] == 2


def test_a_retrieved_id_is_an_alias(server, client):
    server.script(response(id="resp_a"))
    server.script(response(id="resp_other"), path="/responses/resp_a")
    server.script(response(id="resp_b"))
    with capture_spans(traces="turn") as spans:
        client.responses.create(model=MODEL, input="x")
        client.responses.retrieve("resp_a")
        ask(client, "resp_other")
    assert {begun_by(span.attributes) for span in spans} == {"resp_a"}
    assert INPUT not in spans[1].attributes


def test_short_ids_of_two_servers_tie_nothing_together(server, client):
    from loopback import LoopbackServer

    with LoopbackServer() as other, openai.OpenAI(base_url=other.base_url, api_key="x") as stranger:
        server.script(response(id="resp_0"))
        server.script(response(id="resp_mine"))
        other.script(response(id="resp_0"))
        other.script(response(id="resp_theirs"))
        with capture_spans(traces="turn") as spans:
            client.responses.create(model=MODEL, input="x")
            stranger.responses.create(model=MODEL, input="y")
            ask(client, "resp_0")
            ask(stranger, "resp_0")
    previous = [link.context.span_id for span in spans[2:] for link in span.links]
    assert previous == [spans[0].context.span_id, spans[1].context.span_id]


# --- requests ---------------------------------------------------------------------------------------------------


def test_the_model_may_be_in_the_path_or_in_the_reply_only(server):
    server.script(chat(model="gpt-4o-2024"), path="/chat/completions")
    server.script(response(model="gpt-prompted"), path="/responses")
    with (
        openai.AzureOpenAI(
            azure_endpoint=server.azure_endpoint, api_key="x", api_version="v1", azure_deployment="mine"
        ) as azure,
        openai.OpenAI(base_url=server.base_url, api_key="x") as client,
    ):
        with capture_spans(traces="turn") as spans:
            azure.chat.completions.create(model="", messages=MESSAGES)
            client.responses.create(
                input=openai.NOT_GIVEN, model=openai.NOT_GIVEN, extra_body={"prompt": {"id": "pmpt_1", "version": "2"}}
            )
    deployed, prompted = spans
    assert deployed.attributes["gen_ai.request.model"] == "mine"
    assert deployed.attributes[RESPONSE_MODEL] == "gpt-4o-2024"
    assert "gen_ai.request.model" not in prompted.attributes
    assert prompted.name == "chat"
    assert prompted.attributes[RESPONSE_MODEL] == "gpt-prompted"
    assert prompted.attributes["gen_ai.prompt.name"] == "pmpt_1"


@pytest.mark.parametrize("body", ['{"detail": "no"}', '"no"', "[]", "", "<html>", '{"error": "no"}', '{"error": {}}'])
@pytest.mark.parametrize("status", [400, 404, 500])
def test_error_bodies(server, client, ours, status, body):
    def scenario() -> Any:
        server.script(body, status=status)
        return outcome(lambda: call(client, "chat", "parsed", False))

    bare = scenario()
    with capture_spans(traces="turn") as spans:
        assert scenario() == bare
    assert spans[0].attributes[ERROR] == f"openai.{bare[0].__name__}"
    assert not ours
