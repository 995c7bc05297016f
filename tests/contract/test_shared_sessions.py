"""What is asked of the provider, and what travels with a request: both go below the client's documented surface."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import openai
import pytest
from client_surface import MODEL, VIEWS, Client, Method, respond, settled, use
from lookup_kit import the_call
from loopback_client import THINKING
from openai._models import FinalRequestOptions
from session_kit import found
from session_kit import named as the_one_named
from traces_kit import ref, traceparent_of

from otel_llm_sessions import session, session_trace_id
from otel_llm_sessions.openai import provider_lookup, retrieval
from otel_llm_sessions.testing import capture_spans

try:
    import httpx2
except ImportError:
    import httpx as httpx2

pytestmark = [pytest.mark.contract, pytest.mark.usefixtures("thinks_meanwhile", "warned")]

streamed_too = pytest.mark.parametrize("stream", [{}, {"stream": True}], ids=["whole", "streamed"])
CARRIED = {"session.id", "traceparent", "tracestate"}
TAKES_ITS_TIME = {"extra_headers": {"x-loopback-mode": "delay=0.05"}}
"""For a call beside which nothing is to be looked up: it is long enough to see that."""


@pytest.fixture
def the_call_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what depends on it, on machines that are busy too."""
    monkeypatch.setattr(provider_lookup, "HEAD_START", 0.1)


@pytest.fixture
def chain(server: Any, make_response: Callable[..., str]) -> list[str]:
    """The ids of two turns that nobody here has seen."""
    first = make_response()
    second = make_response(previous=first)
    server.requests.clear()
    return [first, second]


def ask(client: Client, **arguments: Any) -> Any:
    """The reply to a turn, or all that it streams."""
    return client.run(use(client.openai, respond("turn", "responses.create", **arguments), "direct", ""))


def go_on(client: Client, previous_id: str, **arguments: Any) -> Any:
    """A turn of a model that thinks for as long as something is looked up."""
    return ask(client, previous_response_id=previous_id, **{**THINKING, **arguments})


def asked(server: Any) -> list[tuple[str, str]]:
    return [(request.method, request.path.rpartition("/")[2]) for request in server.requests]


def gets(server: Any) -> list[Any]:
    return [request for request in server.requests if request.method == "GET"]


def has_given_its_connections_back(client: Client) -> bool:
    return all(connection.is_idle() for connection in client.openai._client._transport._pool.connections)


# --- the provider is asked --------------------------------------------------------------------------------------


@streamed_too
@pytest.mark.usefixtures("the_call_comes_first")
def test_a_chain_made_elsewhere_is_walked_beside_the_call(client: Client, server: Any, chain: Any, stream: Any) -> None:
    with capture_spans(provider_lookup=True) as spans:
        go_on(client, chain[1], **stream)
    assert asked(server) == [("POST", "responses"), ("GET", chain[1]), ("GET", chain[0])]
    call = the_call(spans)
    assert found(call) == (chain[0], "provider", 3)
    # The provider's answer moves no span: the session's trace has a marker of it.
    assert call.parent is None
    marker = the_one_named(spans, "turn")
    assert f"{marker.context.trace_id:032x}" == session_trace_id(chain[0])
    assert [ref(link.context) for link in marker.links] == [ref(call.context)]
    assert has_given_its_connections_back(client)


OPTIONS = {
    "plain": {},
    "query": {"default_query": {"user": "x"}},
    "headers": {"organization": "org", "default_headers": {"x-mine": "1"}},
}
AZURE_OPTIONS = {
    "deployment": {"azure_deployment": "one"},
    "token": {"api_key": None, "azure_ad_token_provider": lambda: "sesame"},
}
MADE_WITH = [
    *((kind, options) for kind in ("OpenAI", "AsyncOpenAI") for options in OPTIONS),
    *((kind, options) for kind in ("AzureOpenAI", "AsyncAzureOpenAI") for options in OPTIONS | AZURE_OPTIONS),
]


@pytest.mark.parametrize(("client", "options"), MADE_WITH, indirect=["client"])
def test_it_is_asked_as_the_application_would_ask(
    client: Client, like: Any, server: Any, chain: Any, options: str
) -> None:
    with like(**(OPTIONS | AZURE_OPTIONS)[options]) as other:
        with capture_spans(provider_lookup=True):
            go_on(other, chain[0])
        (ours,) = gets(server)
        other.run(use(other.openai, Method("fetch", "responses.retrieve", about="stored"), "raw", chain[0]))
    own = gets(server)[-1]
    assert (ours.path, ours.query, ours.body) == (own.path, own.query, own.body)
    different = {name for name in {*ours.headers, *own.headers} if ours.headers.get(name) != own.headers.get(name)}
    assert different <= {"x-stainless-raw-response", "x-stainless-read-timeout"}
    assert ours.query.get("api-version") == ("2025-04-01-preview" if "Azure" in client.kind else None)


