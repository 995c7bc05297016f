"""The example of a service that takes feedback: a real process, its spans and its events over OTLP."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from programs import importing, run_to_its_end

from otel_llm_sessions.demo.runner import environment_of, instrument_command

EXAMPLE = Path(__file__).parents[2] / "examples" / "feedback.py"


@pytest.mark.slow
def test_what_visitors_think_of_an_answer_stands_in_its_sessions_trace_with_a_link_to_it(server, exported):
    provider = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "x"}
    environment = environment_of(os.environ, exported.receiver.endpoint, provider) | {
        "OTEL_SERVICE_NAME": "feedback",
        "OTEL_LOGS_EXPORTER": "otlp_proto_http",
        **importing(),
    }
    command = [*instrument_command(), str(EXAMPLE), "--drive"]
    done = run_to_its_end(command, environment, 120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    judged, calls = exported.named("evaluation"), {call.span_id: call for call in exported.named("chat")}
    roots = {root.span_id: root for root in exported.named("session")}
    assert (len(judged), len(calls), len(roots)) == (4, 4, 2)
    events = {event.attributes["gen_ai.response.id"]: event for event in exported.receiver.logs if event.event_name}
    for span in judged:
        (link,) = span.links
        call = calls[link.span_id]
        assert roots[span.parent_id].attributes["session.id"] == call.attributes["session.id"]
        assert span.attributes["gen_ai.response.id"] == call.attributes["gen_ai.response.id"]
        is_second = call.attributes["llm_session.turn"] == 2
        assert span.attributes["gen_ai.evaluation.score.label"] == ("up" if is_second else "down")
        event = events[call.attributes["gen_ai.response.id"]]
        assert (event.event_name, event.span_id) == ("gen_ai.evaluation.result", call.span_id)
