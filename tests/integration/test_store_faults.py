"""What applications notice of a shared store that fails while they work: real processes, a real Redis."""

from __future__ import annotations

import statistics

import pytest
from fleet import Fleet
from store_kit import Lateness, RedisServer, until

from otel_llm_sessions.demo.receiver import OtlpReceiver

pytestmark = pytest.mark.slow

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


def keys_in(redis: RedisServer) -> int:
    return int(redis.ask("DBSIZE")[1:])


def test_redis_is_killed_and_restarted_empty_while_applications_work(redis, server):
    chains = Chains()
    with OtlpReceiver() as receiver:
        options = {"store": redis.url, "base_url": server.base_url, "endpoint": receiver.endpoint}
        with Fleet(CLIENTS, **options) as fleet:
            chains.go_on(fleet, 1)
            before = chains.go_on(fleet, 4)
            with Lateness() as late:
                redis.kill()
                during = chains.go_on(fleet, 5)
                redis.start()
                during += chains.go_on(fleet, 5)
            turns = sum(map(len, chains.ids))
            until(lambda: keys_in(redis) > turns, 60)  # every response, and the store's scope
            assert max(during) - statistics.median(before) < 0.06 + late.worst
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
