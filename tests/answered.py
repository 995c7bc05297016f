"""Clients that are answered by a function of the test's, without a socket."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import openai

httpx: Any = import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
"""The HTTP library of this environment's client: httpx2, or httpx before openai 3."""

OPTIONS = {"base_url": "http://model.test/v1", "api_key": "k", "max_retries": 0}


def client_of(answer: Callable[[Any], Any], hooks: Any = None, **options: Any) -> openai.OpenAI:
    """A client whose requests a function answers; ``hooks`` are those of its HTTP client."""
    http = httpx.Client(transport=httpx.MockTransport(answer), event_hooks=hooks)
    return openai.OpenAI(**{**OPTIONS, "http_client": http, **options})


def async_client_of(answer: Callable[[Any], Any], hooks: Any = None, **options: Any) -> openai.AsyncOpenAI:
    """The same with an asynchronous client, which asks no thread what it runs on."""
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer), event_hooks=hooks)
    client = openai.AsyncOpenAI(**{**OPTIONS, "http_client": http, **options})
    client._platform = "Other"
    return client
