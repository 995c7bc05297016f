"""One caller's odd id, revoked key or slow answer costs no other caller the look-up at the provider."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import httpx2
import openai
import pytest
from lookup_kit import BRIEF, LATE, SLOW, calls, retrieved
from loopback_client import MODEL, THINKING, options_for
from session_kit import found

from otel_llm_sessions.openai import provider_lookup

pytestmark = pytest.mark.usefixtures("warned", "thinks_meanwhile")

who = ContextVar("who", default="nobody")
"""Whose request is being served."""


SPANS = {"provider_lookup": True}
"""The settings of the fixture ``spans``."""


def error(status: int, message: str) -> dict[str, Any]:
    return {"status": status, "body": {"error": {"message": message, "type": "x"}}}


OF_THE_PROVIDER = {
    "429": error(429, "slow down"),
    "500": {"status": 500, "body": b"oops", "content_type": "text/plain"},
    "503": error(503, "overloaded"),
    "404 of a gateway": {"status": 404, "body": {"detail": "Not Found"}},
}
"""Answers by which nothing more is to be asked for a while, with that key."""

OF_ONE_RESPONSE = {
    "400": error(400, "Invalid 'response_id'"),
    "401": error(401, "revoked"),
    "403": error(403, "no"),
    "405": {"status": 405, "body": b"", "content_type": "text/plain"},
    "409": error(409, "busy"),
    "html": {"status": 200, "body": b"<html>", "content_type": "text/html"},
    "empty": {"status": 200, "body": b""},
    "no response": {"status": 200, "body": {"message": "Success"}},
    "a list": {"status": 200, "body": []},
}
"""Answers that say nothing of other responses."""


@pytest.mark.parametrize("failure", OF_THE_PROVIDER)
def test_a_provider_that_fails_is_not_asked_again_for_a_while(api, server, chain, spans, failure):
    ids, others = chain(2), chain(2)
    server.script(**OF_THE_PROVIDER[failure], path=ids[-1])
    api.respond(previous_response_id=ids[-1], **THINKING)
    api.respond(previous_response_id=others[-1], **BRIEF)
    assert retrieved(server) == [ids[-1]]
    assert [found(span) for span in calls(spans)] == [(id_, "chain_partial", 2) for id_ in (ids[-1], others[-1])]


def test_a_provider_that_hangs_up_is_not_asked_again_for_a_while(server, chain, spans):
    ids, others = chain(2), chain(2)

    class Cut(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.method == "GET":
                request.headers["x-loopback-mode"] = "close"
            return super().handle_request(request)

    with openai.OpenAI(**options_for(server), http_client=httpx2.Client(transport=Cut())) as client:
        for id_, way in ((ids[-1], THINKING), (others[-1], BRIEF)):
            client.responses.create(model=MODEL, input="x", previous_response_id=id_, **way)
    assert retrieved(server) == [ids[-1]]


@pytest.mark.parametrize("failure", OF_ONE_RESPONSE)
def test_what_concerns_one_response_leaves_the_others_to_be_asked_for(api, server, chain, spans, failure):
    ids, others = chain(2), chain(2)
    server.script(**OF_ONE_RESPONSE[failure], path=ids[-1])
    last = api.respond(previous_response_id=ids[-1], **THINKING).id
    api.respond(previous_response_id=others[-1], **THINKING)
    api.respond(previous_response_id=last, **BRIEF)
    assert retrieved(server) == [ids[-1], *others[::-1]], "each once"
    expected = [(ids[-1], "chain_partial", 2), (others[0], "provider", 3), (ids[-1], "chain", 3)]
    assert [found(span) for span in calls(spans)] == expected


def test_a_way_that_ends_amid_a_chain_is_not_gone_at_each_turn(api, server, chain, spans):
    ids = chain(3)
    server.script(**error(403, "no"), path=ids[0])
    last = api.respond(previous_response_id=ids[-1], **THINKING).id
    api.respond(previous_response_id=last, **BRIEF)
    assert retrieved(server) == ids[::-1]
    assert {found(span)[0] for span in calls(spans)} == {ids[-1]}


@pytest.mark.parametrize("gone", [True, False])
def test_an_id_that_is_too_long_to_name_a_session_is_asked_for_once_too(api, server, spans, gone):
    sealed = "resp_" + "0123456789abcdef" * 28  # as LiteLLM's, of which the session's name is made
    answer = error(404, f"Response {sealed} not found") if gone else error(403, "no")
    server.script(**answer, path=sealed)
    last = sealed
    for number, delay in enumerate((5, 0.02, 0.02)):
        id_ = f"resp_{number}_0123456789abcdef01234567"
        server.script({"id": id_, "object": "response"}, path="/responses", delay=delay)
        last = api.respond(previous_response_id=last).id
    assert retrieved(server) == [sealed]
    assert len({found(span)[0] for span in calls(spans)}) == 1


def test_a_gateway_that_names_nothing_that_it_does_not_find_is_asked_for_other_responses(api, server, chain, spans):
    ids, others = chain(2), chain(2)
    api.respond(previous_response_id=ids[-1], **THINKING)
    server.script(**error(404, "Response not found"), path="resp_odd0123456789abcdef01234567")
    server.script({"id": "resp_a_0123456789abcdef01234567", "object": "response"}, path="/responses", delay=5)
    api.respond(previous_response_id="resp_odd0123456789abcdef01234567")
    api.respond(previous_response_id=others[-1], **THINKING)
    assert found(calls(spans)[-1]) == (others[0], "provider", 3)


def test_an_answer_that_is_slow_leaves_the_others_to_be_asked_for(api, server, chain, spans, monkeypatch):
    monkeypatch.setattr(provider_lookup, "TIME_LIMIT", 0.2)
    ids, others = chain(1), chain(2)
    server.script(b"", path=ids[0], delay=30)
    api.respond(previous_response_id=ids[0], extra_headers={"x-loopback-mode": "delay=0.4"})
    monkeypatch.setattr(provider_lookup, "TIME_LIMIT", 5.0)
    api.respond(previous_response_id=others[-1], **THINKING)
    assert found(calls(spans)[0]) == (ids[0], "chain_partial", 2)
    assert found(calls(spans)[1]) == (others[0], "provider", 3)


# --- by key -------------------------------------------------------------------------------------------------


def shared(server: Any) -> dict[str, Any]:
    return {"base_url": server.base_url, "max_retries": 0}


def azure(server: Any) -> dict[str, Any]:
    return {"azure_endpoint": server.azure_endpoint, "api_version": "2025-04-01-preview", "max_retries": 0}


def auth(request: Any) -> Any:
    request.headers["Authorization"] = f"Bearer {who.get()}"
    return request


class Subclass(openai.OpenAI):
    """A client that finds the key by the request being served."""

    @property
    def auth_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {who.get()}"}

    def _auth_headers(self, security: Any) -> dict[str, str]:
        return self.auth_headers


class AsyncSubclass(openai.AsyncOpenAI):
    """The same on a loop."""

    auth_headers = Subclass.auth_headers
    _auth_headers = Subclass._auth_headers


async def soon() -> str:
    return who.get()


def now() -> str:
    return who.get()


# How two callers differ: the classes, what their clients are made with, and what their calls say.
WAYS: dict[str, Any] = {
    "api_key": lambda name: ({"api_key": name}, {}),
    "organization": lambda name: ({"api_key": "x", "organization": name}, {}),
    "project": lambda name: ({"api_key": "x", "project": name}, {}),
    "default_headers": lambda name: ({"api_key": "x", "default_headers": {"Authorization": f"Bearer {name}"}}, {}),
    "a gateway's header": lambda name: ({"api_key": "x", "default_headers": {"x-portkey-api-key": name}}, {}),
    "a gateway's query": lambda name: ({"api_key": "x", "default_query": {"api-key": name}}, {}),
    "extra_headers": lambda name: ({"api_key": "x"}, {"Authorization": f"Bearer {name}"}),
    "azure api_key": lambda name: ({"api_key": name}, {}),
    "azure_ad_token": lambda name: ({"azure_ad_token": name}, {}),
}
BY_REQUEST = ("api_key function", "azure_ad_token_provider", "a class of one's own")
"""Where one client serves all, and finds the key by the request being served."""


def same_key(kind: str, way: str) -> dict[str, Any]:
    if way == "api_key function":
        return {"api_key": soon if kind == "async" else now}
    return {"azure_ad_token_provider": now} if way == "azure_ad_token_provider" else {"api_key": "x"}


class Callers:
    """Alice and Bob, each with a key."""

    def __init__(self, kind: str, way: str, server: Any, stack: contextlib.ExitStack) -> None:
        self._kind, self._way, self._server, self._stack = kind, way, server, stack
        self._clients: dict[str, Any] = {}
        self._loop = asyncio.new_event_loop() if kind == "async" else None
        if self._loop is not None:
            stack.callback(self._end, self._loop)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        for client in self._clients.values():
            loop.run_until_complete(client.close())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def _class(self) -> Any:
        prefix = "Async" if self._kind == "async" else ""
        if self._way == "a class of one's own":
            return AsyncSubclass if prefix else Subclass
        return getattr(openai, f"{prefix}{'Azure' if 'azure' in self._way else ''}OpenAI")

    def _client(self, name: str) -> Any:
        one_for_all = self._way in (*BY_REQUEST, "extra_headers")
        key = "all" if one_for_all else name
        if key not in self._clients:
            options = (azure if "azure" in self._way else shared)(self._server)
            own = same_key(self._kind, self._way) if self._way in BY_REQUEST else WAYS[self._way](name)[0]
            self._clients[key] = client = self._class()(**options, **own)
            if self._loop is None:
                self._stack.enter_context(client)
        return self._clients[key]

    def ask(self, name: str, previous: str, mode: str = "delay=5") -> Any:
        """Make one call as one of them."""
        headers = {} if self._way in BY_REQUEST else WAYS[self._way](name)[1]
        token = who.set(name)
        try:
            extra = {"x-loopback-mode": mode, **headers}
            call = self._client(name).responses.create(
                model=MODEL, input="x", previous_response_id=previous, extra_headers=extra
            )
            return call if self._loop is None else self._loop.run_until_complete(call)
        finally:
            who.reset(token)


@pytest.fixture(params=["sync", "async"])
def callers(request, server) -> Iterator[Any]:
    """Return a function that makes Alice and Bob, who differ in one way."""
    with contextlib.ExitStack() as stack:
        yield lambda way: Callers(request.param, way, server, stack)


def sent(request: Any) -> str:
    """All that a request says."""
    return f"{sorted(request.headers.items())} {sorted(request.query.items())}"


@pytest.mark.slow
@pytest.mark.parametrize("way", [*WAYS, *BY_REQUEST])
def test_a_failure_with_one_key_stops_the_look_up_with_no_other(callers, server, chain, spans, way):
    ids, others, more = chain(2), chain(2), chain(2)
    two = callers(way)
    server.script(**OF_THE_PROVIDER["429"], path=ids[-1])
    two.ask("alice", ids[-1])
    two.ask("alice", more[-1], "delay=0.02")
    two.ask("bob", others[-1])
    assert retrieved(server) == [ids[-1], *others[::-1]]
    assert found(calls(spans)[-1]) == (others[0], "provider", 3)
    asked = [sent(request) for request in server.requests if request.method == "GET"]
    assert ["alice" in text for text in asked] == [True, False, False]
    assert ["bob" in text for text in asked] == [False, True, True]


@pytest.mark.slow
@pytest.mark.parametrize("way", [*WAYS, *BY_REQUEST])
def test_a_response_that_is_not_there_for_one_key_is_asked_for_with_another(callers, server, chain, spans, way):
    ids = chain(2)
    two = callers(way)
    server.script(**error(404, f"Response with id '{ids[-1]}' not found."), path=ids[-1])
    two.ask("alice", ids[-1])
    two.ask("bob", ids[-1])
    assert retrieved(server) == [ids[-1], *ids[::-1]]
    bob = calls(spans)[-1]
    assert found(bob)[1:] in {("provider", 3)} and found(bob)[0] == ids[0]


class As(httpx2.AsyncHTTPTransport):
    """Bob's key may not read what Alice's may."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._mode = {"alice": "delay=0.4", "bob": "delay=0.4,status=403"}[name]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            request.headers["x-loopback-mode"] = self._mode
        return await super().handle_async_request(request)


