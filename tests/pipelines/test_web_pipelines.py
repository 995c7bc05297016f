"""Web servers with workers of their own: what docs/existing-pipelines.md has one write, and what arrives."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from pipelines.pipelines_kit import (
    SENDS_NOTHING,
    STOPS_WITHIN,
    Pipeline,
    calls,
    chains_of,
    check_whole,
    pipeline,
    wait_for_all,
)
from process_group import ProcessGroup
from store_kit import RedisServer

GUNICORN, GEVENT = "gunicorn and Flask", "gunicorn with gevent"
DJANGO, UVICORN = "Django", "uvicorn with workers, and FastAPI"

pytestmark = pytest.mark.frameworks


def serving(at: Pipeline, command: list[str], **settings: str) -> ProcessGroup:
    """Start a section's server, which sends nothing by itself."""
    protocol = settings.pop("protocol", "http/protobuf")
    bound = {
        "GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{at.port}",
        "UVICORN_PORT": str(at.port),
        "UVICORN_TIMEOUT_WORKER_HEALTHCHECK": "60",  # a worker that is held up for a moment is not dead
    }
    return at.start(command, at.settings(protocol, **SENDS_NOTHING, **bound, **settings))


SERVERS = (
    ("flask", GUNICORN, "sync", "http/protobuf"),
    ("flask", GUNICORN, "gthread", "http/protobuf"),
    ("flask", GUNICORN, "gthread", "grpc"),
    ("flask", GUNICORN, "--preload", "grpc"),
    ("flask", GEVENT, "shop:app", "http/protobuf"),
    ("django", DJANGO, "gunicorn", "http/protobuf"),
    ("fastapi", UVICORN, "uvicorn", "http/protobuf"),
    ("fastapi", UVICORN, "uvicorn", "grpc"),
)


@pytest.mark.parametrize(("name", "title", "word", "protocol"), SERVERS)
def test_what_workers_have_left_arrives_when_they_are_stopped(name, title, word, protocol, tmp_path, redis):
    with pipeline(name, title, tmp_path, redis, as_in=GUNICORN if title == GEVENT else "") as at:
        with serving(at, at.section.command(word), protocol=protocol) as group:
            group.until(at.is_up)
            talks = at.talk()
            assert calls(at.receiver.spans) == []
            group.stop(STOPS_WITHIN)
            printed = group.printed
        chains = chains_of(talks)
        wait_for_all(at.receiver, chains)
        check_whole(at.receiver.spans, chains, below="SERVER")
        assert "Traceback" not in printed, printed


def test_a_worker_that_ends_after_so_many_requests_sends_what_it_has(tmp_path: Path, redis: RedisServer):
    with pipeline("flask", GUNICORN, tmp_path, redis) as at:
        *options, application = at.section.command("sync")
        with serving(at, [*options, "--max-requests", "2", application]) as group:
            group.until(at.is_up)
            talk = at.visit(1, turns=6)
            assert len({reply["worker"] for reply in talk}) > 2, "each worker has ended after two requests"
            group.stop(STOPS_WITHIN)
        chains = chains_of([talk])
        wait_for_all(at.receiver, chains)
        check_whole(at.receiver.spans, chains, below="SERVER")


def test_without_its_flush_uvicorn_s_workers_send_nothing_of_the_last_seconds(tmp_path: Path, redis: RedisServer):
    """The SDK's loss: uvicorn raises SIGTERM again, and what is to be done at exit is not."""
    with pipeline("fastapi", UVICORN, tmp_path, redis) as at:
        at.write_without_flush("shop.py")
        with serving(at, at.section.command("uvicorn")) as group:
            group.until(at.is_up)
            at.talk()
            group.stop(STOPS_WITHIN)
        assert at.receiver.spans == []


def test_a_killed_worker_takes_what_it_had_not_sent_and_its_sessions_go_on(tmp_path: Path, redis: RedisServer):
    """The SDK's loss, under every server; what other processes need to go on is in the store by then."""
    with pipeline("flask", GUNICORN, tmp_path, redis) as at:
        with serving(at, at.section.command("sync")) as group:
            group.until(at.is_up)
            first, second, third = at.visit_two_workers()
            os.kill(second["worker"], signal.SIGKILL)
            group.until(lambda: "SIGKILL" in group.printed)
            fourth = at.ask("Still there?", third["id"])
            group.stop(STOPS_WITHIN)
        kept = [reply for reply in (first, second, third, fourth) if reply["worker"] != second["worker"]]
        wait_for_all(at.receiver, [[reply["id"] for reply in kept]])
        found = calls(at.receiver.spans)
        assert [call.attributes["gen_ai.response.id"] for call in found] == [reply["id"] for reply in kept]
        assert {call.attributes["session.id"] for call in found} == {first["id"]}
        assert found[-1].attributes["llm_session.turn"] == 4


def test_workers_end_in_time_where_nobody_takes_their_spans(tmp_path: Path, redis: RedisServer):
    with pipeline("flask", GUNICORN, tmp_path, redis) as at:
        with serving(at, at.section.command("sync")) as group:
            group.until(at.is_up)
            at.visit(1)
            at.receiver.close()
            assert group.stop(STOPS_WITHIN) == 0
            assert "SIGKILL" not in group.printed
