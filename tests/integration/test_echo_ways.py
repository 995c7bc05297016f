"""Echoed ids tie calls together whatever becomes of the calls, and of those who see them."""

from __future__ import annotations

import gc
from typing import Any

import openai
import pytest
from echo_kit import (
    called,
    chunks,
    completion,
    events,
    function_call,
    gave_back,
    in_pieces,
    message,
    output_of,
    places,
    previous_turns,
    reasoning,
    response,
    said,
    tool_call,
    user,
)
from held_backend import HeldBackend
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from session_kit import calls
from waiting import until

from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

CHAT, RESPONSES = "/chat/completions", "/responses"


class Kept(MemoryStore):
    """What one instrumentation leaves to the next."""

    def close(self) -> None:
        pass


class Loop:
    """A tool loop of two calls."""

    def __init__(self, api: Any, server: Any, kind: str) -> None:
        self.api, self.server, self.is_chat = api, server, kind == "chat"
        self.before: list[Any] = []
        self.tool: Any = tool_call() if self.is_chat else function_call()

    def script(self, *, stream: bool = False, is_first: bool = True) -> None:
        """Have the next call answered by the tool's call, or by words."""
        if self.is_chat:
            answer = called(self.tool) if is_first else said()
            made = completion(answer)
            deltas = in_pieces([self.tool]) if is_first else [{"content": "Hi"}]
            brought = chunks(made, deltas, "tool_calls" if is_first else "stop")
        else:
            made = response(*([reasoning(), self.tool] if is_first else [message()]))
            brought = events(made)
        path = CHAT if self.is_chat else RESPONSES
        self.server.script_stream(brought, path=path) if stream else self.server.script(made, path=path)

    def asked(self, *, is_first: bool = True) -> dict[str, Any]:
        name = "messages" if self.is_chat else "input"
        return {name: [*self.before, user(), *([] if is_first else self.gone_through(self.tool))], "model": "m"}

    def gone_through(self, tool: Any) -> list[Any]:
        """A step of an agent: a tool's call, and what it gave back."""
        return [called(tool), *gave_back(tool)] if self.is_chat else [tool, output_of(tool)]

    def goes_on_from_a_step_that_nobody_knows(self) -> None:
        """Have both calls begin with what another client has seen, so that the store is asked for the first, too."""
        self.before = self.gone_through(tool_call() if self.is_chat else function_call())

    @property
    def resource(self) -> Any:
        return self.api.client.chat.completions if self.is_chat else self.api.client.responses

    def call(self, *, is_first: bool = True, **arguments: Any) -> Any:
        """Make one of the two calls, and read it."""
        stream = bool(arguments.get("stream"))
        self.script(stream=stream, is_first=is_first)
        reply = self.api.finish(self.resource.create(**self.asked(is_first=is_first), **arguments))
        return self.api.read(reply) if stream else reply

    def in_raw(self, *, is_first: bool, stream: bool) -> None:
        """The same by ``with_streaming_response``, of which only bytes are read."""
        self.script(stream=stream, is_first=is_first)
        more = {"stream": True} if stream else {}
        opened = self.resource.with_streaming_response.create(**self.asked(is_first=is_first), **more)
        if not hasattr(opened, "__aenter__"):
            with opened as reply:
                return reply.read()

        async def read() -> Any:
            async with opened as reply:
                return await reply.read()

        return self.api.finish(read())


@pytest.fixture(params=["chat", "responses"])
def loop(request, api, server) -> Loop:
    return Loop(api, server, request.param)


def is_one(spans: Any) -> bool:
    """Whether there are two turns of one session, in order."""
    (one, _, first), (other, source, second) = places(spans)
    return one == other == 1 and source in ("item", "tool_call") and (first, second) == (1, 2)


@pytest.mark.parametrize("stream", [False, True])
def test_of_replies_whose_bytes_are_read(loop, spans, stream):
    loop.in_raw(is_first=True, stream=stream)
    loop.in_raw(is_first=False, stream=stream)
    assert is_one(spans)


def test_of_replies_whose_raw_response_is_parsed(loop, spans):
    loop.script()
    loop.api.finish(loop.resource.with_raw_response.create(**loop.asked())).parse()
    loop.call(is_first=False)
    assert is_one(spans)


def test_of_streams_by_the_clients_helpers(loop, spans):
    for is_first in (True, False):
        loop.script(stream=True, is_first=is_first)
        opened = loop.resource.stream(**loop.asked(is_first=is_first))
        if hasattr(opened, "__aenter__"):

            async def read(opened: Any = opened) -> None:
                async with opened as stream:
                    _ = [event async for event in stream]

            loop.api.finish(read())
        else:
            with opened as stream:
                _ = list(stream)
    assert is_one(spans)