@pytest.mark.slow
@pytest.mark.parametrize("names", [("alice", "bob"), ("bob", "alice")], ids=["hers is first", "his is first"])
async def test_a_call_with_another_key_joins_no_walk(server, chain, spans, names):
    """Whoever asks first: he learns nothing, and she loses nothing."""
    ids = chain(2)

    async def ask(name: str) -> str:
        http = httpx2.AsyncClient(transport=As(name))
        async with openai.AsyncOpenAI(**{**options_for(server), "api_key": name}, http_client=http) as client:
            arguments = {"model": MODEL, "input": "x", "previous_response_id": ids[1], **THINKING}
            return (await client.responses.create(**arguments)).id

    replies = dict(zip(names, await asyncio.gather(*map(ask, names))))
    by_reply = {span.attributes["gen_ai.response.id"]: found(span) for span in calls(spans)}
    assert by_reply[replies["alice"]] == (ids[0], "provider", 3)
    assert by_reply[replies["bob"]] == (ids[1], "chain_partial", 2)


def test_the_walks_of_one_key_take_no_place_of_another(server, chain, spans, monkeypatch):
    monkeypatch.setattr(provider_lookup, "MAX_WALKS", 2)
    ids, others = [chain(1)[0] for _ in range(4)], chain(2)
    for id_ in ids:
        server.script(b"", path=id_, **LATE)
    alice = openai.OpenAI(**{**options_for(server), "api_key": "alice"})
    with alice, openai.OpenAI(**{**options_for(server), "api_key": "bob"}) as bob:
        for id_ in ids:
            alice.responses.create(model=MODEL, input="x", previous_response_id=id_)
        his = bob.responses.create(model=MODEL, input="x", previous_response_id=others[-1], **SLOW).id
        server.release()
    (call,) = [span for span in calls(spans) if span.attributes["gen_ai.response.id"] == his]
    assert found(call) == (others[0], "provider", 3)


def test_the_provider_is_asked_with_the_key_that_the_call_was_made_with(server, chain, spans, monkeypatch):
    """Applications give the module's own client another key for each request."""
    ids = chain(1)
    client = openai.OpenAI(**{**options_for(server), "api_key": "alice"})
    original = time.sleep

    def sleep(seconds: float) -> None:
        client.api_key = "bob"  # by the time the walk begins
        original(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    with client:
        client.responses.create(model=MODEL, input="x", previous_response_id=ids[0], **THINKING)
    (asked,) = [request for request in server.requests if request.method == "GET"]
    assert asked.headers["authorization"] == "Bearer alice"
