"""What the application sees and sends is what it would be without us (docs/architecture.md)."""

from __future__ import annotations

import asyncio
import copy
import traceback
import typing
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from loopback_client import MESSAGES, MODEL
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion
from promises_kit import CHAT, STREAM, aoutcome, outcome, same_with_and_without, seen

from otel_llm_sessions.testing import capture_spans

pytestmark = pytest.mark.usefixtures("quick_collections")


OMIT = getattr(openai, "omit", openai.NOT_GIVEN)  # old clients have the one only


OMIT_HEADER = getattr(openai, "omit", None) or openai._types.Omit()


# --- what is sent -------------------------------------------------------------------------------------------


def comparable(request: Any) -> Any:
    headers = {name.lower(): value for name, value in dict(request.headers).items()}
    headers.pop("idempotency-key", None)
    headers.pop("x-stainless-idempotency-key", None)
    return request.method, request.path, headers, request.body


REQUESTS: dict[str, Callable[[OpenAI], Any]] = {
    "chat": lambda client: client.chat.completions.create(model=MODEL, messages=MESSAGES),
    "session in the body": lambda client: client.chat.completions.create(
        model=MODEL, messages=MESSAGES, extra_body={"metadata": {"litellm_session_id": "s"}}
    ),
    "session in the metadata": lambda client: client.responses.create(
        model=MODEL, input="x", metadata={"session_id": "s", "mine": "kept"}
    ),
    "session in the headers": lambda client: client.responses.create(
        model=MODEL, input="x", extra_headers={"x-session-id": "s"}, extra_query={"a": "1"}, timeout=5
    ),
    "generators": lambda client: client.chat.completions.create(
        model=MODEL,
        messages=(message for message in MESSAGES),
        tools=({"type": "function", "function": {"name": name}} for name in ("a", "b")),
    ),
    "stream": lambda client: list(
        client.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    ),
    "raw": lambda client: client.responses.with_raw_response.create(model=MODEL, input="x"),
    "post": lambda client: client.post("/responses", body={"model": MODEL, "input": "x"}, cast_to=object),
    "sentinels": lambda client: client.responses.create(
        model=MODEL, input="x", temperature=OMIT, max_output_tokens=openai.NOT_GIVEN, store=None
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_request_is_the_same_byte_for_byte(server, client, name):
    REQUESTS[name](client)
    with capture_spans():
        REQUESTS[name](client)
    bare, instrumented = server.requests
    assert comparable(bare) == comparable(instrumented)


def test_generators_are_drained_once_and_by_the_client(server, client, spans):
    drained: list[str] = []

    def messages():
        drained.append("messages")
        yield from MESSAGES

    client.chat.completions.create(model=MODEL, messages=messages())
    client.responses.create(model=MODEL, input=list(messages()))
    assert drained == ["messages", "messages"]
    assert server.requests[0].body["messages"] == MESSAGES


def test_nothing_that_the_caller_passes_is_changed(client):
    arguments: dict[str, Any] = {
        "extra_headers": {"x-session-id": "h"},
        "extra_body": {"metadata": {"session_id": "m"}, "litellm_session_id": "b"},
        "extra_query": {"q": "1"},
        "metadata": {"mine": "1"},
    }
    before = copy.deepcopy(arguments)
    with capture_spans() as spans:
        client.responses.create(model=MODEL, input="x", **arguments)
        client.chat.completions.create(model=MODEL, messages=MESSAGES, **arguments)
    assert arguments == before
    assert [span.attributes["session.id"] for span in spans if span.name.startswith("chat")] == ["h", "h"]


def test_sentinels_never_become_attribute_values(client, spans):
    unset: dict[str, Any] = dict.fromkeys(
        ["temperature", "top_p", "max_completion_tokens", "seed", "stop", "n", "response_format", "metadata", "user"],
        openai.NOT_GIVEN,
    )
    client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_headers={"x-session-id": OMIT_HEADER}, **unset)
    client.responses.create(model=MODEL, input="x", previous_response_id=OMIT, instructions=OMIT)
    client.responses.create(model=MODEL, input="x", extra_body={"temperature": OMIT, "metadata": None})
    assert len([span for span in spans if span.name.startswith("chat")]) == 3
    for span in spans:
        for value in span.attributes.values():
            assert isinstance(value, (str, int, float, tuple)), value
            assert "omit" not in str(value).lower()
            assert "NOT_GIVEN" not in str(value)


def test_large_images_are_not_copied_onto_spans(client, spans):
    image = "data:image/png;base64," + "A" * 2_000_000
    content = [{"type": "image_url", "image_url": {"url": image}}]
    client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
    client.responses.create(
        model=MODEL, input=[{"role": "user", "content": [{"type": "input_image", "image_url": image}]}]
    )
    assert len(spans) >= 2
    for span in spans:
        assert len(span.to_json()) < 5_000


def raw_seen(raw: Any) -> Any:
    return type(raw), raw.status_code, raw.headers["content-type"], seen(raw.parse()), raw.http_response.content


PLAIN: dict[str, Callable[[OpenAI], Any]] = {
    "model": lambda client: seen(client.chat.completions.create(model=MODEL, messages=MESSAGES)),
    "raw": lambda client: raw_seen(client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)),
    "object": lambda client: seen(client.post("/chat/completions", body={"model": MODEL}, cast_to=object)),
    # Not dict[str, object]: on Python 3.10 the client takes that for a class, and fails.
    "dict": lambda client: seen(
        client.post("/chat/completions", body={"model": MODEL}, cast_to=typing.Dict[str, object])  # noqa: UP006
    ),
    "str": lambda client: seen(client.post("/chat/completions", body={"model": MODEL}, cast_to=str)),
    "http response": lambda client: (
        client.post("/chat/completions", body={"model": MODEL}, cast_to=httpx2.Response).content
    ),
    "body": lambda client: client.chat.completions.create(model=MODEL, messages=MESSAGES).to_json(),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_reply_is_what_it_would_be(server, client, name):
    def scenario() -> Any:
        server.script(CHAT, path="/chat/completions")
        return PLAIN[name](client)

    spans = same_with_and_without(scenario)
    assert [span.attributes["gen_ai.response.id"] for span in spans] == [CHAT["id"]]


STREAMED: dict[str, Callable[[Any], Any]] = {
    "for": lambda stream: [seen(chunk) for chunk in stream],
    "next": lambda stream: [seen(next(stream)), seen(next(stream)), stream.close(), outcome(lambda: next(stream))],
    "types": lambda stream: [
        type(stream),
        isinstance(stream, openai.Stream),
        stream.response.status_code,
        stream.response.headers["content-type"],
        stream.response.is_closed,
        sorted(vars(stream)),
        list(stream) and sorted(vars(stream.response)),
        stream.response.is_closed,
    ],
    "with": lambda stream: [
        [seen(next(iter(entered))) for entered in [stream.__enter__()]],
        stream.__exit__(*[None] * 3),
    ],
    "iter twice": lambda stream: [seen(next(iter(stream))), [seen(chunk) for chunk in stream], list(stream)],
    "closed first": lambda stream: [stream.close(), outcome(lambda: list(stream))],
    "closed twice": lambda stream: [stream.close(), stream.close(), stream.response.is_closed],
    "exhausted": lambda stream: [len(list(stream)), outcome(lambda: next(stream)), outcome(stream.__next__)],
}


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_behaves_as_it_would(server, client, ours, name):
    def scenario() -> Any:
        server.script_stream(STREAM)
        return STREAMED[name](client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))

    assert len(same_with_and_without(scenario)) == 1
    assert not ours


