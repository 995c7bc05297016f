"""What the application sees and sends is what it would be without us (docs/architecture.md)."""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import json
import logging
import pickle
import threading
import traceback
import typing
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from otel_llm_sessions import OpenAISessionsInstrumentor, guard, session
from otel_llm_sessions.openai.server import _known as known_servers
from otel_llm_sessions.openai.server import server_of
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

try:
    import httpx2
except ImportError:  # openai before 3
    import httpx as httpx2

MODEL = "gpt-4o-mini"
OMIT = getattr(openai, "omit", openai.NOT_GIVEN)  # old clients have the one only
OMIT_HEADER = getattr(openai, "omit", None) or openai._types.Omit()
MESSAGES = [{"role": "user", "content": "Hello"}]
CHAT = {
    "id": "chatcmpl-Bx7Qm2LrT9vYk3Zp5Wd8Nf1Ha",
    "object": "chat.completion",
    "created": 1,
    "model": MODEL,
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
CHUNKS = [
    {**CHAT, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}], "usage": None}
    for text in ("One", "Two", "Three")
]
# One piece, so that how much of it has arrived when a stream is closed does not depend on time.
RESPONSE = {"id": "", "object": "response", "status": "completed", "output": [], "model": MODEL}
COUNT = itertools.count()
STREAM = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in CHUNKS) + "data: [DONE]\n\n"


