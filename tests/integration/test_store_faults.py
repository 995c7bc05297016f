"""What applications notice of a shared store that fails while they work: real processes, a real Redis, real files."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from app_process import store_of
from disk_faults import filled_up, read_only, small_file_system
from fleet import Fleet
from otlp_receiver import OtlpReceiver
from store_kit import Lateness, RedisServer, locked
from waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.alone]

CLIENTS = ("sync", "async")
CHAINS = 5
"""Chains of each process."""


class Chains:
    """Chains of responses, each made by one process: the ids of each, oldest first."""

    def __init__(self) -> None:
        self.ids: list[list[str]] = [[] for _ in range(CHAINS * len(CLIENTS))]

    def go_on(self, fleet: Fleet, turns: int) -> list[float]:
        """Make as many turns of every chain, one call at a time in each process; return what each took, in seconds."""
        took = []
        for chain in list(range(CHAINS)) * turns:
            orders = {}
            for worker in range(len(CLIENTS)):
                ids = self.ids[worker * CHAINS + chain]
                orders[fleet.order(worker % len(fleet.workers), "responses", self._arguments(ids))] = ids
            for answer in [fleet.next_answer() for _ in orders]:
                assert answer["error"] is None, answer["error"]
                orders[answer["order"]].append(answer["response"])
                took.append(answer["seconds"])
        return took

    @staticmethod
    def _arguments(ids: list[str]) -> dict[str, str]:
        return {"input": "Hello"} | ({"previous_response_id": ids[-1]} if ids else {})


# --- what may happen to a store ---------------------------------------------------------------------------------


@contextlib.contextmanager
def killed(redis: RedisServer) -> Iterator[None]:
    redis.kill()
    yield
    redis.start()


@contextlib.contextmanager
def full(redis: RedisServer) -> Iterator[None]:
    redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    redis.ask("CONFIG", "SET", "maxmemory", "1")
    yield
    redis.ask("CONFIG", "SET", "maxmemory", "0")


@contextlib.contextmanager
def deleted(path: Path) -> Iterator[None]:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    yield


FAULTS: dict[str, Callable[[Any], contextlib.AbstractContextManager[None]]] = {
    "redis is killed and restarted empty": killed,
    "redis accepts and never answers": RedisServer.frozen,
    "redis is full": full,
    "the file is locked": locked,
    "the file is deleted": deleted,
    "the disk is full": lambda path: filled_up(path.parent),
    "permission is denied from the start": lambda path: read_only(path.parent),
}


@pytest.fixture
def store(request: pytest.FixtureRequest, fault: str, tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """The URL of a store, and what the fault happens to."""
    if "redis" in fault:
        redis = request.getfixturevalue("redis")
        yield redis.url, redis
        return
    with small_file_system(tmp_path / "mounted") as directory:
        yield f"sqlite:///{directory / 'sessions.db'}", directory / "sessions.db"


@pytest.mark.parametrize("fault", FAULTS)
def test_applications_go_on_and_nothing_is_lost(server, store, fault):
    url, what = store
    chains = Chains()
    with OtlpReceiver() as receiver:
        options = {"store": url, "base_url": server.base_url, "endpoint": receiver.endpoint}
        with contextlib.ExitStack() as happening, Fleet(CLIENTS, **options) as fleet:
            if "from the start" in fault:
                happening.enter_context(FAULTS[fault](what))
            chains.go_on(fleet, 1)
            before = chains.go_on(fleet, 4)
            if "from the start" not in fault:
                happening.enter_context(FAULTS[fault](what))
            with Lateness() as late:
                during = chains.go_on(fleet, 5)
                happening.close()
                during += chains.go_on(fleet, 5)
            assert max(during) - statistics.median(before) < late.limit(0.06)
            with contextlib.closing(store_of(url, 5.0)) as another:
                keys = [f"r:{response}" for ids in chains.ids for response in ids]
                until(lambda: all(another.get_all([key])[0] for key in keys))
            fleet.finish()
        with Fleet(["sync"], **options) as fresh:
            chains.go_on(fresh, 1)
            fresh.finish()
        calls = {
            span.attributes["gen_ai.response.id"]: span for span in receiver.spans if span.name.startswith("chat ")
        }
    for ids in chains.ids:
        spans = [calls[response_id] for response_id in ids]
        assert [span.attributes["llm_session.turn"] for span in spans] == list(range(1, 17))
        assert {span.attributes["session.id"] for span in spans} == {ids[0]}
        assert {(span.trace_id, span.parent_id) for span in spans} == {(spans[0].trace_id, spans[0].parent_id)}
        assert [[link.span_id for link in span.links] for span in spans[1:]] == [[span.span_id] for span in spans[:-1]]
