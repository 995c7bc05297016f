"""The client's whole surface: one span for each call, and the application gets what it always gets.

Runs under the openai version of its environment; `matrix.py` runs it under each that is promised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import openai
import pytest
from client_surface import (
    MODEL,
    SESSION,
    Client,
    Method,
    lacking,
    names_of,
    parsed,
    pieces,
    settled,
    surface,
    use,
    within,
)
from opentelemetry.sdk.trace import ReadableSpan

from otel_llm_sessions.testing import capture_spans

pytestmark = pytest.mark.contract

RAW = ("", "with_raw_response.", "with_streaming_response.")


def each_view(area: str, *methods: str) -> set[str]:
    return {f"{area}.{view}{method}" for view in RAW for method in methods}


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


# What is lacking of the surface before a version; None: in every one so far. Everything else is called. Versions
# between those that the matrix tries belong to the older one.
LACKING: tuple[tuple[str | None, set[str]], ...] = (
    (None, {"responses.with_streaming_response.parse"}),
    ("2.54", each_view("beta.responses", "create", "retrieve", "cancel", "compact")),
    ("2.54", each_view("responses", "compact")),
    ("1.109", each_view("chat.completions", "parse") | {"chat.completions.stream"}),
    ("1.109", each_view("beta.chat.completions", "create")),
    ("1.109", each_view("responses", "cancel") | {"responses.with_raw_response.parse"}),
    ("1.109", {"responses.create(background)", "responses.retrieve(stream)"}),
)
KNOWN = "3.57.0"
"""The newest version that somebody has looked at: of one that is newer the table is not expected to know all."""


def lacking_in(version: str) -> set[str]:
    """What a version lacks of the surface, as the table has it."""
    rows = [names for before, names in LACKING if before is None or version_of(version) < version_of(before)]
    return set().union(*rows)


def missing() -> set[str]:
    """What is not called, as it is not there."""
    if version_of(openai.__version__) <= version_of(KNOWN):
        return lacking_in(openai.__version__)
    with openai.OpenAI(api_key="test", base_url="http://127.0.0.1:1") as client:
        return lacking(client)


MISSING = missing()
CALLS = [(method, view) for method, view in surface() if not names_of(method, view) & MISSING]
every_call = pytest.mark.parametrize(("method", "view"), CALLS, ids=[f"{method.name}-{view}" for method, view in CALLS])

REPLY_ATTRIBUTES = {
    "gen_ai.response.id",
    "gen_ai.response.model",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.response.finish_reasons",
}
# How a response ended, by its status; one that is queued has not, and a compaction has no status.
FINISHED = {"completed": ("stop",), "cancelled": ("cancelled",)}


def test_this_version_lacks_exactly_what_the_table_says(client: Client) -> None:
    assert lacking(client.openai) == MISSING


@pytest.mark.parametrize("version", ["3.57.0", "3.58.0", "3.100.0rc1", "4.0.0"])
def test_a_newer_version_lacks_no_more_than_the_one_before(version: str) -> None:
    assert lacking_in(version) == lacking_in("2.54.0") < lacking_in("2.53.9") < lacking_in("1.66.0")


@every_call
def test_a_call_gives_the_application_what_it_gives_without_us_and_is_one_span_with_what_the_server_sent(
    client: Client, method: Method, view: str, make_response: Callable[..., str]
) -> None:
    asked = [make_response(method.about == "background") if method.about else "" for _ in range(2)]
    without = client.run(use(client.openai, method, view, asked[0]))
    with capture_spans(traces="turn") as spans:
        with_us = client.run(use(client.openai, method, view, asked[1]))
    assert [type(value) for value in with_us] == [type(value) for value in without]
    (span,) = spans
    check_request(span, method, client)
    check_reply(span, method, with_us)
    check_session(span, method, with_us)


def check_request(span: ReadableSpan, method: Method, client: Client) -> None:
    attributes = dict(span.attributes or {})
    assert span.name == (f"{method.operation} {MODEL}" if method.is_turn else method.operation)
    assert attributes["gen_ai.operation.name"] == method.operation
    assert attributes["openai.api.type"] == method.api
    assert attributes["gen_ai.provider.name"] == client.provider
    assert attributes.get("gen_ai.request.model") == (MODEL if method.is_turn else None)
    assert "error.type" not in attributes


def check_reply(span: ReadableSpan, method: Method, seen: list[Any]) -> None:
    """The span says of the reply exactly what the application saw of it."""
    found = {name: value for name, value in (span.attributes or {}).items() if name in REPLY_ATTRIBUTES}
    assert found == expected_reply(method, seen)
    assert found["gen_ai.response.id"]


def expected_reply(method: Method, seen: list[Any]) -> dict[str, Any]:
    said = [part for piece in seen for part in (piece, getattr(piece, "response", None)) if is_reply(part)]
    usage = last(getattr(part, "usage", None) for part in said) if method.is_turn else None
    names = (
        ("prompt_tokens", "completion_tokens")
        if method.api == "chat_completions"
        else ("input_tokens", "output_tokens")
    )
    expected = {
        "gen_ai.response.id": last(part.id for part in said),
        "gen_ai.response.model": last(getattr(part, "model", None) for part in said),
        "gen_ai.usage.input_tokens": getattr(usage, names[0], None),
        "gen_ai.usage.output_tokens": getattr(usage, names[1], None),
        "gen_ai.response.finish_reasons": finish_reasons(method, said),
    }
    return {name: value for name, value in expected.items() if value is not None}


def is_reply(value: Any) -> bool:
    return getattr(value, "object", None) in {
        "chat.completion", "chat.completion.chunk", "response", "response.compaction"
    }  # fmt: skip


def last(values: Iterable[Any]) -> Any:
    """The last of the values that is there at all."""
    return next((value for value in reversed(list(values)) if value is not None), None)


def finish_reasons(method: Method, said: list[Any]) -> tuple[str, ...] | None:
    if method.api == "responses":
        return FINISHED.get(getattr(said[-1], "status", None))
    reason = last(choice.finish_reason for part in said for choice in part.choices)
    return (reason,) if reason is not None else None


def check_session(span: ReadableSpan, method: Method, seen: list[Any]) -> None:
    attributes = dict(span.attributes or {})
    if not method.is_turn:
        return
    by_header = method.api == "chat_completions"
    own_id = attributes["gen_ai.response.id"]
    assert attributes["session.id"] == (SESSION if by_header else own_id)
    assert attributes["llm_session.source"] == ("header" if by_header else "new")


# --- below the resources: client.post ----------------------------------------------------------------------------

BODIES = {
    "/responses": {"model": MODEL, "input": "Hello"},
    "/chat/completions": {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]},
}


def types_of(path: str, client: Client) -> dict[str, Any]:
    """What `client.post` is told to make of a stream."""
    from openai.types.chat import ChatCompletionChunk
    from openai.types.responses import ResponseStreamEvent

    stream = openai.AsyncStream if client.kind.startswith("Async") else openai.Stream
    piece: Any = ResponseStreamEvent if path == "/responses" else ChatCompletionChunk
    return {"stream": True, "stream_cls": stream[piece]}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", BODIES)
def test_client_post_is_one_span(client: Client, path: str, streamed: bool) -> None:
    from openai.types.chat import ChatCompletion
    from openai.types.responses import Response

    cast_to: Any = Response if path == "/responses" else ChatCompletion
    body = {**BODIES[path], "stream": True} if streamed else BODIES[path]

    async def post() -> list[Any]:
        options = types_of(path, client) if streamed else {}
        return await pieces(await settled(client.openai.post(path, cast_to=cast_to, body=body, **options)))

    with capture_spans(traces="turn") as spans:
        seen = client.run(post())
    (span,) = spans
    api = "responses" if path == "/responses" else "chat_completions"
    check_request(span, Method("post", "post", api=api), client)
    check_reply(span, Method("post", "post", api=api), seen)


@pytest.mark.parametrize("cast_to", [object, str])
def test_client_post_may_ask_for_any_type(client: Client, cast_to: Any) -> None:
    async def post() -> Any:
        return await settled(client.openai.post("/responses", cast_to=cast_to, body=BODIES["/responses"]))

    without = client.run(post())
    with capture_spans(traces="turn") as spans:
        with_us = client.run(post())
    assert type(with_us) is type(without)
    (span,) = spans
    assert span.name == f"chat {MODEL}"


# --- one conversation through several methods --------------------------------------------------------------------


def test_a_chain_and_what_fetches_from_it_are_one_session_and_count_tokens_once(client: Client) -> None:
    async def converse() -> tuple[Any, Any]:
        responses = client.openai.responses
        first = await settled(responses.create(model=MODEL, input="Hello"))
        second = await settled(responses.create(model=MODEL, input="And?", previous_response_id=first.id))
        await settled(responses.retrieve(second.id))
        return first, second

    with capture_spans(traces="turn") as spans:
        first, _ = client.run(converse())
    assert [span.name for span in spans] == [f"chat {MODEL}", f"chat {MODEL}", "fetch_response"]
    assert {(span.attributes or {})["session.id"] for span in spans} == {first.id}
    counted = [any(name.startswith("gen_ai.usage.") for name in span.attributes or {}) for span in spans]
    assert counted == [True, True, False]


@pytest.mark.parametrize("how", ["by hand", "conversations"])
def test_a_turn_that_echoes_the_items_of_a_conversation_is_that_conversations(client: Client, how: str) -> None:
    if how == "conversations" and not hasattr(client.openai, "conversations"):
        pytest.skip("this version has none")

    async def converse() -> tuple[str, list[Any]]:
        item: Any = {"role": "user", "content": "Hello"}
        if how == "conversations":
            talk = await settled(client.openai.conversations.create())
            added = await settled(client.openai.conversations.items.create(talk.id, items=[item]))
            return talk.id, [{**item, "id": each.id} for each in added.data]
        made: Any = await settled(client.openai.post("/conversations", cast_to=object, body={}))
        path = f"/conversations/{made['id']}/items"
        await settled(client.openai.post(path, cast_to=object, body={"items": [item]}))
        listed: Any = await settled(client.openai.get(path, cast_to=object))
        return made["id"], listed["data"]

    async def respond() -> str:
        talk, items = await converse()
        await settled(client.openai.responses.create(model=MODEL, input=items))
        return talk

    with capture_spans(traces="turn") as spans:
        talk = client.run(respond())
    (span,) = spans
    assert (span.attributes or {})["session.id"] == talk


@pytest.mark.parametrize("read", ["read", "json", "text", "iter_bytes", "iter_text", "iter_lines"])
def test_a_streaming_response_read_in_any_way_is_one_span(client: Client, read: str) -> None:
    async def body(response: Any) -> Any:
        value = getattr(response, read)()
        return [part async for part in value] if hasattr(value, "__aiter__") else await settled(whole(value))

    def call() -> Any:
        responses = client.openai.responses.with_streaming_response
        return client.run(within(responses.create(model=MODEL, input="Hello"), body))

    without = call()
    with capture_spans(traces="turn") as spans:
        with_us = call()
    assert type(with_us) is type(without)
    assert len(with_us) > 0
    (span,) = spans
    assert span.name == f"chat {MODEL}"


def whole(value: Any) -> Any:
    return list(value) if hasattr(value, "__next__") else value


@pytest.mark.parametrize("view", ["with_raw_response", "with_streaming_response"])
def test_a_raw_reply_parsed_twice_is_one_span(client: Client, view: str) -> None:
    async def twice(response: Any) -> list[Any]:
        return [*await parsed(response), *await parsed(response)]

    async def call() -> list[Any]:
        result = getattr(client.openai.responses, view).create(model=MODEL, input="Hello")
        return await (within(result, twice) if "streaming" in view else twice(await settled(result)))

    with capture_spans(traces="turn") as spans:
        seen = client.run(call())
    assert seen[1] is seen[3]
    (span,) = spans
    assert (span.attributes or {})["gen_ai.response.id"] == seen[1].id


def test_nothing_is_left_after_uninstrumenting(client: Client) -> None:
    async def call() -> Any:
        return await settled(client.openai.responses.create(model=MODEL, input="Hello"))

    with capture_spans(traces="turn") as spans:
        client.run(call())
    client.run(call())
    assert len(spans) == 1
