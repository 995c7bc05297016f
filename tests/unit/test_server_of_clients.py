"""Which server a client is said to talk to: the one that it says now, whatever kind of client it is."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from otel_llm_sessions.openai.server import server_of


class Moving(openai.OpenAI):
    """An application's own client, which says itself where it goes."""

    region = "eu"

    @property
    def base_url(self) -> Any:
        return type(super().base_url)(f"https://{self.region}.test/v1")

    @base_url.setter
    def base_url(self, url: Any) -> None:
        """Ignore what the constructor sets."""


@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI, type("Derived", (openai.OpenAI,), {})])
def test_a_client_whose_base_url_is_set_goes_to_the_new_one(kind):
    client = kind(api_key="x", base_url="https://one.test/v1")
    assert server_of(client).address == "one.test"
    client.base_url = "https://two.test/v1"
    assert server_of(client).address == "two.test"


def test_a_client_that_makes_its_base_url_itself_goes_where_that_says():
    client = Moving(api_key="x", base_url="https://one.test/v1")
    assert server_of(client).address == "eu.test"
    client.region = "us"
    assert server_of(client).address == "us.test"


def test_an_azure_client_has_its_own():
    client = openai.AzureOpenAI(api_key="x", api_version="1", azure_endpoint="https://mine.openai.azure.com")
    assert (server_of(client).address, server_of(client).provider) == ("mine.openai.azure.com", "azure.ai.openai")
