"""Celery's prefork pool: what docs/existing-pipelines.md has one write, and what arrives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pipelines.pipelines_kit import SENDS_NOTHING, Pipeline, calls, chains_of, check_whole, pipeline, wait_for_all
from store_kit import RedisServer

CELERY = "Celery"
STOPS_WITHIN = 60.0
TALKS, TURNS = 2, 3
ASKING = """
import json, sys, tasks

talks = [[] for _ in range(int(sys.argv[1]))]
for _ in range(int(sys.argv[2])):
    asked = [tasks.ask.delay("Hello", talk[-1]["id"] if talk else None) for talk in talks]
    for talk, reply in zip(talks, asked):
        talk.append(reply.get(timeout=60))
print(json.dumps(talks))
"""

pytestmark = pytest.mark.frameworks


def settings_of(at: Pipeline, **more: str) -> dict[str, str]:
    address = at.redis.url.removesuffix("/0")
    brokers = {"CELERY_BROKER_URL": f"{address}/1", "CELERY_RESULT_BACKEND": f"{address}/2"}
    return at.settings(**SENDS_NOTHING, **brokers, **more)


def ask(at: Pipeline, talks: int = TALKS, turns: int = TURNS) -> list[list[dict]]:
    """Have tasks make calls, up a chain for each talk."""
    done = at.run(["python", "-c", ASKING, str(talks), str(turns)], settings_of(at))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_tasks_of_a_conversation_in_one_process_after_the_other_are_one_session(tmp_path: Path, redis: RedisServer):
    with pipeline("celery", CELERY, tmp_path, redis) as at:
        with at.start(at.section.command("celery"), settings_of(at)) as group:
            talks = ask(at)
            processes = {reply["worker"] for talk in talks for reply in talk}
            assert len(processes) > 2, "each process has ended after two tasks"
            group.stop(STOPS_WITHIN)
            printed = group.printed
        wait_for_all(at.receiver, chains_of(talks))
        check_whole(at.receiver.spans, chains_of(talks), below="CONSUMER")
        assert "Traceback" not in printed, printed


def test_without_its_flush_a_pool_s_processes_send_nothing_of_the_last_seconds(tmp_path: Path, redis: RedisServer):
    """The SDK's loss: these processes end without what is to be done at exit."""
    with pipeline("celery", CELERY, tmp_path, redis) as at:
        at.write_without_flush("tasks.py")
        with at.start(at.section.command("celery"), settings_of(at)) as group:
            ask(at)
            group.stop(STOPS_WITHIN)
        assert calls(at.receiver.spans) == []
