"""The client under test: the real ``openai.OpenAI``, answered inside the process."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import openai

from benchmarks.replies import CHAT, RESPONSE, Reply, chat_events, response_events

JSON = {"content-type": "application/json", "x-request-id": "req_0123456789abcdef"}
SSE = {"content-type": "text/event-stream; charset=utf-8", "x-request-id": "req_0123456789abcdef"}
CHUNKS_HEADER = "x-benchmark-chunks"


def make_client() -> openai.OpenAI:
    """Return a client whose every request is answered at once by a canned reply."""
    transport = httpx2.MockTransport(_handler())
    return openai.OpenAI(
        api_key="benchmark", base_url="http://benchmark.invalid/v1", http_client=httpx2.Client(transport=transport)
    )


def make_async_client() -> openai.AsyncOpenAI:
    """As ``make_client``, for callers on an event loop."""
    transport = httpx2.MockTransport(_handler())
    return openai.AsyncOpenAI(
        api_key="benchmark", base_url="http://benchmark.invalid/v1", http_client=httpx2.AsyncClient(transport=transport)
    )


def _handler() -> Callable[[httpx2.Request], httpx2.Response]:
    replies = {"/v1/chat/completions": Reply(CHAT), "/v1/responses": Reply(RESPONSE)}
    streams = {"/v1/chat/completions": chat_events, "/v1/responses": response_events}

    def handle(request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        chunks = request.headers.get(CHUNKS_HEADER)
        if chunks is None:
            return httpx2.Response(200, headers=JSON, content=replies[path].next())
        return httpx2.Response(200, headers=SSE, content=streams[path](int(chunks)))

    return handle
