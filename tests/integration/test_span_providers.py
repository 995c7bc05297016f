"""Whom a span names: provider, address, port and model, of every kind of client."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from loopback_client import MESSAGES

from otel_llm_sessions.openai.server import server_of

SPANS = {"traces": "turn"}
"""The settings of the fixture ``spans``."""


@pytest.fixture
def client(server, shared_client):
    """One client for all tests, with a server that has forgotten the earlier ones: making a client takes 50 ms."""
    return shared_client


# --- who answers --------------------------------------------------------------------------------------------


def azure_options(server: Any, **more: Any) -> dict[str, Any]:
    return {"azure_endpoint": server.azure_endpoint, "api_key": "x", "api_version": "2024-10-21", **more}


def test_an_azure_client_is_azure_and_takes_the_model_from_the_call(server, spans):
    with openai.AzureOpenAI(**azure_options(server)) as azure:
        azure.chat.completions.create(model="my-deployment", messages=MESSAGES)
    assert spans[0].name == "chat my-deployment"
    assert spans[0].attributes["gen_ai.provider.name"] == "azure.ai.openai"
    assert spans[0].attributes["gen_ai.request.model"] == "my-deployment"


def test_without_a_model_the_azure_deployment_is_the_model(server, spans):
    with openai.AzureOpenAI(**azure_options(server, azure_deployment="my-deployment")) as azure:
        azure.post("/chat/completions", body={"messages": MESSAGES}, cast_to=openai.types.chat.ChatCompletion)
    assert spans[0].name == "chat my-deployment"
    assert spans[0].attributes["gen_ai.request.model"] == "my-deployment"


async def test_an_asynchronous_azure_client_is_azure_too(server, spans):
    async with openai.AsyncAzureOpenAI(**azure_options(server, azure_deployment="my-deployment")) as azure:
        await azure.responses.create(model="gpt-4o", input="Hello")
    assert spans[0].attributes["gen_ai.provider.name"] == "azure.ai.openai"
    assert spans[0].attributes["gen_ai.request.model"] == "gpt-4o"


def test_a_call_without_any_model_is_named_by_its_operation_alone(client, server, spans):
    server.script({"id": "resp_prompt", "object": "response", "model": "gpt-5", "status": "completed", "output": []})
    client.responses.create(prompt={"id": "pmpt_1"})
    assert spans[0].name == "chat"
    assert "gen_ai.request.model" not in spans[0].attributes
    assert spans[0].attributes["gen_ai.response.model"] == "gpt-5"


PROVIDERS = [
    ("https://api.openai.com/v1", "openai", "api.openai.com", 443),
    ("https://my-resource.openai.azure.com/openai/v1/", "azure.ai.openai", "my-resource.openai.azure.com", 443),
    ("https://foundry.services.ai.azure.com/models", "azure.ai.inference", "foundry.services.ai.azure.com", 443),
    (
        "https://bedrock-runtime.us-east-1.amazonaws.com/v1",
        "aws.bedrock",
        "bedrock-runtime.us-east-1.amazonaws.com",
        443,
    ),
    (
        "https://generativelanguage.googleapis.com/v1beta/openai/",
        "gcp.gemini",
        "generativelanguage.googleapis.com",
        443,
    ),
    ("https://api.groq.com/openai/v1", "groq", "api.groq.com", 443),
    ("https://api.mistral.ai/v1", "mistral_ai", "api.mistral.ai", 443),
    ("https://api.deepseek.com", "deepseek", "api.deepseek.com", 443),
    ("https://api.x.ai/v1", "x_ai", "api.x.ai", 443),
    ("https://api.perplexity.ai", "perplexity", "api.perplexity.ai", 443),
    ("http://localhost:11434/v1", "openai", "localhost", 11434),
    ("http://gateway/v1", "openai", "gateway", 80),
    ("https://notapi.x.ai.example.com/v1", "openai", "notapi.x.ai.example.com", 443),
]


@pytest.mark.parametrize(("base_url", "provider", "address", "port"), PROVIDERS, ids=[row[0] for row in PROVIDERS])
def test_provider_address_and_port_follow_the_clients_base_url(base_url, provider, address, port):
    with openai.OpenAI(base_url=base_url, api_key="x") as client:
        server = server_of(client)
    assert (server.provider, server.address, server.port) == (provider, address, port)


def test_a_subclass_of_the_azure_client_is_azure():
    class OurAzure(openai.AzureOpenAI):
        pass

    with OurAzure(azure_endpoint="https://gateway.example.com", api_key="x", api_version="1") as client:
        assert server_of(client).provider == "azure.ai.openai"