async def _async_all(stream: Any) -> Any:
    return [seen(chunk) async for chunk in stream]


async def _async_types(stream: Any) -> Any:
    before = [type(stream), isinstance(stream, openai.AsyncStream), sorted(vars(stream)), stream.response.is_closed]
    return [*before, await _async_all(stream), stream.response.is_closed, sorted(vars(stream.response))]


async def _async_close(stream: Any) -> Any:
    first = seen(await anext(stream))
    return [first, await stream.close(), stream.response.is_closed, await aoutcome(anext(stream))]


async def _async_with(stream: Any) -> Any:
    async with stream as entered:
        first = seen(await anext(entered))
    return [first, entered is stream, stream.response.is_closed]


async def _async_exhausted(stream: Any) -> Any:
    return [await _async_all(stream), await aoutcome(anext(stream)), await _async_all(stream)]


@pytest.mark.parametrize("scene", [_async_all, _async_types, _async_close, _async_with, _async_exhausted])
def test_an_async_stream_behaves_as_it_would(server, ours, scene):
    async def main() -> Any:
        async with AsyncOpenAI(base_url=server.base_url, api_key="test", max_retries=0) as client:
            server.script_stream(STREAM)
            return await scene(await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))

    assert len(same_with_and_without(lambda: asyncio.run(main()))) == 1
    assert not ours


