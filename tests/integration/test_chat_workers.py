"""The example of a service behind four worker processes: real workers, a real Redis, spans over OTLP."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pytest
from programs import importing, run_to_its_end
from store_kit import RedisServer

from otel_llm_sessions.demo.runner import environment_of, instrument_command

EXAMPLE = Path(__file__).parents[2] / "examples" / "chat_workers.py"


@pytest.mark.slow
def test_a_visitor_served_by_many_workers_has_one_session(server, exported, redis: RedisServer):
    provider = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "x"}
    environment = environment_of(os.environ, exported.receiver.endpoint, provider) | {
        "OTEL_SERVICE_NAME": "chat-workers",
        "OTEL_LLM_SESSIONS_STORE": redis.url,
        **importing(),
    }
    command = [*instrument_command(), str(EXAMPLE), "--drive"]
    done = run_to_its_end(command, environment, 120)
    assert done.returncode == 0, done.stderr
    assert len({line.partition("worker ")[2].split(")")[0] for line in done.stdout.splitlines()}) > 1
    sessions = defaultdict(list)
    for call in exported.named("chat"):
        sessions[call.attributes["session.id"]].append(call)
    assert len(sessions) == 3
    for session_id, calls in sessions.items():
        assert [call.attributes["llm_session.turn"] for call in calls] == [1, 2, 3, 4]
        assert session_id == calls[0].attributes["gen_ai.response.id"]
        for before, call in zip(calls, calls[1:], strict=False):
            assert before.span_id in {link.span_id for link in call.links}
    roots = exported.named("session")
    assert sorted(root.attributes["session.id"] for root in roots) == sorted(sessions)
    markers = exported.named("turn")
    assert len(markers) == 12
    assert {(marker.trace_id, marker.parent_id) for marker in markers} == {
        (root.trace_id, root.span_id) for root in roots
    }