@pytest.mark.parametrize("stream", [False, True])
def test_of_calls_that_nobody_sees(loop, stream):
    store = Kept()
    with capture_spans(tracer_provider=TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False), store=store):
        loop.call(stream=stream)
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider, store=store) as spans:
        with provider.get_tracer("the application's").start_as_current_span("request"):  # the session's own is unseen
            loop.call(is_first=False)
    assert places(spans) == [(1, "tool_call" if loop.is_chat else "item", 2)]


@pytest.mark.parametrize("stream", [False, True])
def test_of_calls_whose_span_is_anothers(loop, stream):
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("theirs")
    with capture_spans(tracer_provider=provider) as spans:
        for is_first in (True, False):
            with tracer.start_as_current_span("chat theirs", attributes={"gen_ai.operation.name": "chat"}):
                loop.call(is_first=is_first, stream=stream)
    assert is_one(spans)


def test_a_turn_that_failed_is_made_again_from_where_it_was(loop, spans):
    loop.call()
    with pytest.raises(openai.RateLimitError):
        asked = loop.asked(is_first=False)
        loop.api.finish(loop.resource.create(**asked, extra_headers={"x-loopback-mode": "status=429"}))
    loop.call(is_first=False)
    assert [turn for _, _, turn in places(spans)] == [1, 2, 2]
    assert {session for session, _, _ in places(spans)} == {1}
    assert previous_turns(spans) == [None, 0, 0]


def test_a_stream_that_is_abandoned_has_left_its_tool_call(loop, spans):
    loop.script(stream=True)
    stream = loop.api.finish(loop.resource.create(**loop.asked(), stream=True))
    for _ in range(4):
        loop.api.finish(anext(stream)) if hasattr(stream, "__anext__") else next(stream)
    del stream
    gc.collect()
    loop.call(is_first=False)
    until(lambda: len(calls(spans)) == 2)
    assert {session for session, _, _ in places(spans)} == {1}


def test_a_response_that_was_made_in_the_background_has_left_what_it_is_fetched_with(api, server, spans):
    made = response(tool := function_call())
    server.script({**made, "status": "queued", "background": True, "output": []}, path=RESPONSES)
    api.respond(background=True)
    server.script(made, path=made["id"])
    api.retrieve(made["id"])
    server.script(response(message()), path=RESPONSES)
    api.respond(input=[user(), tool, output_of(tool)])
    assert is_one(spans)


def test_of_a_store_that_answers_late(loop, redis, proxy):
    with capture_spans(store=redis.url) as spans:
        loop.call()
        (first,) = calls(spans)
    with capture_spans(store=proxy.url) as spans:
        loop.api.respond()  # connects
        proxy.delay = 0.1
        loop.call(is_first=False)
        until(lambda: len(calls(spans)) == 2)
    second = calls(spans)[-1]
    assert second.attributes["session.id"] == first.attributes["session.id"]
    assert second.attributes["llm_session.turn"] == 2


@pytest.fixture
def backend() -> HeldBackend:
    return HeldBackend()


@pytest.mark.parametrize("stream", [False, True])
def test_while_nothing_is_heard_of_its_first_call_a_loop_is_one_session_all_the_same(loop, backend, stream):
    loop.goes_on_from_a_step_that_nobody_knows()
    store = GuardedStore(backend)
    with capture_spans(store=store) as spans:
        with backend.held(store):
            loop.call(stream=stream)
            loop.call(is_first=False, stream=stream)
            assert not calls(spans), "they are kept back"
        until(lambda: len(calls(spans)) == 2)
    assert is_one(spans)


def test_a_stream_that_goes_on_when_its_session_is_heard_of_has_left_its_tool_call_by_then(loop, backend):
    loop.goes_on_from_a_step_that_nobody_knows()
    store = GuardedStore(backend)
    with capture_spans(store=store) as spans:
        loop.script(stream=True)
        with backend.held(store):
            stream = loop.api.finish(loop.resource.create(**loop.asked(), stream=True))
            for _ in range(5):
                loop.api.finish(anext(stream)) if hasattr(stream, "__anext__") else next(stream)
        until(lambda: backend.links)
        loop.call(is_first=False)
        loop.api.finish(stream.close())
        until(lambda: len(calls(spans)) == 2)
    assert is_one(sorted(calls(spans), key=lambda span: span.start_time))
