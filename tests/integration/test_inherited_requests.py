"""The client's classes inherit ``request``: what they inherit is looked for when a request is made, as without us."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import httpx2
import pytest
from loopback_client import MESSAGES, MODEL
from openai import AsyncOpenAI, OpenAI
from openai._base_client import AsyncAPIClient, SyncAPIClient
from promises_kit import CHAT

from otel_llm_sessions.testing import capture_spans

KINDS = [(OpenAI, SyncAPIClient), (AsyncOpenAI, AsyncAPIClient)]

pytestmark = pytest.mark.parametrize(("kind", "base"), KINDS)


def chat(client: Any) -> Any:
    """One chat call by a client of either kind."""
    reply = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    return asyncio.run(finished(reply)) if inspect.isawaitable(reply) else reply


async def finished(reply: Any) -> Any:
    return await reply


def made(kind: Any, sent: list[Any], **options: Any) -> Any:
    """A client of a class, without a network; what it sends is noted."""

    def answer(request: Any) -> Any:
        sent.append(request)
        return httpx2.Response(200, json=CHAT, request=request)

    transport = httpx2.MockTransport(answer)
    is_async = issubclass(kind, AsyncAPIClient)
    http = httpx2.AsyncClient(transport=transport) if is_async else httpx2.Client(transport=transport)
    client = kind(base_url="http://server/v1", http_client=http, **(options or {"api_key": "x"}))
    client._platform = "Other"
    return client


@pytest.fixture
def sent() -> list[Any]:
    """The requests that were sent."""
    return []


def counting(request: Any, met: list[Any]) -> Any:
    """A method in front of another one, as tests and applications patch theirs."""

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        met.append((len(args), sorted(kwargs)))
        return request(self, *args, **kwargs)

    return counted


def test_who_patches_the_base_class_afterwards_meets_each_request_as_it_would(sent, monkeypatch, kind, base):
    client, met = made(kind, sent), []
    monkeypatch.setattr(base, "request", counting(base.request, met))
    chat(client)
    monkeypatch.undo()
    with capture_spans() as spans:
        chat(client)
        monkeypatch.setattr(base, "request", counting(base.request, met))
        chat(client)
        monkeypatch.undo()
        chat(client)
    assert met == [met[0]] * 2
    assert len(spans) == 3


def test_a_mock_in_the_base_class_answers_and_nothing_is_sent(sent, monkeypatch, kind, base):
    async def later() -> Any:
        return "mocked"

    class Mock:
        """No function, and so called without the client."""

        def __call__(self, cast_to: Any, options: Any, *, stream: Any, stream_cls: Any) -> Any:
            return later() if base is AsyncAPIClient else "mocked"

    with capture_spans(traces="turn") as spans:
        monkeypatch.setattr(base, "request", Mock())
        assert chat(made(kind, sent)) == "mocked"
    assert not sent
    assert len(spans) == 1


def test_a_class_between_the_client_and_its_base_is_passed(sent, kind, base):
    met: list[Any] = []

    class Counting(base):
        def request(self, *args: Any, **kwargs: Any) -> Any:
            met.append("counted")
            return super().request(*args, **kwargs)

    class Client(kind, Counting):
        pass

    client = made(Client, sent)
    with capture_spans() as spans:
        chat(client)
    assert met == ["counted"]
    assert len(spans) == 1
    chat(client)
    assert met == ["counted"] * 2


def test_a_class_that_borrows_the_method_keeps_it(sent, kind, base):
    with capture_spans() as spans:

        class Borrowing(base):
            request = kind.request

        client = made(Borrowing, sent, version="1", _strict_response_validation=False)
        asked = client.post("/chat/completions", body={"model": MODEL, "messages": MESSAGES}, cast_to=object)
        reply = asyncio.run(finished(asked)) if inspect.isawaitable(asked) else asked
    assert reply["object"] == "chat.completion"
    assert len(spans) == 1


def test_after_uninstrumenting_the_class_inherits_again_whatever_it_met_then(monkeypatch, kind, base):
    with capture_spans():
        monkeypatch.setattr(base, "request", counting(base.request, []))
    assert "request" not in vars(kind)
    monkeypatch.undo()
    assert kind.request is base.request