OF_THE_PROVIDER = {
    "404 of another kind": {"body": {"error": {"message": "Invalid URL"}}, "status": 404},
    "429": {"body": {"error": {"message": "Slow down"}}, "status": 429},
    "500": {"body": {"error": {"message": "Oops"}}, "status": 500},
}
OF_ONE_RESPONSE = {
    "400": {"body": {"error": {"message": "Invalid id"}}, "status": 400},
    "401": {"body": {"error": {"message": "Revoked"}}, "status": 401},
    "HTML": {"body": "<p>Hello</p>", "content_type": "text/html"},
    "nothing": {"body": b""},
}


@pytest.mark.parametrize("answer", OF_THE_PROVIDER)
def test_a_provider_that_fails_leaves_a_partial_chain_and_rests(
    client: Client, server: Any, chain: Any, answer: str
) -> None:
    server.script(**OF_THE_PROVIDER[answer], path=chain[1])
    with capture_spans(provider_lookup=True) as spans:
        go_on(client, chain[1])
        assert found(the_call(spans)) == (chain[1], "chain_partial", 2)
        ask(client, previous_response_id=chain[0], **TAKES_ITS_TIME)
    assert len(gets(server)) == 1
    assert has_given_its_connections_back(client)


@pytest.mark.parametrize("answer", OF_ONE_RESPONSE)
def test_what_concerns_one_response_leaves_the_others_to_be_asked_for(
    client: Client, server: Any, chain: Any, answer: str
) -> None:
    server.script(**OF_ONE_RESPONSE[answer], path=chain[1])
    with capture_spans(provider_lookup=True) as spans:
        go_on(client, chain[1])
        assert found(the_call(spans)) == (chain[1], "chain_partial", 2)
        spans.clear()
        go_on(client, chain[0])
    assert found(the_call(spans)) == (chain[0], "provider", 2)
    assert has_given_its_connections_back(client)


def test_a_response_that_the_provider_lacks_is_not_its_failure(client: Client, server: Any, chain: Any) -> None:
    server.script({"error": {"message": f"Response with id '{chain[1]}' not found."}}, status=404, path=chain[1])
    with capture_spans(provider_lookup=True) as spans:
        go_on(client, chain[1])
        assert found(the_call(spans)) == (chain[1], "chain_partial", 2)
        spans.clear()
        go_on(client, chain[0])
    assert found(the_call(spans)) == (chain[0], "provider", 2)


@pytest.mark.parametrize(("most", "asks"), [(2, 0), (3, 1)])
@pytest.mark.usefixtures("the_call_comes_first")
def test_the_applications_connections_are_left_to_it(
    client: Client, like: Any, server: Any, chain: Any, most: int, asks: int
) -> None:
    http = openai.DefaultAsyncHttpxClient if client.kind.startswith("Async") else openai.DefaultHttpxClient
    with like(http_client=http(limits=httpx2.Limits(max_connections=most))) as other:
        with capture_spans(provider_lookup=True):
            go_on(other, chain[0])
    assert len(gets(server)) == asks


def test_the_pool_of_a_closed_client_is_found(client: Client, like: Any) -> None:
    with like() as other:
        assert retrieval._left_open(other.openai) is None
    pool = retrieval._left_open(other.openai)
    assert callable(pool.aclose if client.kind.startswith("Async") else pool.close)


# --- the session travels along ----------------------------------------------------------------------------------


@streamed_too
@pytest.mark.parametrize("named", [{}, {"session_id": "mine"}], ids=["chain", "named"])
def test_one_retrieve_tells_the_next_process_everything(client: Client, server: Any, named: Any, stream: Any) -> None:
    given = {"topic": "x", **named}
    before = copy.deepcopy(given)
    with capture_spans(propagate="metadata") as here:
        reply = ask(client, metadata=given, **stream)[-1]
    first = the_call(here)
    first_id = first.attributes["gen_ai.response.id"]
    assert first_id == getattr(reply, "response", reply).id
    assert given == before
    (request,) = server.requests
    assert request.body["metadata"].items() >= given.items()
    assert request.body["metadata"]["traceparent"] == traceparent_of(first)
    assert request.body["metadata"].get("session.id") == given.get("session_id")
    with capture_spans(propagate="metadata", provider_lookup=True) as there:
        go_on(client, first_id, **stream)
    (fetch,) = gets(server)
    assert not {"traceparent", "baggage"} & set(fetch.headers)
    call = the_call(there)
    assert found(call) == (given.get("session_id", first_id), "provider", 2)
    (root,) = [span for span in [*here, *there] if span.name == "session"]
    marker = the_one_named(there, "turn")
    assert ref(marker.parent) == ref(first.parent) == ref(root.context)
    assert [ref(link.context) for link in marker.links] == [ref(call.context)]
    assert ref(first.context) in [ref(link.context) for link in call.links]


