"""What the tests share: a server that speaks the OpenAI API, clients that talk to it, and the spans of their calls."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib.util
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Union

import pytest
from failures import warnings_of

HERE = Path(__file__).parent

# Where Python is told to keep no bytecode, each of the hundreds of processes that tests start compiles all of it again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Imports, collecting and reading source make millions of objects that stay: to look for garbage among them every few
# hundred takes as long as to make them.
gc.set_threshold(50_000, 20, 20)

if importlib.util.find_spec("hypothesis") is not None:
    import hypothesis

    # Machines that are busy are slow: that is no failure.
    hypothesis.settings.register_profile("tests", deadline=None, database=None, max_examples=50)
    hypothesis.settings.load_profile("tests")

if importlib.util.find_spec("openai") is not None:  # the packaging tests run without it
    from loopback import LoopbackServer
    from loopback_client import MODEL, options_for
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI
    from opentelemetry.context import Context, attach, get_current
    from opentelemetry.instrumentation import dependencies
    from opentelemetry.sdk.resources import Resource

    from otel_llm_sessions import OpenAISessionsInstrumentor, guard
    from otel_llm_sessions.openai import provider_lookup
    from otel_llm_sessions.openai.provider_lookup import ProviderLookup
    from otel_llm_sessions.testing import CapturedSpans, capture_spans


OF_ONE_MARKER = frozenset({"backends", "browser", "contract"})
"""The folders whose tests all have the marker that is called as the folder is."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where all tests are asked for, a folder is not read of which none would run: each process would import it."""
    is_whole = collection_path.parent == HERE and collection_path.name in OF_ONE_MARKER
    is_all = [config.invocation_params.dir / arg for arg in config.args] == [HERE]
    return (is_whole and is_all and f"not {collection_path.name}" in config.option.markexpr) or None


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads it
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Have all the fast tests run by three processes (``-n0``: by one); what is asked for by name is quicker in one.

    Three keep two cores busy: a third of the time a test waits for what it tests.
    """
    option = config.option
    is_all = config.args_source is config.ArgsSource.TESTPATHS and not option.keyword and "not slow" in option.markexpr
    is_plain = not (option.collectonly or option.usepdb or hasattr(config, "workerinput"))
    if is_all and is_plain and getattr(option, "numprocesses", 0) is None:
        option.numprocesses, option.dist = 3, "worksteal"


@pytest.hookimpl(optionalhook=True)  # the contract's environments have no pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadscope`` the scopes are those of `spreading`."""
    if config.option.dist != "loadscope":
        return None
    from spreading import Spreading

    return Spreading(config, log)


class Api:
    """One way to make calls and wait for their results, so that a test says once what holds for both clients."""

    def __init__(self, client: Any, finish: Callable[[Any], Any]) -> None:
        self.client = client
        self.finish = finish

    def chat(self, text: str = "Hello", **arguments: Any) -> Any:
        """One chat call."""
        arguments = {"model": MODEL, "messages": [{"role": "user", "content": text}], **arguments}
        return self.finish(self.client.chat.completions.create(**arguments))

    def respond(self, text: str = "Hello", **arguments: Any) -> Any:
        """One responses call."""
        return self.finish(self.client.responses.create(**{"model": MODEL, "input": text, **arguments}))

    def retrieve(self, response_id: str, **arguments: Any) -> Any:
        """Fetch a response."""
        return self.finish(self.client.responses.retrieve(response_id, **arguments))

    def answer_late(self, server: LoopbackServer) -> None:
        """Let the provider answer what it was asked and has kept waiting."""
        from lookup_kit import answer_late, nothing_is_held, retrieved

        if not isinstance(self.client, AsyncOpenAI):
            return answer_late(server)

        async def answered() -> None:
            while not retrieved(server):
                await asyncio.sleep(0.002)
            server.release()
            while asyncio.all_tasks() - {asyncio.current_task()} or not nothing_is_held():
                await asyncio.sleep(0.002)

        self.finish(answered())
        return None

    def with_options(self, **options: Any) -> Api:
        """The same with a client of other options."""
        return Api(self.client.with_options(**options), self.finish)

    def read(self, stream: Any, at_most: int | None = None) -> list[Any]:
        """Read a stream (its first pieces), then close it."""
        # By the client: the stream wrappers of some instrumentations have the methods of both kinds.
        if isinstance(self.client, AsyncOpenAI):
            return self.finish(self._aread(stream, at_most))
        return _read(stream, at_most)

    def parsed(self, opened: Any) -> Any:
        """What the client makes of a streaming response."""
        if isinstance(self.client, AsyncOpenAI):
            return self.finish(_aparsed(opened))
        with opened as response:
            return response.parse()

    async def _aread(self, stream: Any, at_most: int | None) -> list[Any]:
        pieces: list[Any] = []
        async with stream:
            while len(pieces) != at_most:
                try:
                    pieces.append(await anext(stream))
                except StopAsyncIteration:
                    break
        return pieces


