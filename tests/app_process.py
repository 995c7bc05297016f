"""An application process: it makes the calls it is told to through the instrumented client, and says what came of each.

Orders come as JSON lines on standard input, answers go as JSON lines to standard output, in the order in which they are
done. At the end of the input everything is exported and the store is closed. `fleet.py` is the other side; it
forks them from the process that `app_nursery.py` tells of.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_llm_sessions import OpenAISessionsInstrumentor
from otel_llm_sessions.openai import flow
from otel_llm_sessions.stores import pace
from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.redis import RedisBackend
from otel_llm_sessions.stores.sqlite import SqliteBackend

THREADS = 4


class Application:
    """What the process does, whichever client it uses."""

    def __init__(self, settings: dict[str, Any]) -> None:
        # A span that arrived twice tells whether two processes made it, or one process's exporter sent it again.
        resource = Resource.create({"service.instance.id": str(os.getpid())})
        self.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for endpoint in (settings["endpoint"] or "").split():
            exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")
            self.provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
        self.tracer = self.provider.get_tracer("the application's")
        self.options = {"base_url": settings["base_url"], "api_key": "test", "max_retries": 0}
        self._writing = threading.Lock()
        store = store_of(settings["store"], settings["time_limit"])
        OpenAISessionsInstrumentor().instrument(tracer_provider=self.provider, store=store)

    def around(self, order: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
        """The request that the call is made for, if there is one."""
        name = order.get("around")
        return self.tracer.start_as_current_span(name) if name else contextlib.nullcontext()

    def say(self, answer: dict[str, Any]) -> None:
        with self._writing:
            print(json.dumps(answer), flush=True)

    def done(self, order: dict[str, Any], begun: float, outcome: str | Exception) -> None:
        """Say what came of an order: the response's id, or the failure; and how long the application waited."""
        seconds = time.perf_counter() - begun
        failed = isinstance(outcome, Exception)
        self.say(
            {
                "order": order["order"],
                "response": None if failed else outcome,
                "error": repr(outcome) if failed else None,
                "seconds": seconds,
            }
        )

    def end(self) -> None:
        OpenAISessionsInstrumentor().uninstrument()
        self.provider.shutdown()


def store_of(url: str, time_limit: float | None) -> Any:
    """What to give as ``store``: the URL, or the same store with another time limit than applications have.

    A call then waits as long for what is asked and recorded: a machine that has too much to do makes no answer late.
    """
    if time_limit is None:
        return url
    flow.BUDGET = pace.SLOW = time_limit  # type: ignore[misc]
    if url.startswith("sqlite"):
        return GuardedStore(SqliteBackend(url.removeprefix("sqlite:///")), time_limit=time_limit)
    return GuardedStore(RedisBackend(url), time_limit=time_limit)


def create(client: Any, order: dict[str, Any]) -> Any:
    resource = client.chat.completions if order["api"] == "chat" else client.responses
    return resource.create(model="gpt-4o-mini", **order["arguments"])


def id_in(chunk: Any) -> str | None:
    """The id of a response in a whole reply, an event or a chunk."""
    return getattr(chunk, "id", None) or getattr(getattr(chunk, "response", None), "id", None)


def run(application: Application) -> None:
    """Work with threads."""
    client = OpenAI(**application.options, http_client=DefaultHttpxClient(verify=False))

    def make(order: dict[str, Any]) -> None:
        begun = time.perf_counter()
        try:
            with application.around(order):
                reply = create(client, order)
                outcome = [id_in(chunk) for chunk in reply][0] if order["arguments"].get("stream") else id_in(reply)
        except Exception as error:
            outcome = error
        application.done(order, begun, outcome)

    with ThreadPoolExecutor(THREADS) as pool:
        for line in sys.stdin:
            pool.submit(make, json.loads(line))


async def arun(application: Application) -> None:
    """Work with tasks on one event loop."""
    client = AsyncOpenAI(**application.options, http_client=DefaultAsyncHttpxClient(verify=False))

    async def make(order: dict[str, Any]) -> None:
        begun = time.perf_counter()
        try:
            with application.around(order):
                reply = await create(client, order)
                if order["arguments"].get("stream"):
                    outcome = [id_in(chunk) async for chunk in reply][0]
                else:
                    outcome = id_in(reply)
        except Exception as error:
            outcome = error
        application.done(order, begun, outcome)

    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    making = set()
    while line := await orders.readline():
        task = asyncio.ensure_future(make(json.loads(line)))
        making.add(task)
        task.add_done_callback(making.discard)
    await asyncio.gather(*making)
    await client.close()


def begin(settings: dict[str, Any], environment: dict[str, str], *streams: Connection) -> None:
    """Be an application process, from the fork on: with its environment and its three standard streams."""
    gc.freeze()  # what was imported is neither looked at nor copied
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)
    application = Application(settings)
    application.say({"ready": True})
    if settings["client"] == "async":
        asyncio.run(arun(application))
    else:
        run(application)
    application.end()
