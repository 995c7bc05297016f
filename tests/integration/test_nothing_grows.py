"""Nothing grows with the number of calls, and a stream is freed as early as without us."""

from __future__ import annotations

import gc
import itertools
import json
from collections.abc import Callable
from typing import Any

import httpx2
from answered import client_of
from loopback_client import MESSAGES, MODEL
from openai import OpenAI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from promises_kit import CHAT, STREAM, same_with_and_without
from providers_kit import provider_to

from otel_llm_sessions import OpenAISessionsInstrumentor, session
from otel_llm_sessions.openai.server import _known as known_servers
from otel_llm_sessions.openai.server import server_of
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

# One piece, so that how much of it has arrived when a stream is closed does not depend on time.
RESPONSE = {"id": "", "object": "response", "status": "completed", "output": [], "model": MODEL}


COUNT = itertools.count()


# --- memory -------------------------------------------------------------------------------------------------


def objects_per_call(work: Callable[[], None], calls: int, client: OpenAI) -> float:
    def objects() -> int:
        gc.collect()
        # What the collector found is noted, and the next call ends it.
        client.chat.completions.create(model=MODEL, messages=MESSAGES)
        known_servers.clear()  # bounded, but by more than the calls made here
        gc.collect()
        return len(gc.get_objects())

    for _ in range(20):
        work()
    before = objects()
    for _ in range(calls):
        work()
    return (objects() - before) / calls


def canned(request: httpx2.Request) -> httpx2.Response:
    """Answer in this process, so that only the client and the instrumentation can grow."""
    if json.loads(request.content).get("stream"):
        return httpx2.Response(200, content=STREAM.encode(), headers={"content-type": "text/event-stream"})
    id_ = f"id_{next(COUNT):040}"
    if request.url.path.endswith("/items"):
        return httpx2.Response(
            200, json={"object": "list", "data": [{"id": id_, "type": "message"}], "has_more": False}
        )
    body = CHAT if request.url.path.endswith("/completions") else RESPONSE
    return httpx2.Response(200, json={**body, "id": id_})


class Nowhere(SpanExporter):
    def export(self, spans: Any) -> Any:
        return None


def instrument(**settings: Any) -> None:
    """Instrument with spans that nobody keeps, and a store that is soon full."""
    provider = provider_to(Nowhere())
    OpenAISessionsInstrumentor().instrument(tracer_provider=provider, store=MemoryStore(max_keys=20), **settings)


def test_nothing_grows_with_the_number_of_calls():
    instrument()
    with client_of(canned) as client:

        def work() -> None:
            client.chat.completions.create(model=MODEL, messages=MESSAGES)
            list(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
            client.with_options(timeout=3).responses.create(model=MODEL, input="x")
            client.responses.create(model=MODEL, input="x", stream=True).close()
            client.responses.create(model=MODEL, input="x", stream=True)
            with client.responses.with_streaming_response.create(model=MODEL, input="x") as raw:
                raw.read()

        assert objects_per_call(work, 50, client) < 1
    OpenAISessionsInstrumentor().uninstrument()


def test_nothing_grows_with_the_number_of_conversations():
    instrument(traces="turn")
    with client_of(canned) as client:

        def work() -> None:
            with session(f"{next(COUNT)}"), session(f"{next(COUNT)}"):
                talk = client.conversations.create(items=[{"role": "user", "content": f"{next(COUNT)}"}])
            client.conversations.items.create(talk.id, items=[{"role": "user", "content": "y"}])
            client.responses.create(model=MODEL, input="y")
            client.responses.create(model=MODEL, input="y", prompt_cache_key=f"agents-sdk:run:{next(COUNT):032x}")

        assert objects_per_call(work, 50, client) < 1
    OpenAISessionsInstrumentor().uninstrument()


def test_the_table_of_servers_is_bounded(client, spans):
    for _ in range(300):
        server_of(client.with_options(base_url=str(client.base_url)))
    assert len(known_servers) <= 256


def test_copies_of_a_client_are_not_kept(client, spans):
    import weakref

    copied = client.with_options(timeout=3)
    ref = weakref.ref(copied)
    copied.chat.completions.create(model=MODEL, messages=MESSAGES)
    del copied
    gc.collect()
    assert ref() is None


def test_a_stream_is_freed_as_early_as_without_us(server, client):
    import weakref

    def freed(read: int) -> tuple[bool, bool]:
        server.script_stream(STREAM)
        stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        refs = weakref.ref(stream), weakref.ref(stream.response)
        for _ in range(read):
            next(stream, None)
        del stream
        early = tuple(ref() is None for ref in refs)
        gc.collect()
        assert [ref() for ref in refs] == [None, None]
        return early

    gc.disable()
    try:
        for read in (0, 1, 4):
            same_with_and_without(lambda: freed(read))
    finally:
        gc.enable()


def test_what_captures_spans_of_a_provider_of_the_applications_takes_none_after_its_block():
    tracer = (provider := TracerProvider(shutdown_on_exit=False)).get_tracer("app")
    with capture_spans(tracer_provider=provider) as spans:
        tracer.start_span("inside").end()
    tracer.start_span("after").end()
    assert [span.name for span in spans] == ["inside"]
