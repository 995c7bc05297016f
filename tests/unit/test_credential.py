"""Whose key a request goes out with: told apart, said again as it was, shown by nothing."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai._models import FinalRequestOptions

from otel_llm_sessions.openai.credential import Credential, scope_of_sent

SERVER = {"base_url": "http://127.0.0.1:1"}
AZURE = {"azure_endpoint": "http://127.0.0.1:1", "api_version": "2025-04-01-preview"}


def options(**more: Any) -> Any:
    return FinalRequestOptions.construct(method="post", url="/responses", **more)


def token() -> str:
    return "token"


def workload(name: str) -> Any:
    provider = {"token_type": "jwt", "get_token": token}
    return {"identity_provider_id": name, "service_account_id": "x", "provider": provider}


class Subclass(openai.OpenAI):
    """Any class that is not openai's own may find its key in any way."""


# name: what a client is made with for a caller
CLIENTS: dict[str, Any] = {
    "api_key": lambda name: openai.OpenAI(**SERVER, api_key=name),
    "admin_api_key": lambda name: openai.OpenAI(**SERVER, api_key="x", admin_api_key=name),
    "workload_identity": lambda name: openai.OpenAI(**SERVER, workload_identity=workload(name)),
    "organization": lambda name: openai.OpenAI(**SERVER, api_key="x", organization=name),
    "path of the server": lambda name: openai.OpenAI(base_url=f"http://127.0.0.1:1/{name}", api_key="x"),
    "azure key": lambda name: openai.AzureOpenAI(**AZURE, api_key=name),
    "azure token": lambda name: openai.AzureOpenAI(**AZURE, azure_ad_token=name),
    "http client's header": lambda name: openai.OpenAI(
        **SERVER, api_key="x", http_client=openai.DefaultHttpxClient(verify=False, headers={"x-api-key": name})
    ),
}


@pytest.mark.parametrize("kind", CLIENTS)
def test_two_callers_are_told_apart_and_each_is_the_same_again(kind):
    with CLIENTS[kind]("alice") as alice, CLIENTS[kind]("bob") as bob:
        hers = Credential(alice, options()).scope
        assert hers is not None
        assert hers != Credential(bob, options()).scope
        assert hers == Credential(alice.with_options(timeout=3.0), options()).scope


@pytest.mark.parametrize("header", ["Authorization", "api-key", "x-litellm-api-key", "OpenAI-Organization", "Cookie"])
def test_what_one_request_says_of_who_asks_counts(header):
    with openai.OpenAI(**SERVER, api_key="x") as client:
        scopes = {Credential(client, options(headers={header: name})).scope for name in ("alice", "bob", "bob")}
        assert len(scopes) == 2
        other = options(headers={header: "alice", "x-request-id": "1", "idempotency-key": "2", "traceparent": "3"})
        assert Credential(client, other).scope in scopes
        assert Credential(client, other).headers[header] == "alice"


@pytest.mark.parametrize(
    ("client", "more", "expected"),
    [
        (lambda: openai.OpenAI(**SERVER, api_key="k"), {}, {"Authorization": "Bearer k"}),
        (
            lambda: openai.OpenAI(**SERVER, api_key="k", admin_api_key="admin"),
            {"security": {"bearer_auth": True}},
            {"Authorization": "Bearer k"},
        ),
        (
            lambda: openai.OpenAI(**SERVER, api_key="k", default_headers={"Authorization": "Bearer d"}),
            {},
            {"Authorization": "Bearer d"},
        ),
        (
            lambda: openai.OpenAI(**SERVER, api_key="k", default_headers={"Authorization": "Bearer d"}),
            {"headers": {"Authorization": "Bearer r"}},
            {"Authorization": "Bearer r"},
        ),
        (lambda: openai.AzureOpenAI(**AZURE, api_key="k"), {}, {"api-key": "k"}),
        (lambda: openai.AzureOpenAI(**AZURE, azure_ad_token="t"), {}, {"Authorization": "Bearer t"}),
    ],
)
def test_the_key_is_said_again_as_the_client_says_it(client, more, expected):
    with client() as made:
        asked = options(**more)
        assert Credential(made, asked).headers == expected
        sent = made._build_request(made._prepare_options(asked)).headers
        assert {name: sent[name] for name in expected} == expected


def test_a_key_that_the_application_withholds_is_withheld_again():
    with openai.OpenAI(**SERVER, api_key="k") as client:
        credential = Credential(client, options(headers={"Authorization": openai.omit}))
        again = options(headers=credential.headers)
        assert "authorization" not in client._build_request(again).headers


@pytest.mark.parametrize("kind", ["workload_identity", "headers"])
def test_a_class_of_ones_own_is_told_by_what_it_sends(kind):
    def scope(name: str) -> bytes:
        more = {"workload_identity": workload(name)} if kind == "workload_identity" else {"api_key": name}
        with Subclass(**SERVER, **more) as client:
            assert Credential(client, options()).scope is None
            return scope_of_sent(client, client._build_request(client._prepare_options(options())))

    assert scope("alice") == scope("alice") != scope("bob")


def test_no_function_of_the_applications_is_asked():
    def refuse() -> str:
        raise AssertionError("asked")

    with openai.OpenAI(**SERVER, api_key=refuse) as client:
        assert Credential(client, options()).scope is None


def test_nothing_shows_a_key():
    with openai.OpenAI(**SERVER, api_key="sk-secret") as client:
        credential = Credential(client, options(headers={"x-api-key": "sk-secret"}))
    assert "secret" not in f"{credential!r} {credential} {credential.scope!r}"
