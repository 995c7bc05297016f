"""What becomes of a look-up at the provider whose loop, client, process or call ends over it."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import traceback
import warnings
from typing import Any

import httpx2
import openai
import pytest
from lookup_kit import BRIEF, LATE, SLOW, answer_late, calls, no_walk_is_left, retrieved, second_of, the_call
from loopback_client import MODEL, THINKING, options_for
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from session_kit import found
from waiting import auntil, until

from otel_llm_sessions.openai import course, provider_lookup
from otel_llm_sessions.openai.held import HELD
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.testing import capture_spans

SPANS = {"provider_lookup": True}
"""The settings of the fixture ``spans``."""


pytestmark = pytest.mark.usefixtures("warned", "thinks_meanwhile")


# --- processes, loops, ends ---------------------------------------------------------------------------------


def test_a_loop_that_ends_over_a_walk_ends_quietly(server, chain, spans, caplog):
    ids = chain(1)
    server.script(b"", path=ids[0], delay=5)

    async def main() -> None:
        async with openai.AsyncOpenAI(**options_for(server)) as client:
            await client.responses.create(model=MODEL, input="x", previous_response_id=ids[0])

    asyncio.run(main())
    loop = asyncio.new_event_loop()
    (other,) = chain(1)
    server.script(b"", path=other, delay=5)
    client = openai.AsyncOpenAI(**options_for(server))
    loop.run_until_complete(client.responses.create(model=MODEL, input="x", previous_response_id=other))
    loop.run_until_complete(client.close())
    loop.close()
    del client
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]
    until(lambda: len(calls(spans)) == 2)


@pytest.mark.slow
def test_a_walk_that_a_closed_loop_left_is_begun_anew(server, chain, spans, monkeypatch):
    ids = chain(2)
    now = time.monotonic
    begun = now()
    monkeypatch.setattr(provider_lookup, "HEAD_START", 1.0)  # so that it is left amid it on a busy machine, too
    loop = asyncio.new_event_loop()
    client = openai.AsyncOpenAI(**options_for(server))
    loop.run_until_complete(client.responses.create(model=MODEL, input="x", previous_response_id=ids[1]))
    loop.run_until_complete(client.close())
    loop.close()
    del client
    gc.collect()
    monkeypatch.setattr(provider_lookup, "HEAD_START", 0.005)
    with openai.OpenAI(**options_for(server)) as other:
        # However late the machine is, it is not overdue yet; and then it is.
        for clock, way, expected in ((lambda: begun + 3.5, SLOW, []), (lambda: now() + 8, THINKING, ids[::-1])):
            monkeypatch.setattr(time, "monotonic", clock)
            server.requests.clear()
            other.responses.create(model=MODEL, input="x", previous_response_id=ids[1], **way)
            assert retrieved(server) == expected
    assert found(calls(spans)[-1]) == (ids[0], "provider", 3)


def test_a_client_that_is_closed_over_a_walk_says_nothing_of_the_provider(server, chain, spans):
    ids, others = chain(2), chain(2)
    server.script(second_of(ids), path=ids[1], **LATE)
    with openai.OpenAI(**options_for(server)) as client:
        client.responses.create(model=MODEL, input="x", previous_response_id=ids[1])
        until(lambda: retrieved(server))
    answer_late(server)
    with openai.OpenAI(**options_for(server)) as client:
        client.responses.create(model=MODEL, input="x", previous_response_id=others[1], **THINKING)
    assert found(calls(spans)[-1]) == (others[0], "provider", 3)


async def test_a_client_that_is_closed_over_a_walk_says_nothing_of_the_provider_on_a_loop_either(server, chain, spans):
    ids, others = chain(2), chain(2)
    server.script(second_of(ids), path=ids[1], **LATE)
    async with openai.AsyncOpenAI(**options_for(server)) as client:
        await client.responses.create(model=MODEL, input="x", previous_response_id=ids[1])
        await auntil(lambda: retrieved(server))
    server.release()
    await auntil(lambda: len(asyncio.all_tasks()) == 1)
    async with openai.AsyncOpenAI(**options_for(server)) as client:
        await client.responses.create(model=MODEL, input="x", previous_response_id=others[1], **THINKING)
    assert found(calls(spans)[-1]) == (others[0], "provider", 3)


def test_a_pool_that_has_no_connection_left_says_nothing_of_the_provider(server, chain, spans, monkeypatch):
    ids, others = chain(2), chain(2)
    monkeypatch.setattr(provider_lookup, "has_room", lambda client: True)  # as when the last one is taken just then
    monkeypatch.setattr(provider_lookup, "HEAD_START", 0.3)
    http = httpx2.Client(limits=httpx2.Limits(max_connections=1))
    with openai.OpenAI(**options_for(server), http_client=http) as client:
        client.responses.create(model=MODEL, input="x", previous_response_id=ids[1], **THINKING)
        assert not retrieved(server)
    with openai.OpenAI(**options_for(server)) as client:
        client.responses.create(model=MODEL, input="x", previous_response_id=others[1], **THINKING)
    assert found(calls(spans)[-1]) == (others[0], "provider", 3)


def test_a_loop_that_stood_still_says_nothing_of_the_provider(server, chain, spans, monkeypatch):
    monkeypatch.setattr(provider_lookup, "TIME_LIMIT", 0.05)
    ids, others = chain(2), chain(2)
    loop = asyncio.new_event_loop()
    client = openai.AsyncOpenAI(**options_for(server))
    loop.run_until_complete(client.responses.create(model=MODEL, input="x", previous_response_id=ids[1]))
    time.sleep(0.1)  # between two calls of an application that runs its loop for each
    monkeypatch.setattr(provider_lookup, "TIME_LIMIT", 2.0)
    if walks := asyncio.all_tasks(loop):  # on a busy machine it may be over already
        loop.run_until_complete(asyncio.wait(walks, timeout=5))
    loop.run_until_complete(client.responses.create(model=MODEL, input="x", previous_response_id=others[1], **THINKING))
    loop.run_until_complete(client.close())
    loop.close()
    assert found(calls(spans)[-1]) == (others[0], "provider", 3)


def test_a_client_that_is_closed_over_a_walk_keeps_no_connection(server, chain, spans):
    asked, closed = threading.Event(), threading.Event()

    class Held(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.method == "GET":
                asked.set()
                assert closed.wait(1.5)
            return super().handle_request(request)

    transport = Held()
    with openai.OpenAI(**options_for(server), http_client=httpx2.Client(transport=transport)) as client:
        client.responses.create(model=MODEL, input="x", previous_response_id=chain(1)[0])
        assert asked.wait(5)
    closed.set()
    until(no_walk_is_left)
    assert retrieved(server)
    assert not transport._pool.connections


async def test_a_client_that_is_closed_over_a_walk_keeps_no_connection_on_a_loop_either(server, chain, spans):
    asked, closed = asyncio.Event(), asyncio.Event()

    class Held(httpx2.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.method == "GET":
                asked.set()
                await closed.wait()
            return await super().handle_async_request(request)

    transport = Held()
    http = httpx2.AsyncClient(transport=transport)
    async with openai.AsyncOpenAI(**options_for(server), http_client=http) as client:
        await client.responses.create(model=MODEL, input="x", previous_response_id=chain(1)[0])
        await asked.wait()
    closed.set()
    await auntil(lambda: len(asyncio.all_tasks()) == 1)
    assert retrieved(server)
    assert not transport._pool.connections


def test_uninstrumenting_over_a_walk_records_nothing_more(client, server, chain):
    ids = chain(1)
    server.script({"id": ids[0], "object": "response"}, path=ids[0], delay=0.2)
    with capture_spans(provider_lookup=True, store=(store := MemoryStore())):
        client.responses.create(model=MODEL, input="x", previous_response_id=ids[0])
    until(no_walk_is_left)
    assert store.get_all([f"r:{ids[0]}"]) == [None]


async def test_a_walk_that_is_cancelled_is_one_that_found_nothing(async_client, server, chain):
    ids = chain(2)
    with capture_spans(provider_lookup=True) as spans:
        server.script(second_of(ids), path=ids[1], **LATE)
        await async_client.responses.create(model=MODEL, input="x", previous_response_id=ids[1])
        await auntil(lambda: retrieved(server))
        (walk,) = [task for task in asyncio.all_tasks() if task.get_name() == provider_lookup.LOOKUP]
        walk.cancel()
        await asyncio.wait((walk,))
        assert found(the_call(spans)) == (ids[1], "chain_partial", 2)
        server.release()


def test_an_answer_that_comes_while_an_end_is_being_kept_back_leaves_nothing_there(
    client, server, chain, spans, monkeypatch
):
    ids, add = chain(1), HELD.add

    def add_late(course: Any) -> int:
        answer_late(server)
        return add(course)

    monkeypatch.setattr(HELD, "add", add_late)
    server.script({"id": ids[0], "object": "response"}, path=ids[0], **LATE)
    client.responses.create(model=MODEL, input="x", previous_response_id=ids[0])
    assert found(the_call(spans)) == (ids[0], "provider", 2)
    assert not len(HELD)


def test_an_answer_that_comes_while_the_call_ends_is_what_the_next_turn_finds(client, server, chain):
    ids = chain(2)
    answering = threading.Event()

    class Slow(SpanProcessor):
        """An exporter that takes its time, on the thread that ends the call's span."""

        def on_end(self, span: Any) -> None:
            if span.name.startswith("chat") and not answering.is_set():
                answering.set()
                until(no_walk_is_left)

    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(provider_lookup=True, tracer_provider=provider) as spans:
        server.script(second_of(ids), path=ids[1], **LATE)
        server.script({"id": ids[0], "object": "response"}, path=ids[0])
        late = client.responses.create(model=MODEL, input="x", previous_response_id=ids[1], **BRIEF)
        until(lambda: retrieved(server))
        provider.add_span_processor(Slow())
        flushing = threading.Thread(target=provider.force_flush)
        flushing.start()
        assert answering.wait(10)
        server.release()
        flushing.join(10)
        assert retrieved(server) == ids[::-1]
        server.requests.clear()
        client.responses.create(model=MODEL, input="x", previous_response_id=late.id)
    assert not retrieved(server)
    assert [found(span) for span in calls(spans)] == [(ids[1], "chain_partial", 2), (ids[0], "chain", 4)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_asks_for_itself(client, server, chain, spans, monkeypatch):
    monkeypatch.setattr(course, "PATIENCE", 60.0)  # a busy machine's child takes long to ask
    monkeypatch.setattr(provider_lookup, "TIME_LIMIT", 60.0)
    ids = chain(1)
    server.script({"id": ids[0], "object": "response"}, path=ids[0], delay=0.5)
    client.responses.create(model=MODEL, input="x", previous_response_id=ids[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which is what is tested
        child = os.fork()
    if child == 0:
        code, before = 1, len(calls(spans))
        try:
            with openai.OpenAI(**options_for(server)) as own:
                own.responses.create(model=MODEL, input="x", previous_response_id=ids[0], **THINKING)
                # The parent's server does not wait for the child's look-up, which needs the client.
                until(lambda: len(calls(spans)) > before)
            assert found(calls(spans)[-1]) == (ids[0], "provider", 2)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    answer_late(server)


def test_a_failure_of_ours_while_answering_still_ends_the_call(client, server, chain, monkeypatch, caplog):
    from otel_llm_sessions.openai import course

    def fail(*arguments: Any) -> None:
        raise RuntimeError("ours")

    ids = chain(1)
    monkeypatch.setattr(course, "amend", fail)
    server.script({"id": ids[0], "object": "response"}, path=ids[0], delay=0.2)  # so that the call has begun by then
    with capture_spans(provider_lookup=True):
        reply = client.responses.create(model=MODEL, input="x", previous_response_id=ids[0], **THINKING)
    assert reply.output_text
    assert "failed to answer a call" in caplog.text
    caplog.clear()


def test_a_failure_of_ours_with_a_fetched_response_costs_its_session_and_nothing_else(client, monkeypatch, caplog):
    from otel_llm_sessions.openai import standing

    def fail(*arguments: Any) -> None:
        raise RuntimeError("ours")

    made = client.responses.create(model="m", input="x")
    monkeypatch.setattr(standing, "turn_of_fetched", fail)
    with capture_spans() as spans:
        assert client.responses.retrieve(made.id).id == made.id
    (span,) = spans
    assert span.attributes["gen_ai.response.status"] == "completed"
    assert "ours" in caplog.text
