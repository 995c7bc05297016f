"""The context is left as it was; switching on and off, suppressing, other classes and clients."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import httpx2
import openai
import pytest
from loopback_client import MESSAGES, MODEL
from openai import AsyncOpenAI, OpenAI
from openai._models import FinalRequestOptions
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.instrumentation.utils import suppress_instrumentation
from promises_kit import CHAT, STREAM, same_with_and_without, seen

from otel_llm_sessions.testing import capture_spans

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


ASKED = [
    ("post", "/chat/completions", {"cast_to": object, "body": {"model": MODEL, "messages": MESSAGES}}),
    ("post", "/embeddings", {"cast_to": object, "body": {}}),
    ("get", "/models", {"cast_to": object}),
    ("put", "/files/x", {"cast_to": object, "body": {}}),
    ("patch", "/files/x", {"cast_to": object, "body": {}}),
    ("delete", "/files/x", {"cast_to": object}),
]


@pytest.mark.parametrize(("method", "path", "arguments"), ASKED, ids=[row[0] + row[1] for row in ASKED])
@pytest.mark.parametrize("kind", [OpenAI, AsyncOpenAI])
def test_whoever_patched_the_client_before_is_passed_what_the_client_passes(monkeypatch, kind, method, path, arguments):
    passed: list[Any] = []

    def before(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        passed.append((args, kwargs))
        return answer() if kind is AsyncOpenAI else {}

    async def answer() -> Any:
        return {}

    def ask(client: Any) -> None:
        done(getattr(client, method)(path, **arguments))
        done(client.request(object, FinalRequestOptions(method="get", url="/models"), 3, other=4))

    def done(reply: Any) -> Any:
        return asyncio.run(reply) if kind is AsyncOpenAI else reply

    monkeypatch.setattr(kind, "request", before, raising=False)
    client = kind(api_key="x", base_url="http://a.test/v1")
    ask(client)
    bare = passed.copy()
    passed.clear()
    with capture_spans():
        ask(client)
    assert passed == bare


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
