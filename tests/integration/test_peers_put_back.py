"""Beside those who, when they are switched off, put back what was there before them: our wrappers stay, or all go."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import openai
import pytest
import wrapt

from otel_llm_sessions.testing import capture_spans

CLIENTS = (openai.OpenAI, openai.AsyncOpenAI)


class Wrapper:
    """Passes requests on, as OpenInference's does."""

    __module__ = "openinference.instrumentation.openai._request"

    def __call__(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)


class OpenInference:
    """As OpenInference 0.1.66 is switched on and off."""

    _instance: OpenInference | None = None

    def on(self) -> None:
        type(self)._instance = self
        self._original_request, self._original_async_request = (client.request for client in CLIENTS)
        for client in CLIENTS:
            wrapt.wrap_function_wrapper(client, "request", Wrapper())

    def off(self) -> None:
        for client, before in zip(CLIENTS, (self._original_request, self._original_async_request), strict=True):
            client.request = before


class Logfire:
    """As Logfire 5.4 is switched on and off."""

    def on(self) -> None:
        for client in CLIENTS:
            client._original_request_method = client.request
            client.request = self._around(client.request)

    def off(self) -> None:
        for client in CLIENTS:
            client.request = client._original_request_method
            del client._original_request_method

    def _around(self, before: Any) -> Any:
        @functools.wraps(before)
        def request(*args: Any, **kwargs: Any) -> Any:
            return before(*args, **kwargs)

        return request


@pytest.fixture(params=[OpenInference, Logfire])
def peer(request, monkeypatch) -> Iterator[Any]:
    monkeypatch.setitem(
        sys.modules, "openinference.instrumentation.openai", SimpleNamespace(OpenAIInstrumentor=OpenInference)
    )
    yield request.param()
    for client in CLIENTS:
        for name in ("request", "_original_request_method"):
            if name in vars(client):
                delattr(client, name)
    OpenInference._instance = None


def seen(api: Any, spans: Any) -> int:
    """How many spans a call has."""
    before = len(spans)
    api.chat(extra_headers={"x-session-id": "X"})
    return len([span for span in spans[before:] if span.name.startswith("chat")])


def nothing_left() -> bool:
    return not any(name in vars(client) for client in CLIENTS for name in ("request", "_original_request_method"))


def test_a_peer_that_came_first_and_goes_leaves_us(peer, api):
    peer.on()
    with capture_spans() as spans:
        assert seen(api, spans) == 1
        peer.off()
        assert seen(api, spans) == 1
        peer.on()
        assert seen(api, spans) == 1
        peer.off()
        assert seen(api, spans) == 1
    assert nothing_left()


def test_a_peer_that_came_later_and_goes_leaves_us(peer, api):
    with capture_spans() as spans:
        peer.on()
        assert seen(api, spans) == 1
        peer.off()
        assert seen(api, spans) == 1
    assert nothing_left()


@pytest.mark.parametrize("is_first", [True, False])
def test_when_we_have_gone_a_peer_puts_back_nothing_of_ours(peer, api, is_first):
    if is_first:
        peer.on()
    with capture_spans() as spans:
        if not is_first:
            peer.on()
        assert seen(api, spans) == 1
    api.chat()
    peer.off()
    api.chat()
    for client in CLIENTS:
        assert "otel_llm_sessions" not in client.request.__code__.co_filename