@pytest.fixture(scope="module", autouse=True)
def _quick_collections():
    """What is there already is not looked at again by the collections of these tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def ours(monkeypatch) -> list[tuple[str, BaseException]]:
    """Every failure of ours that was reported, also the silent repetitions."""
    reported: list[tuple[str, BaseException]] = []
    for module in ("patch", "watch", "runtime", "opener"):
        name = f"otel_llm_sessions.openai.{module}.report"
        monkeypatch.setattr(name, lambda where, error: reported.append((where, error)))
    return reported


def outcome(scenario: Callable[[], Any]) -> Any:
    """What a scenario returned or raised, as a value that can be compared."""
    try:
        return scenario()
    except BaseException as error:
        cause = error.__cause__
        return type(error), str(error), getattr(error, "body", None), type(cause), str(cause)


def same_with_and_without(scenario: Callable[[], Any], **settings: Any) -> Any:
    """Run a scenario bare, then instrumented; both must come to the same. Returns the spans."""
    bare = scenario()
    with capture_spans(**{"traces": "turn", **settings}) as spans:
        instrumented = scenario()
        gc.collect()
    assert instrumented == bare
    return spans


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


# --- what comes back ----------------------------------------------------------------------------------------


def seen(reply: Any) -> Any:
    return type(reply), reply.model_dump() if hasattr(reply, "model_dump") else reply


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


async def aoutcome(awaitable: Any) -> Any:
    try:
        return await awaitable
    except BaseException as error:
        return type(error), str(error)


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


# --- the context --------------------------------------------------------------------------------------------


def test_no_span_stays_current(client, spans, caplog):
    before = get_current()
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    assert get_current() is before
    for _ in stream:
        assert get_current() is before
        assert not trace.get_current_span().get_span_context().is_valid
    with pytest.raises(openai.APIError):
        client.responses.create(model=MODEL, input="x", extra_headers={"x-loopback-mode": "status=500"})
    assert get_current() is before
    assert "detach" not in caplog.text


async def test_a_stream_may_end_in_another_task_or_thread(async_client, client, spans, caplog):
    stream = await async_client.responses.create(model=MODEL, input="x", stream=True)
    await anext(stream)

    async def rest() -> None:
        async for _ in stream:
            pass

    await asyncio.create_task(rest())
    sync_stream = client.responses.create(model=MODEL, input="x", stream=True)
    thread = threading.Thread(target=lambda: list(sync_stream))
    thread.start()
    await asyncio.to_thread(thread.join)
    turns = [span for span in spans if span.name == f"chat {MODEL}"]
    assert len(turns) == 2
    assert all(span.attributes["gen_ai.response.finish_reasons"] == ("stop",) for span in turns)
    assert not [record for record in caplog.records if "otel" in record.name or "opentelemetry" in record.name]


def test_the_span_is_current_while_the_request_is_sent(server, spans):
    current: list[Any] = []
    http = httpx2.Client(event_hooks={"request": [lambda _: current.append(trace.get_current_span())]})
    with OpenAI(base_url=server.base_url, api_key="x", http_client=http) as client:
        client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert current[0].get_span_context().span_id == spans[0].context.span_id


def test_no_threads_are_started(client, server):
    client.responses.create(model=MODEL, input="x")
    with capture_spans():
        before = {thread.name for thread in threading.enumerate()}
        for _ in range(3):
            client.responses.create(model=MODEL, input="x")
            list(client.responses.create(model=MODEL, input="x", stream=True))
        assert {thread.name for thread in threading.enumerate()} == before


def test_no_event_loop_is_run_inside_another(server, monkeypatch):
    """A synchronous client inside a running loop is never handed to another one."""

    async def main() -> None:
        monkeypatch.setattr(asyncio, "run", lambda *_: pytest.fail("asyncio.run was called"))
        with OpenAI(base_url=server.base_url, api_key="x") as client:
            client.responses.create(model=MODEL, input="x")
            list(client.responses.create(model=MODEL, input="x", stream=True))

    with capture_spans(traces="turn") as spans:
        asyncio.run(main())
    assert len(spans) == 2


# --- switching on and off -----------------------------------------------------------------------------------


def test_objects_cached_before_are_traced_after_and_pass_through_after_that(client):
    create, raw = client.chat.completions.create, client.chat.completions.with_raw_response
    streaming, copied = client.chat.completions.with_streaming_response, client.with_options(timeout=5)

    def all_of_them() -> None:
        create(model=MODEL, messages=MESSAGES)
        raw.create(model=MODEL, messages=MESSAGES)
        with streaming.create(model=MODEL, messages=MESSAGES) as response:
            response.read()
        copied.chat.completions.create(model=MODEL, messages=MESSAGES)

    all_of_them()
    for _ in range(2):
        with capture_spans(traces="turn") as spans:
            all_of_them()
        assert len(spans) == 4
        all_of_them()
        assert len(spans) == 4
    assert "request" not in vars(OpenAI)
    assert "request" not in vars(AsyncOpenAI)


def test_a_stream_that_outlives_uninstrumenting_goes_on(client):
    with capture_spans(traces="turn") as spans:
        stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        next(stream)
    assert list(stream)
    assert len(spans) == 1


def test_suppressed_calls_make_no_span(client, spans):
    with suppress_instrumentation():
        client.chat.completions.create(model=MODEL, messages=MESSAGES)
        list(client.responses.create(model=MODEL, input="x", stream=True))
    assert not spans


def test_a_stream_begun_before_suppression_ends_its_span(client, spans):
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    with suppress_instrumentation():
        list(stream)
    assert len(spans) == 1


def test_the_module_level_client(server, spans, monkeypatch):
    monkeypatch.setattr(openai, "api_key", "x")
    monkeypatch.setattr(openai, "base_url", server.base_url + "/")
    monkeypatch.setattr(openai, "_client", None, raising=False)
    openai.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert len(spans) == 1
    openai._client.close()  # type: ignore[attr-defined]
    openai._reset_client()  # type: ignore[attr-defined]


def test_a_client_class_of_the_applications_own(server, spans):
    class Retrying(OpenAI):
        def request(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().request(*args, **kwargs)
            except openai.InternalServerError:
                return super().request(*args, **kwargs)

    with Retrying(base_url=server.base_url, api_key="x", max_retries=0) as client:
        client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert len(spans) == 1


def test_a_request_that_calls_request_is_one_span(server, client, monkeypatch):
    """Someone patched the client before us, and calls ``self.request`` again, as old versions did to retry."""
    original = OpenAI.request

    def again(self: Any, cast_to: Any, options: Any, **kwargs: Any) -> Any:
        if options.max_retries != 7:
            return self.request(cast_to, options.model_copy(update={"max_retries": 7}), **kwargs)
        return original(self, cast_to, options, **kwargs)

    monkeypatch.setattr(OpenAI, "request", again, raising=False)
    with capture_spans(traces="turn") as spans:
        client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert len(spans) == 1
    assert spans[0].attributes["gen_ai.response.id"]


def test_pagination_is_none_of_ours(server, client, spans):
    page = {"object": "list", "data": [CHAT], "has_more": True, "first_id": "a", "last_id": CHAT["id"]}
    server.script(page)
    server.script({**page, "has_more": False})
    assert len(list(client.chat.completions.list())) == 2
    assert not spans


def test_an_http_client_of_the_applications_own(server):
    httpx = pytest.importorskip("httpx")

    def scenario() -> Any:
        server.script_stream(STREAM)
        with httpx.Client() as http, OpenAI(base_url=server.base_url, api_key="x", http_client=http) as client:
            stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
            return type(stream), [seen(chunk) for chunk in stream]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        assert len(same_with_and_without(scenario)) == 1


def test_classes_and_replies_are_pickled_as_ever(server, client, spans):
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
    reply = raw.parse()
    assert pickle.loads(pickle.dumps(raw.http_response)).content == raw.http_response.content
    assert pickle.loads(pickle.dumps(reply)) == reply
    assert pickle.loads(pickle.dumps(OpenAI)) is OpenAI
    assert pickle.loads(pickle.dumps(openai.Stream)) is openai.Stream
    with client.chat.completions.with_streaming_response.create(model=MODEL, messages=MESSAGES) as streamed:
        streamed.read()
    assert pickle.loads(pickle.dumps(streamed.http_response)).content == streamed.http_response.content


def test_the_patched_method_looks_like_the_original():
    import inspect

    before = (
        inspect.signature(OpenAI.request),
        OpenAI.request.__name__,
        inspect.iscoroutinefunction(AsyncOpenAI.request),
    )
    with capture_spans():
        after = (
            inspect.signature(OpenAI.request),
            OpenAI.request.__name__,
            inspect.iscoroutinefunction(AsyncOpenAI.request),
        )
    assert after == before


# --- memory -------------------------------------------------------------------------------------------------


def objects_per_call(work: Callable[[], None], calls: int, client: OpenAI) -> float:
    def objects() -> int:
        gc.collect()
        # What the collector found is noted, and the next call ends it.
        client.chat.completions.create(model=MODEL, messages=MESSAGES)
        known_servers.clear()  # bounded, but by more than the calls made here
        gc.collect()
        return len(gc.get_objects())

    for _ in range(20):
        work()
    before = objects()
    for _ in range(calls):
        work()
    return (objects() - before) / calls


def canned(request: httpx2.Request) -> httpx2.Response:
    """Answer in this process, so that only the client and the instrumentation can grow."""
    if json.loads(request.content).get("stream"):
        return httpx2.Response(200, content=STREAM.encode(), headers={"content-type": "text/event-stream"})
    body = CHAT if request.url.path.endswith("/completions") else RESPONSE
    return httpx2.Response(200, json={**body, "id": f"id_{next(COUNT):040}"})


def test_nothing_grows_with_the_number_of_calls():
    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> Any:
            return None

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Nowhere()))
    OpenAISessionsInstrumentor().instrument(tracer_provider=provider, store=MemoryStore(max_keys=20))
    http = httpx2.Client(transport=httpx2.MockTransport(canned))
    with OpenAI(base_url="http://server/v1", api_key="x", http_client=http) as client:

        def work() -> None:
            client.chat.completions.create(model=MODEL, messages=MESSAGES)
            list(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
            client.with_options(timeout=3).responses.create(model=MODEL, input="x")
            client.responses.create(model=MODEL, input="x", stream=True).close()
            client.responses.create(model=MODEL, input="x", stream=True)
            with client.responses.with_streaming_response.create(model=MODEL, input="x") as raw:
                raw.read()

        assert objects_per_call(work, 50, client) < 1
    OpenAISessionsInstrumentor().uninstrument()


def test_the_table_of_servers_is_bounded(client, spans):
    for _ in range(300):
        server_of(client.with_options(base_url=str(client.base_url)))
    assert len(known_servers) <= 256


def test_copies_of_a_client_are_not_kept(client, spans):
    import weakref

    copied = client.with_options(timeout=3)
    ref = weakref.ref(copied)
    copied.chat.completions.create(model=MODEL, messages=MESSAGES)
    del copied
    gc.collect()
    assert ref() is None


def test_a_stream_is_freed_as_early_as_without_us(server, client):
    import weakref

    def freed(read: int) -> tuple[bool, bool]:
        server.script_stream(STREAM)
        stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        refs = weakref.ref(stream), weakref.ref(stream.response)
        for _ in range(read):
            next(stream, None)
        del stream
        early = tuple(ref() is None for ref in refs)
        gc.collect()
        assert [ref() for ref in refs] == [None, None]
        return early

    gc.disable()
    try:
        for read in (0, 1, 4):
            same_with_and_without(lambda: freed(read))
    finally:
        gc.enable()


# --- what fails around us -----------------------------------------------------------------------------------


class BrokenStore:
    scope = "broken"

    def _fail(self, *_: Any) -> Any:
        raise OSError("the store is down")

    get_all = put = claim = _fail

    async def aget_all(self, keys: Any) -> Any:
        self._fail()

    aput = aclaim = aget_all

    def close(self) -> None:
        """Nothing to close."""


class BrokenExporter(SpanExporter):
    def export(self, spans: Any) -> Any:
        raise OSError("the exporter is down")


class BrokenIds(RandomIdGenerator):
    def generate_span_id(self) -> int:
        raise OSError("no ids today")


class BrokenSampler(Sampler):
    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        raise OSError("no sampling today")

    def get_description(self) -> str:
        return "broken"


class BrokenStart(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise OSError("no start today")


class BrokenEnd(SpanProcessor):
    def on_end(self, span: Any) -> None:
        raise OSError("no end today")


def provider_with(
    processor: Any = None, ids: IdGenerator | None = None, sampler: Sampler = ALWAYS_ON
) -> TracerProvider:
    provider = TracerProvider(id_generator=ids, sampler=sampler, shutdown_on_exit=False)
    if processor is not None:
        provider.add_span_processor(processor)
    return provider


BROKEN: dict[str, Callable[[], dict[str, Any]]] = {
    "store": lambda: {"store": BrokenStore()},
    "exporter": lambda: {"tracer_provider": provider_with(SimpleSpanProcessor(BrokenExporter()))},
    "id generator": lambda: {"tracer_provider": provider_with(ids=BrokenIds())},
    "sampler": lambda: {"tracer_provider": provider_with(sampler=BrokenSampler())},
    "processor at start": lambda: {"tracer_provider": provider_with(BrokenStart())},
    "processor at end": lambda: {"tracer_provider": provider_with(BrokenEnd())},
}


def everything(server: Any, client: OpenAI) -> Any:
    """One of each kind of call."""
    found = []
    for extra in ({}, {"extra_headers": {"x-session-id": "s"}}):
        server.script(CHAT)
        found.append(seen(client.chat.completions.create(model=MODEL, messages=MESSAGES, **extra)))
        server.script_stream(STREAM)
        stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, **extra)
        found.append([seen(chunk) for chunk in stream])
        server.script({"error": {"message": "no"}}, status=400)
        found.append(outcome(lambda: client.responses.create(model=MODEL, input="x", **extra)))
    return found


@pytest.mark.parametrize("traces", ["session", "turn"])
@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_broken_around_us_never_reaches_the_application(server, client, caplog, monkeypatch, broken, traces):
    monkeypatch.setattr(guard, "_reported", {})
    bare = everything(server, client)
    OpenAISessionsInstrumentor().instrument(traces=traces, **BROKEN[broken]())
    try:
        with caplog.at_level(logging.WARNING):
            assert everything(server, client) == bare
            assert everything(server, client) == bare
    finally:
        OpenAISessionsInstrumentor().uninstrument()
    assert not trace.get_current_span().get_span_context().is_valid
    warnings = [record.getMessage() for record in caplog.records if record.name == "otel_llm_sessions"]
    assert len(warnings) == len(set(warnings))
    if broken != "exporter":  # that one the SDK reports itself
        assert warnings


async def test_a_broken_store_never_reaches_an_async_application(server, async_client, caplog, monkeypatch):
    monkeypatch.setattr(guard, "_reported", {})
    with capture_spans(store=BrokenStore()):
        server.script(CHAT)
        reply = await async_client.chat.completions.create(
            model=MODEL, messages=MESSAGES, extra_headers={"x-session-id": "s"}
        )
        stream = await async_client.responses.create(model=MODEL, input="x", stream=True)
        assert [event async for event in stream]
    assert reply.id == CHAT["id"]
    assert "the store is down" in caplog.text


def test_session_blocks_survive_a_broken_store(client, caplog, monkeypatch):
    monkeypatch.setattr(guard, "_reported", {})
    with capture_spans(store=BrokenStore()), session("s"):
        client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert caplog.records


def test_one_warning_per_kind_of_failure(caplog, monkeypatch):
    monkeypatch.setattr(guard, "_reported", {})
    with caplog.at_level(logging.DEBUG, logger="otel_llm_sessions"):
        for _ in range(3):
            guard.report("fail", OSError("x"))
        guard.report("fail", ValueError("x"))
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "DEBUG", "DEBUG", "WARNING"]


def test_odd_options_pass_through(client, ours):
    """``request`` is called with whatever somebody makes of it; what fails is the client's own."""
    for body in (b"bytes", ["a", "list"], None, "text"):
        same_with_and_without(
            lambda body=body: outcome(lambda: client.post("/responses", body=body, cast_to=object))[:1]
        )
    assert not ours
