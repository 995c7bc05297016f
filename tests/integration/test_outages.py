"""What an outage of the shared store leaves: sessions that go on as themselves when it is over."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet
from fleet_work import links
from otlp_receiver import OtlpReceiver
from store_kit import SERVERS, RedisServer, require_program
from traces_kit import ref

pytestmark = pytest.mark.slow

WORKERS, SESSIONS, TURNS = 4, 60, 6
DOWN = (2, 3)
"""Which turns are made while nothing answers, counted from 0."""

BACK = 2.0
"""Seconds after which the store counts as back, once its server answers again."""


PAUSE = 0.5
"""Seconds between two turns of a session: on a busy machine what a turn leaves behind takes a while to be written."""


def a_round(fleet: Fleet, chains: list[list[str]], turn: int) -> None:
    """Make one more turn of each session, each by another process than the one before."""
    waiting = {}
    for number, ids in enumerate(chains):
        previous = {"previous_response_id": ids[-1]} if ids else {}
        waiting[fleet.order((number + turn) % WORKERS, "responses", {"input": "Hello", **previous})] = ids
    for _ in range(len(waiting)):
        answer = fleet.next_answer()
        assert answer["error"] is None, answer["error"]
        waiting[answer["order"]].append(answer["response"])


def wrong_turns(ids: list[str], calls: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return what is wrong with the turns of a session: turn, what it says, what it should.

    A turn made while nothing answers may say ``chain_partial``: nobody but the process of the turn before knows that.
    """
    wrong: list[tuple[Any, ...]] = []
    linked: list[tuple[str, str]] = []
    for turn, response_id in enumerate(ids):
        call = calls[response_id]
        said = call.attributes["session.id"], call.attributes["llm_session.turn"], links(call, "previous_turn")
        is_excused = turn in DOWN and call.attributes["llm_session.source"] == "chain_partial"
        if said != (ids[0], turn + 1, linked) and not is_excused:
            wrong.append((turn, said, (ids[0], turn + 1, linked)))
        linked = [ref(call)]
    return wrong


def test_sessions_are_themselves_again_when_the_store_is(server: Any, tmp_path: Path) -> None:
    redis = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always", program=require_program(SERVERS[0]))
    redis.start()
    chains: list[list[str]] = [[] for _ in range(SESSIONS)]
    try:
        with OtlpReceiver() as receiver:
            settings = {"store": redis.url, "base_url": server.base_url, "endpoint": receiver.endpoint}
            with Fleet(["sync", "async"] * (WORKERS // 2), **settings) as fleet:
                for turn in range(TURNS):
                    if turn == DOWN[0]:
                        redis.kill()
                    if turn == DOWN[-1] + 1:
                        redis.start()
                        time.sleep(BACK)  # as promised
                    a_round(fleet, chains, turn)
                    time.sleep(PAUSE)
                fleet.finish()
            calls = {
                span.attributes["gen_ai.response.id"]: span for span in receiver.spans if span.name.startswith("chat ")
            }
    finally:
        redis.kill()
    wrong = [mistake for ids in chains for mistake in wrong_turns(ids, calls)]
    assert not wrong, f"{len(wrong)} of {SESSIONS * TURNS}: {wrong[:5]}"
