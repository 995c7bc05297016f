"""What look-up and record add to a call, by store.

The calls are real instrumented ones of a session with an id of its own: its newest turn changes with every call, so
that the store is asked each time, whatever this process knows, and written each time, under three keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import redis_server

if TYPE_CHECKING:
    from otel_llm_sessions.sessions.link import SessionLink
    from otel_llm_sessions.stores.protocol import SessionStore

WARM_CALLS = 50
CALLS = 500


class TimedStore:
    """A store that says how long its callers waited for it."""

    def __init__(self, inner: SessionStore) -> None:
        self._inner = inner
        self.scope = inner.scope
        self.asked = 0
        self.written = 0
        self._waited = 0

    def take(self) -> int:
        """Return the nanoseconds waited since this was last asked."""
        waited, self._waited = self._waited, 0
        return waited

    def get_all(self, keys: Sequence[str]) -> Sequence[SessionLink | None]:
        """As the store's own, timed."""
        begun = time.perf_counter_ns()
        links = self._inner.get_all(keys)
        self._waited += time.perf_counter_ns() - begun
        self.asked += 1
        return links

    def put(self, keys: Sequence[str], link: SessionLink) -> None:
        """As the store's own, timed."""
        begun = time.perf_counter_ns()
        self._inner.put(keys, link)
        self._waited += time.perf_counter_ns() - begun
        self.written += len(keys)

    async def aget_all(self, keys: Sequence[str]) -> Sequence[SessionLink | None]:
        """As the store's own, timed."""
        begun = time.perf_counter_ns()
        links = await self._inner.aget_all(keys)
        self._waited += time.perf_counter_ns() - begun
        self.asked += 1
        return links

    async def aput(self, keys: Sequence[str], link: SessionLink) -> None:
        """As the store's own, timed."""
        begun = time.perf_counter_ns()
        await self._inner.aput(keys, link)
        self._waited += time.perf_counter_ns() - begun
        self.written += len(keys)

    def claim(self, key: str) -> bool:
        """As the store's own: a session's first call only."""
        return self._inner.claim(key)

    async def aclaim(self, key: str) -> bool:
        """As the store's own: a session's first call only."""
        return await self._inner.aclaim(key)

    def close(self) -> None:
        """As the store's own."""
        self._inner.close()


@dataclass(frozen=True, slots=True)
class Added:
    """What a store adds to a call, in microseconds (medians)."""

    blocking: float
    on_loop: float


def measure(url: str, calls: int = CALLS) -> Added:
    """Return what the store at ``url`` adds to a call of each client."""
    with _instrumented(url) as store:
        blocking = _blocking(store, calls)
    with _instrumented(url) as store:
        return Added(blocking, asyncio.run(_on_loop(store, calls)))


@contextlib.contextmanager
def url_of(kind: str) -> Iterator[str | None]:
    """Yield the URL of a new store of a kind; None if there can be none here."""
    if kind == "memory":
        yield "memory://"
    elif kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/sessions.db"
    elif redis_server.missing():
        yield None
    else:
        with redis_server.running() as url:
            yield url


@contextlib.contextmanager
def _instrumented(url: str) -> Iterator[TimedStore]:
    from benchmarks.variants import Setup
    from otel_llm_sessions.instrumentor import OpenAISessionsInstrumentor
    from otel_llm_sessions.stores.opening import open_store

    store = TimedStore(open_store(url))
    instrumentor = OpenAISessionsInstrumentor()
    instrumentor.instrument(tracer_provider=Setup().tracer_provider(), traces="session", store=store)
    try:
        yield store
    finally:
        instrumentor.uninstrument()


def _request(session: str) -> dict[str, Any]:
    from benchmarks.replies import MODEL, PROMPT

    return {"model": MODEL, "input": PROMPT, "extra_headers": {"x-session-id": session}}


def _blocking(store: TimedStore, calls: int) -> float:
    from benchmarks.client import make_client

    client, request = make_client(), _request("blocking")
    waited: list[int] = []
    for _ in range(WARM_CALLS + calls):
        client.responses.create(**request)
        waited.append(store.take())
    return _median(waited)


async def _on_loop(store: TimedStore, calls: int) -> float:
    from benchmarks.client import make_async_client

    request = _request("on-loop")
    waited: list[int] = []
    async with make_async_client() as client:
        for _ in range(WARM_CALLS + calls):
            await client.responses.create(**request)
            waited.append(store.take())
    return _median(waited)


def _median(waited: Sequence[int]) -> float:
    return statistics.median(waited[WARM_CALLS:]) / 1000
