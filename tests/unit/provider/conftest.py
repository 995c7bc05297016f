"""A loopback server of the test's own, and a client that talks to it."""

from __future__ import annotations

import openai
import pytest
from loopback import LoopbackServer


@pytest.fixture
def server():
    with LoopbackServer() as running:
        yield running


@pytest.fixture(scope="module")
def shared():
    with openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="any", max_retries=0, timeout=10) as made:
        yield made


@pytest.fixture
def client(server, shared):
    return shared.with_options(base_url=server.base_url)  # making a client anew takes longer than most tests