async def _aparsed(opened: Any) -> Any:
    async with opened as response:
        return await response.parse()


def _read(stream: Any, at_most: int | None) -> list[Any]:
    with stream:
        return [piece for _, piece in zip(range(at_most if at_most is not None else 1_000_000), stream)]


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """What is there before a module's tests is not looked at again by each of the many collections in them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _asked_once() -> Iterator[None]:
    """What is the same for all tests is found out once: a version, from a file, the resource, by three threads, and
    the certificates that the machine trusts, which a client reads longer than it makes ten calls. And the hashes of
    types, by which a client looks up a hundred of its own for each call, each of seventy values of a Literal anew."""
    create, resources = Resource.create, {}

    def created(attributes: Any = None, schema_url: str | None = None) -> Resource:
        if attributes or schema_url:
            return create(attributes, schema_url)
        names = sorted(name for name in os.environ if name.startswith("OTEL_"))
        place = os.getpid(), *((name, os.environ[name]) for name in names)
        return resources.get(place) or resources.setdefault(place, create())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Resource, "create", staticmethod(created))
        patch.setattr(dependencies, "version", functools.cache(dependencies.version))
        for kind in {type(Literal["a"]), type(Union[int, str])}:  # noqa: UP007
            patch.setattr(kind, "__hash__", _hashed_once(kind.__hash__))
        if importlib.util.find_spec("httpcore2") is not None:  # of openai 3
            httpcore = importlib.import_module("httpcore2")
            patch.setattr(httpcore, "default_ssl_context", functools.cache(httpcore.default_ssl_context))
        yield


def _hashed_once(hash_of: Callable[[Any], int]) -> Callable[[Any], int]:
    def hashed(one: Any) -> int:
        kept = vars(one)
        return kept["_hash"] if "_hash" in kept else kept.setdefault("_hash", hash_of(one))

    return hashed


@pytest.fixture(scope="session")
def loopback() -> Iterator[LoopbackServer]:
    """A server that speaks the OpenAI API, the same for all tests."""
    with LoopbackServer() as server:
        yield server


@pytest.fixture
def server(loopback: LoopbackServer) -> LoopbackServer:
    """The loopback server, with no requests recorded so far."""
    loopback.forget()
    return loopback


@pytest.fixture
def thinks_meanwhile(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A model that is ``THINKING`` replies when no look-up at the provider is left.

    Nothing is looked up before its request has arrived: on a busy machine the answer would be there before the call
    has begun, which then stands where the answer says. It is not waited for long: some calls are over by then.
    """
    walk, awalk = ProviderLookup._walk, ProviderLookup._awalk
    under_way = 0

    def walks(lookup: ProviderLookup, *arguments: Any) -> None:
        with walking():
            for _ in arriving(*arguments[:2]):
                time.sleep(0.001)
            walk(lookup, *arguments)

    async def awalks(lookup: ProviderLookup, *arguments: Any) -> None:
        with walking():
            for _ in arriving(*arguments[:2]):
                await asyncio.sleep(0.001)
            await awalk(lookup, *arguments)

    class Counting(provider_lookup.SharedWalk):
        """What is waited for, and how many requests had arrived before."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.posted = posted()

    def arriving(waiting: Counting, client: Any) -> Iterator[None]:
        deadline = time.monotonic() + 0.25 if str(client.base_url).startswith(server.base_url) else 0.0
        while posted() == waiting.posted and time.monotonic() < deadline:
            yield

    def posted() -> int:
        return sum(request.method == "POST" for request in server.requests)

    @contextlib.contextmanager
    def walking() -> Iterator[None]:
        nonlocal under_way
        with lock:
            under_way += 1
            idle.clear()
        try:
            yield
        finally:
            with lock:
                under_way -= 1
                if not under_way:
                    idle.set()

    def reply() -> None:
        # Again and again: on a busy machine a walk may be over before the call has arrived.
        while idle.wait() and not is_over.wait(0.01):
            with lock:
                if not under_way:
                    server.release()

    lock, idle, is_over = threading.Lock(), threading.Event(), threading.Event()
    monkeypatch.setattr(provider_lookup, "SharedWalk", Counting)
    monkeypatch.setattr(ProviderLookup, "_walk", walks)
    monkeypatch.setattr(ProviderLookup, "_awalk", awalks)
    replying = threading.Thread(target=reply, daemon=True)
    replying.start()
    yield
    is_over.set()
    idle.set()
    replying.join()


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No failure of ours goes unseen."""
    with caplog.at_level(logging.WARNING, logger="otel_llm_sessions"):
        yield
    assert not warnings_of(caplog)


