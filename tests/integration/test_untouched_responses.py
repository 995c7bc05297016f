"""The HTTP response that the application holds is what it would be without us, read or not."""

from __future__ import annotations

import asyncio
import collections.abc
import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from answered import async_client_of, client_of
from odd_kit import completed, sse
from promises_kit import outcome

from otel_llm_sessions.testing import capture_spans

MODEL = "gpt-4o-mini"
ID = "resp_68a1f0c4b7d84c3f9a2e5b60"
PIECES = [sse({"type": "response.created", "response": {"id": ID}}), sse(completed(id=ID))]
BODY = b"".join(PIECES)
HEADERS = {"content-type": "text/event-stream"}
ASKED: dict[str, Any] = {"model": MODEL, "input": "x", "stream": True}


class Both(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A transport's own stream, for both clients, with things of its own."""

    colour = "red"

    def __init__(self, pieces: Any = PIECES) -> None:
        self.pieces = pieces
        self.closed: list[str] = []

    def __iter__(self) -> Any:
        yield from self.pieces

    async def __aiter__(self) -> Any:
        for piece in self.pieces:
            await asyncio.sleep(0)
            yield piece

    def close(self) -> None:
        self.closed.append("close")

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed.append("aclose")

    def paint(self, colour: str) -> str:
        self.colour = colour
        return colour


class Listed(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """One whose iterators are no generators."""

    def __iter__(self) -> Any:
        return iter(PIECES)

    def __aiter__(self) -> Any:
        return _Counting()


class _Counting:
    def __init__(self) -> None:
        self._pieces = iter(PIECES)

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


def answering(make: Callable[[], Any]) -> Callable[[Any], httpx2.Response]:
    """Answers with streams which ``make`` makes."""
    return lambda request: httpx2.Response(200, headers=HEADERS, stream=make())


def client_for(make: Callable[[], Any], hook: Any = None) -> openai.OpenAI:
    """A client that is answered with streams which ``make`` makes; ``hook`` sees each response first."""
    return client_of(answering(make), {"response": [hook]} if hook else None)


def async_client_for(make: Callable[[], Any], hook: Any = None) -> openai.AsyncOpenAI:
    """The same with an asynchronous client."""
    return async_client_of(answering(make), {"response": [hook]} if hook else None)


def same(scenario: Callable[[], Any], count: int = 1) -> Any:
    """Run a scenario bare, then instrumented; both must come to the same. Returns the spans."""
    bare = scenario()
    with capture_spans(traces="turn") as spans:
        assert scenario() == bare
        gc.collect()
    assert len(spans) == count
    return spans


def described(http: Any) -> Any:
    """What one can see of a response without reading it."""
    stream = http.stream
    return (
        type(http),
        list(vars(http)),
        {name: type(value) for name, value in vars(http).items() if name != "stream"},
        stream.__class__,
        repr(stream).partition(" at ")[0],
        list(vars(stream)),
        sorted({*dir(stream)} - {"__annotations__", "__slotnames__"}),  # which a first look and copy leave on a class
        [
            isinstance(stream, kind)
            for kind in (
                httpx2.SyncByteStream,
                httpx2.AsyncByteStream,
                collections.abc.Iterable,
                collections.abc.AsyncIterable,
                collections.abc.Iterator,
            )
        ],
        [hasattr(stream, name) for name in ("close", "aclose", "__iter__", "__aiter__", "read", "elapsed")],
        type(copy.copy(stream)),
        sorted(http.__getstate__()),
        [sorted(vars(copied)) for copied in (copy.copy(http), pickle.loads(pickle.dumps(http)))],
        type(copy.copy(http).stream),
        http.is_closed,
        http.is_stream_consumed,
    )


@pytest.mark.parametrize("how", ["parsed", "streaming"])
def test_a_response_that_is_not_read_yet_looks_as_it_would(how):
    def scenario() -> Any:
        with client_for(Both) as client:
            if how == "parsed":
                with client.responses.create(**ASKED) as stream:
                    return described(stream.response), len(list(stream)), described(stream.response)
            with client.responses.with_streaming_response.create(**ASKED) as raw:
                return described(raw.http_response), raw.read(), described(raw.http_response)

    same(scenario)


@pytest.mark.parametrize("how", ["parsed", "streaming"])
def test_an_async_response_that_is_not_read_yet_looks_as_it_would(how):
    async def scenario() -> Any:
        async with async_client_for(Both) as client:
            if how == "parsed":
                async with await client.responses.create(**ASKED) as stream:
                    before = described(stream.response)
                    return before, len([event async for event in stream]), described(stream.response)
            async with client.responses.with_streaming_response.create(**ASKED) as raw:
                return described(raw.http_response), await raw.read(), described(raw.http_response)

    same(lambda: asyncio.run(scenario()))


@pytest.mark.parametrize("kind", [Both, Listed])
def test_a_stream_of_a_hooks_own_is_what_it_was(kind):
    """For both clients at once, with attributes of its own, generators or not; it is back when the call has ended."""
    made: list[Any] = []

    def replace(http: Any) -> None:
        made.append(kind())
        http.stream = made[-1]

    async def areplace(http: Any) -> None:
        replace(http)

    def scenario() -> Any:
        with client_for(Both, replace) as client, client.responses.with_streaming_response.create(**ASKED) as raw:
            http = raw.http_response
            seen = [described(http), isinstance(http.stream, kind), http.stream == made[-1], hash(http.stream)]
            seen[-1] = seen[-1] == hash(made[-1])
            http.stream.note = "mine"
            if kind is Both:
                seen += [http.stream.colour, http.stream.paint("blue"), made[-1].colour]
            seen += [made[-1].note, b"".join(http.iter_raw()), http.stream is made[-1]]
            del http.stream.note
            return [*seen, vars(made[-1])]

    async def ascenario() -> Any:
        async with async_client_for(Both, areplace) as client:
            async with client.responses.with_streaming_response.create(**ASKED) as raw:
                seen = [described(raw.http_response), isinstance(raw.http_response.stream, kind)]
                generator = isinstance(raw.http_response.stream.__aiter__(), collections.abc.AsyncGenerator)
            async with client.responses.with_streaming_response.create(**ASKED) as raw:
                content = b"".join([piece async for piece in raw.http_response.aiter_raw()])
                return [*seen, generator, content, raw.http_response.stream is made[-1], vars(made[-1])]

    same(scenario)
    same(lambda: asyncio.run(ascenario()), 2)


def test_who_wraps_the_stream_after_us_keeps_his_wrapper(spans):
    class Tee(httpx2.SyncByteStream):
        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.read: list[bytes] = []

        def __iter__(self) -> Any:
            for piece in self.inner:
                self.read.append(piece)
                yield piece

        def close(self) -> None:
            self.inner.close()

    with client_for(Both) as client:
        with client.responses.with_streaming_response.create(**ASKED) as raw:
            raw.http_response.stream = tee = Tee(raw.http_response.stream)
            assert raw.read() == BODY
            assert raw.http_response.stream is tee
            assert b"".join(tee.read) == BODY
        with client.responses.create(**ASKED) as stream:
            stream.response.stream = tee = Tee(stream.response.stream)
        assert stream.response.stream is tee
        assert stream.response.is_closed
    assert [span.attributes.get("gen_ai.response.id") for span in spans if span.name.startswith("chat")] == [ID, None]


def test_elapsed_is_what_it_would_be():
    def scenario() -> Any:
        with client_for(Both) as client, client.responses.create(**ASKED) as stream:
            before = outcome(lambda: stream.response.elapsed)
            list(stream)
            return before, type(stream.response.elapsed)

    same(scenario)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", ["read", "consumed"])
def test_a_reply_that_a_hook_has_read_has_ended(stream, way):
    """Nothing of it comes any more: neither reading nor closing it tells more than is there."""

    def read(http: Any) -> None:
        http.read() if way == "read" else list(http.iter_raw())

    def make() -> Any:
        return Both() if stream else Both([b'{"id": "%s"}' % ID.encode()])

    asked = {**ASKED, "stream": stream}

    def scenario() -> Any:
        with client_for(make, read) as client:
            with client.responses.with_streaming_response.create(**asked) as raw:
                seen = [outcome(raw.read), raw.is_closed]
            if stream and way == "read":
                with client.responses.create(**asked) as events:
                    first = next(events).type
                    return [*seen, first, events.close(), outcome(lambda: [event.type for event in events])]
            return seen

    spans = same(scenario, 2 if stream and way == "read" else 1)
    for span in spans:
        assert span.attributes.get("gen_ai.response.id") == (ID if way == "read" else None)
        assert span.status.is_unset


def test_a_response_that_is_forgotten_goes_at_once():
    """Its connection is given back when the last reference goes, not when the garbage is collected next."""

    def scenario() -> Any:
        made: list[Any] = []
        client = client_for(lambda: made.append(weakref.ref(body := Both())) or body)
        raw = client.responses.with_streaming_response.create(**ASKED).__enter__()
        gone = weakref.ref(raw.http_response)
        del raw
        return gone(), made[0]()

    gc.collect()
    gc.disable()
    try:
        assert scenario() == (None, None)
        same(scenario)
    finally:
        gc.enable()


CLOSINGS: dict[str, Any] = {
    "raw reply": lambda raw, reading: raw.close(),
    "response": lambda raw, reading: raw.http_response.aclose(),
    "bytes": lambda raw, reading: reading["bytes"].aclose(),
    "as it came": lambda raw, reading: reading["as it came"].aclose(),
}


@pytest.mark.parametrize("closing", CLOSINGS)
def test_closing_takes_the_event_loop_as_many_steps_as_it_would(closing):
    async def steps(client: Any) -> int:
        raw = await client.responses.with_streaming_response.create(**ASKED).__aenter__()
        http = raw.http_response
        reading = {"bytes": http.aiter_bytes(), "as it came": http.aiter_raw()}
        chosen = reading.get(closing, reading["bytes"])
        await anext(chosen)
        counted = 0

        async def count() -> None:
            nonlocal counted
            while True:
                await asyncio.sleep(0)
                counted += 1

        counting = asyncio.create_task(count())
        await asyncio.sleep(0)
        before = counted
        await CLOSINGS[closing](raw, reading)
        taken = counted - before
        counting.cancel()
        return taken

    async def main() -> int:
        async with async_client_for(Both) as client:
            return await steps(client)

    same(lambda: asyncio.run(main()))


def test_a_break_amid_reading_a_raw_reply(spans):
    class Breaking(Both):
        def __iter__(self) -> Any:
            yield PIECES[0]
            raise httpx2.ReadError("gone")

        async def __aiter__(self) -> Any:
            yield PIECES[0]
            raise httpx2.ReadError("gone")

    async def aread() -> None:
        async with async_client_for(Breaking) as client:
            async with client.responses.with_streaming_response.create(**ASKED) as raw:
                with pytest.raises(httpx2.ReadError):
                    await raw.read()

    with client_for(Breaking) as client, client.responses.with_streaming_response.create(**ASKED) as raw:
        with pytest.raises(httpx2.ReadError):
            raw.read()
    asyncio.run(aread())
    calls = [span for span in spans if span.name.startswith("chat")]
    assert [span.attributes["error.type"] for span in calls] == ["httpx2.ReadError"] * 2
    assert [span.attributes["gen_ai.response.id"] for span in calls] == [ID] * 2


def test_a_stream_that_cannot_even_be_iterated(spans):
    class Refusing(Both):
        def __iter__(self) -> Any:
            raise httpx2.ReadError("no")

        def __aiter__(self) -> Any:
            raise httpx2.ReadError("no")

    def replace(http: Any) -> None:
        http.stream = Refusing()

    async def areplace(http: Any) -> None:
        http.stream = Refusing()

    async def aread() -> None:
        async with async_client_for(Both, areplace) as client:
            async with client.responses.with_streaming_response.create(**ASKED) as raw:
                with pytest.raises(httpx2.ReadError):
                    await raw.read()

    with client_for(Both, replace) as client, client.responses.with_streaming_response.create(**ASKED) as raw:
        with pytest.raises(httpx2.ReadError):
            raw.read()
    asyncio.run(aread())
    calls = [span for span in spans if span.name.startswith("chat")]
    assert [span.attributes["error.type"] for span in calls] == ["httpx2.ReadError"] * 2


def test_the_wrong_way_to_read_a_reply_ends_nothing(spans):
    """Who reads the reply of the asynchronous client without ``await`` hears so, and can still read it."""

    async def main() -> bytes:
        async with async_client_for(Both) as client:
            async with client.responses.with_streaming_response.create(**ASKED) as raw:
                with pytest.raises(RuntimeError):
                    raw.http_response.read()
                with pytest.raises(RuntimeError):
                    raw.http_response.close()
                return bytes(await raw.read())

    assert asyncio.run(main()) == BODY
    assert [span.attributes["gen_ai.response.id"] for span in spans if span.name.startswith("chat")] == [ID]


def test_a_raw_reply_closed_by_another_thread_while_it_is_read(server, client):
    def scenario(spans: Any) -> None:
        server.script_stream(PIECES, hold_after=1)
        with client.responses.with_streaming_response.create(**ASKED) as raw:
            lines = raw.iter_lines()
            next(lines)
            reader = threading.Thread(target=lambda: outcome(lambda: list(lines)))
            reader.start()
            while not lines.gi_running:
                pass
            raw.close()
            assert len(spans) == 1
            server.release()
            reader.join()

    with capture_spans(traces="turn") as spans:
        scenario(spans)
    assert len(spans) == 1
    assert spans[0].status.is_unset
    assert spans[0].attributes["gen_ai.response.finish_reasons"] == ("error",)


async def test_what_the_client_reads_after_done_is_nobodys(server, async_client, warned):
    """From 3.55 on it empties the connection by iterating the response's stream once more."""
    with capture_spans(traces="turn") as spans:
        server.script_stream([BODY, b"data: [DONE]\n\n", b": bye\n\n"])
        async with async_client.responses.with_streaming_response.create(**ASKED) as raw:
            events = [event.type async for event in await raw.parse()]
    assert events == ["response.created", "response.completed"]
    assert [span.attributes["gen_ai.response.finish_reasons"] for span in spans] == [("stop",)]
    assert raw.is_closed
    assert type(raw.http_response.stream).__module__.startswith("httpx2")
