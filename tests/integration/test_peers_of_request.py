"""Beside those who wrap the client's ``request`` as we do: our span is below theirs, and what they hand on is read."""

from __future__ import annotations

from typing import Any

import openai
import pytest
import wrapt

from otel_llm_sessions.testing import capture_spans


class Proxy(wrapt.ObjectProxy):
    """What a peer puts in front of a stream, to see it being read."""

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self.__wrapped__.__next__()

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        return await self.__wrapped__.__anext__()


class Peer:
    """Wraps both request methods, and hands replies on in a proxy."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        self.seen.append("before")
        result = wrapped(*args, **kwargs)
        return self._later(result) if hasattr(result, "__await__") else self._proxied(result)

    async def _later(self, coming: Any) -> Any:
        return self._proxied(await coming)

    def _proxied(self, result: Any) -> Any:
        self.seen.append("after")
        return Proxy(result)


class OpenInference(Peer):
    __module__ = "openinference.instrumentation.openai"


@pytest.fixture
def wrap(monkeypatch):
    """Put a peer's wrapper where it puts it itself."""

    def put(peer: Peer) -> Peer:
        for client in (openai.OpenAI, openai.AsyncOpenAI):
            monkeypatch.setattr(client, "request", client.request, raising=False)
            wrapt.wrap_function_wrapper(client, "request", peer)
        return peer

    return put


@pytest.mark.parametrize("peer", [Peer, OpenInference])
def test_a_reply_in_a_proxy_is_read(peer, wrap, api):
    wrap(peer())
    with capture_spans() as spans:
        first = api.respond()
        events = api.read(api.respond(previous_response_id=first.id, stream=True))
        chunks = api.read(api.chat(stream=True, extra_headers={"x-session-id": "X"}))
    calls = [span for span in spans if span.name.startswith("chat")]
    assert [span.attributes["session.id"] for span in calls] == [first.id, first.id, "X"]
    assert [span.attributes["gen_ai.response.id"] for span in calls][1:] == [events[0].response.id, chunks[0].id]
    assert all(span.attributes["gen_ai.usage.output_tokens"] for span in calls[:2])


def test_whoever_came_first_openinference_is_outside(wrap, api):
    peer = wrap(OpenInference())
    own = vars(openai.OpenAI)["request"]
    before = own.__wrapped__
    with capture_spans() as spans:
        assert vars(openai.OpenAI)["request"] is own
        assert own._self_wrapper is peer
        assert own.__wrapped__ is not before
        api.respond()
    assert len([span for span in spans if span.name.startswith("chat")]) == 1
    assert own.__wrapped__ is before
    assert vars(openai.OpenAI)["request"] is own


def test_others_stay_below_us(wrap, api):
    wrap(Peer())
    own = vars(openai.OpenAI)["request"]
    with capture_spans() as spans:
        assert vars(openai.OpenAI)["request"] is not own
        api.respond()
    assert len([span for span in spans if span.name.startswith("chat")]) == 1
    assert vars(openai.OpenAI)["request"] is own