@pytest.fixture
def nothing_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kind of failure has been reported yet, so that the first of each is a warning again."""
    monkeypatch.setattr(guard, "_reported", {})


@pytest.fixture
def client(server: LoopbackServer) -> Iterator[OpenAI]:
    """A client that does not retry."""
    with OpenAI(**options_for(server), http_client=DefaultHttpxClient(verify=False)) as client:
        yield client


@pytest.fixture
async def async_client(server: LoopbackServer) -> AsyncIterator[AsyncOpenAI]:
    """An asynchronous client that does not retry."""
    async with AsyncOpenAI(**options_for(server), http_client=DefaultAsyncHttpxClient(verify=False)) as client:
        yield client


@pytest.fixture(params=["sync", "async"])
def api(request: pytest.FixtureRequest, server: LoopbackServer) -> Iterator[Api]:
    """Calls through OpenAI, then the same test through AsyncOpenAI."""
    if request.param == "sync":
        with OpenAI(**options_for(server), http_client=DefaultHttpxClient(verify=False)) as client:
            yield Api(client, lambda result: result)
        return
    loop = asyncio.new_event_loop()
    async_client = AsyncOpenAI(**options_for(server), http_client=DefaultAsyncHttpxClient(verify=False))
    try:
        yield Api(async_client, loop.run_until_complete)
    finally:
        for task in (left := asyncio.all_tasks(loop)):
            task.cancel()  # as asyncio.run does
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(async_client.close())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.fixture
def spans(request: pytest.FixtureRequest) -> Iterator[CapturedSpans]:
    """The spans of the test's calls. Other settings are a module's ``SPANS``, or a test's parameters:
    ``parametrize("spans", [{...settings...}], indirect=True)``."""
    with capture_spans(**getattr(request, "param", getattr(request.module, "SPANS", {}))) as captured:
        yield captured


@pytest.fixture(params=["session", "turn"])
def both_modes(request: pytest.FixtureRequest) -> Iterator[CapturedSpans]:
    """The spans of the test's calls, with ``TRACES=session`` and again with ``TRACES=turn``."""
    with capture_spans(traces=request.param) as captured:
        yield captured


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """No test leaves the client patched or a context attached."""
    yield
    instrumentor = OpenAISessionsInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()
    patched = [client for client in (OpenAI, AsyncOpenAI) if "request" in vars(client)]
    for client in patched:
        del client.request
    left = get_current()
    if left:
        attach(Context())
        pytest.fail(f"the test left a context attached: {left}")
    if patched:
        pytest.fail(f"the test left a request() on {patched}")


@pytest.fixture(scope="session")
def _receiver() -> Iterator[Any]:
    # Imported here: the contract's environments have no exporter.
    from otlp_receiver import OtlpReceiver

    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def _spare_redis() -> Iterator[list[Any]]:
    """The Redis that the test before has left running, if any."""
    spare: list[Any] = []
    yield spare
    for server in spare:
        server.kill()


@pytest.fixture
def redis(_spare_redis: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Redis with nothing in it, which the test may kill: then the next has another. A Valkey where there is none."""
    from store_kit import SERVERS, RedisServer, require_program

    server = _spare_redis.pop() if _spare_redis else None
    if server is None:
        server = RedisServer(tmp_path_factory.mktemp("redis"), program=require_program(SERVERS[0]))
        server.start()
    yield server
    if server.is_running:
        server.forget()
        _spare_redis.append(server)


@pytest.fixture
def receiver() -> Iterator[Any]:
    """An OTLP receiver of the test's own."""
    from otlp_receiver import OtlpReceiver

    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture
def exported(_receiver: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A tracer provider whose spans go over OTLP; ``parametrize("exported", [sampler], indirect=True)``."""
    from exported import Exported

    _receiver.clear()
    exported = Exported(_receiver, getattr(request, "param", None))
    yield exported
    exported.provider.shutdown()


@pytest.fixture
def closed_databases(monkeypatch):
    """Every database of a viewer that a test makes is closed behind it; Python 3.13 says which are not."""
    from otel_llm_sessions.view.database import Database

    made = []
    first = Database.__init__

    def init(self, *arguments, **options):
        first(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(Database, "__init__", init)
    yield
    for database in made:
        database.close()
