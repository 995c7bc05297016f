"""A session that comes with an incoming request, as W3C baggage (https://www.w3.org/TR/baggage/)."""

from __future__ import annotations

import contextlib
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import uvicorn
from echo_kit import called, completion, gave_back, message, places, response, tool_call, user
from fastapi import FastAPI
from loopback_client import options_for
from openai import AsyncOpenAI, OpenAI
from opentelemetry.baggage import set_baggage
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from session_kit import calls

from otel_llm_sessions.testing import capture_spans

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


@contextlib.contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve on a free port, and say where."""
    config = uvicorn.Config(app, port=0, log_level="warning", lifespan="off")
    listener = config.bind_socket()
    listener.listen()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def post(address: str, baggage: str | None) -> None:
    request = urllib.request.Request(address, b"", {"baggage": baggage} if baggage else {})
    urllib.request.urlopen(request, timeout=10).read()


def test_what_a_call_ties_to_wins_over_baggage(api, server, spans):
    tool = tool_call()
    server.script(completion(called(tool)), path="/chat/completions")
    token = attach(set_baggage("session.id", "visit"))
    try:
        api.chat()
        api.chat(messages=[user(), called(tool), *gave_back(tool)])
        items = [message(), user()]
        server.script(response(items[0]), path="/responses")
    finally:
        detach(token)
    api.respond()
    token = attach(set_baggage("session.id", "visit"))
    try:
        api.respond(input=items)
    finally:
        detach(token)
    assert places(spans) == [(1, "baggage", 1), (1, "tool_call", 2), (2, "new", 1), (2, "item", 2)]
    assert calls(spans)[0].attributes["session.id"] == "visit"


def test_incoming_baggage_names_the_session_of_calls_made_while_serving_that_request(server, exported):
    app = FastAPI()

    @app.post("/async")
    async def on_the_loop() -> str:
        async with AsyncOpenAI(**options_for(server)) as client:
            return (await client.chat.completions.create(**ASK)).id

    @app.post("/sync")
    def in_a_thread() -> str:
        with OpenAI(**options_for(server)) as client:
            return client.chat.completions.create(**ASK).id

    FastAPIInstrumentor.instrument_app(app, tracer_provider=exported.provider)
    with capture_spans(tracer_provider=exported.provider), serving(app) as address:
        post(f"{address}/async", "a=b,session.id=M%C3%BCller%2042")
        post(f"{address}/sync", "session.id=other")
        post(f"{address}/async", None)
        post(f"{address}/sync", "session.id=")
    calls = exported.named("chat")
    assert [call.attributes.get("session.id") for call in calls] == ["Müller 42", "other", None, None]
    assert [call.attributes.get("llm_session.source") for call in calls] == ["baggage", "baggage", None, None]
    assert [root.attributes["session.id"] for root in exported.named("session")] == ["Müller 42", "other"]
    markers = exported.named("turn")
    assert [marker.links[0].span_id for marker in markers] == [call.span_id for call in calls[:2]]