@streamed_too
@pytest.mark.parametrize("view", VIEWS)
def test_all_that_travels_is_on_the_wire_and_nothing_in_what_was_given(
    client: Client, server: Any, view: str, stream: Any
) -> None:
    given = {"extra_headers": {"x-mine": "1"}, "extra_body": {"top_k": 3}, "metadata": {"topic": "x"}}
    before = copy.deepcopy(given)
    with capture_spans(propagate="metadata, headers, litellm") as spans, session("mine"):
        client.run(use(client.openai, respond("turn", "responses.create", **given, **stream), view, ""))
    assert given == before
    (request,) = server.requests
    assert set(request.body["metadata"]) == CARRIED | {"topic"}
    assert (request.body["litellm_session_id"], request.body["top_k"]) == ("mine", 3)
    assert request.headers["traceparent"] == request.body["metadata"]["traceparent"] == traceparent_of(the_call(spans))
    assert (request.headers["baggage"], request.headers["x-mine"]) == ("session.id=mine", "1")


def test_metadata_of_extra_body_is_added_to_in_a_copy(client: Client, server: Any) -> None:
    given = {"metadata": {"topic": "x"}}
    with capture_spans(propagate="metadata"), session("mine"):
        ask(client, extra_body=given)
    assert given == {"metadata": {"topic": "x"}}
    assert set(server.requests[0].body["metadata"]) == CARRIED | {"topic"}


@pytest.mark.parametrize("way", ["metadata", "headers", "litellm"])
def test_the_clients_own_options_are_changed_in_a_copy(client: Client, server: Any, way: str) -> None:
    options = FinalRequestOptions.construct(
        method="post",
        url="/responses",
        json_data={"model": MODEL, "input": "Hello", "metadata": {"topic": "x"}},
        extra_json={"top_k": 3},
        headers={"x-mine": "1"},
    )
    before = [options.json_data, options.extra_json, options.headers]
    same = copy.deepcopy(before)

    async def request() -> None:
        await settled(client.openai.request(object, options))

    with capture_spans(propagate=way), session("mine"):
        client.run(request())
    after = [options.json_data, options.extra_json, options.headers]
    assert before == after == same
    (sent,) = server.requests
    assert (set(sent.body["metadata"]) == CARRIED | {"topic"}) == (way == "metadata")
    assert ("baggage" in sent.headers) == (way == "headers")
    assert ("litellm_session_id" in sent.body) == (way == "litellm")


@pytest.mark.parametrize("way", ["headers", "litellm"])
def test_a_chat_call_says_its_session(client: Client, server: Any, way: str) -> None:
    given = {"extra_headers": {"x-session-id": "mine"}, "extra_body": {"top_k": 3}}
    before = copy.deepcopy(given)
    message = {"role": "user", "content": "Hello"}

    async def chat() -> None:
        await settled(client.openai.chat.completions.create(model=MODEL, messages=[message], **given))

    with capture_spans(propagate=way) as spans:
        client.run(chat())
    assert given == before
    (request,) = server.requests
    assert set(request.body) == {"model", "messages", "top_k"} | ({"litellm_session_id"} if way == "litellm" else set())
    if way == "headers":
        assert request.headers["traceparent"] == traceparent_of(the_call(spans))
        assert request.headers["baggage"] == "session.id=mine"
    else:
        assert request.body["litellm_session_id"] == "mine"
        assert not {"traceparent", "baggage"} & set(request.headers)


def test_the_headers_of_a_clients_own_stay(like: Any, server: Any) -> None:
    with like(default_headers={"BAGGAGE": "a=b"}) as other:
        with capture_spans(propagate="headers"), session("mine"):
            ask(other, extra_headers={"Traceparent": "its own"})
    (request,) = server.requests
    assert (request.headers["baggage"], request.headers["traceparent"]) == ("a=b", "its own")


def test_a_retried_request_says_the_same_again(client: Client, like: Any, server: Any) -> None:
    fails_once = {"x-loopback-mode": "fail_first=1", "x-loopback-key": f"retried by {client.kind}"}
    with like(max_retries=1) as other:
        with capture_spans(propagate="metadata, headers, litellm") as spans, session("mine"):
            ask(other, extra_headers=fails_once)
    first, second = server.requests
    assert first.body == second.body
    assert [request.headers["traceparent"] for request in (first, second)] == [traceparent_of(the_call(spans))] * 2