STREAMING_RESPONSES: dict[str, Callable[[Any], Any]] = {
    "untouched": lambda raw: [
        raw.is_closed,
        raw.http_response.is_stream_consumed,
        raw.http_response.num_bytes_downloaded,
    ],
    "lines": lambda raw: list(raw.iter_lines()),
    "parse": lambda raw: [raw.is_closed, type(raw.parse()), raw.parse() is raw.parse(), len(list(raw.parse()))],
    "headers": lambda raw: [
        raw.headers["content-type"],
        raw.request_id is not None,
        raw.status_code,
        raw.retries_taken,
    ],
    "read twice": lambda raw: [raw.read(), raw.read(), raw.is_closed, raw.http_response.text],
    "lines twice": lambda raw: [list(raw.iter_lines()), outcome(lambda: list(raw.iter_lines()))],
    "in pieces": lambda raw: list(raw.iter_bytes(7)),
    "iter_raw": lambda raw: b"".join(raw.http_response.iter_raw()),
    "closed": lambda raw: [raw.close(), raw.is_closed, outcome(raw.read)],
    "attributes": lambda raw: [raw.read(), sorted(vars(raw)), sorted(vars(raw.http_response))],
}


@pytest.mark.parametrize("name", STREAMING_RESPONSES)
def test_a_streaming_response_is_read_by_the_application_only(server, client, ours, name):
    def scenario() -> Any:
        server.script_stream(STREAM)
        with client.chat.completions.with_streaming_response.create(model=MODEL, messages=MESSAGES, stream=True) as raw:
            return STREAMING_RESPONSES[name](raw)

    assert len(same_with_and_without(scenario)) == 1
    assert not ours


@pytest.mark.parametrize("reading", ["json", "text", "read", "parse"])
async def test_async_streaming_responses_stay_coroutines(server, async_client, ours, reading):
    async def scenario() -> Any:
        server.script(CHAT)
        async with async_client.chat.completions.with_streaming_response.create(model=MODEL, messages=MESSAGES) as raw:
            before = raw.is_closed
            return before, seen(await getattr(raw, reading)()), raw.is_closed

    bare = await scenario()
    with capture_spans(traces="turn") as spans:
        assert await scenario() == bare
    assert spans[0].attributes["gen_ai.response.id"] == CHAT["id"]
    assert not ours


class Doubling(openai.Stream[Any]):
    """A subclass of an application's own."""

    def __next__(self) -> Any:
        return [super().__next__()] * 2


def test_streams_of_the_applications_own_classes(server, client, ours):
    def scenario() -> Any:
        server.script_stream(STREAM)
        stream = client.post(
            "/chat/completions", body={"model": MODEL}, cast_to=ChatCompletion, stream=True, stream_cls=Doubling
        )
        first = [seen(chunk) for chunk in next(stream)]
        stream.close()
        return type(stream), first

    assert len(same_with_and_without(scenario)) == 1

    assert not ours


def test_a_body_that_asks_for_a_stream_posted_as_a_plain_call(server, client, ours):
    def scenario() -> Any:
        server.script_stream(STREAM)
        body = {"model": MODEL, "messages": MESSAGES, "stream": True}
        return client.post("/chat/completions", body=body, cast_to=httpx2.Response).content

    spans = same_with_and_without(scenario)
    assert spans[0].attributes["gen_ai.response.id"] == CHAT["id"]
    assert not ours


# --- exceptions ---------------------------------------------------------------------------------------------

FAILURES = ["status=400", "status=401", "status=404", "status=429", "status=500", "close", "html", "empty", "json=%7B"]


@pytest.mark.parametrize("mode", FAILURES)
def test_exceptions_are_what_they_would_be(server, client, ours, mode):
    def scenario() -> Any:
        return seen(
            client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_headers={"x-loopback-mode": mode})
        )

    assert len(same_with_and_without(lambda: outcome(scenario))) == 1
    assert not ours


def test_exceptions_of_wrong_arguments_are_what_they_would_be(client):
    assert not same_with_and_without(lambda: outcome(lambda: client.chat.completions.create(model=MODEL)))
    assert not same_with_and_without(lambda: outcome(lambda: client.responses.create(model=MODEL, no_such_argument=1)))
    assert not same_with_and_without(lambda: outcome(lambda: client.request(dict)))


def test_a_traceback_shows_no_secret(server, spans):
    client = OpenAI(base_url=server.base_url, api_key="sk-secret", max_retries=0)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=MODEL, input="x", extra_headers={"x-loopback-mode": "status=400"})
    assert "sk-secret" not in "".join(traceback.format_exception(caught.value))
    assert "sk-secret" not in "".join(span.to_json() for span in spans)
    client.close()
