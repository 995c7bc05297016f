"""Long contents in the real Jaeger."""

from __future__ import annotations

import json

from jaeger_traces import calls, tags
from loopback_client import MODEL
from servers import Jaeger, until

from otel_llm_sessions.telemetry.content.capture import VARIABLE


def test_contents_come_back_from_jaeger_whole(application, jaeger: Jaeger, monkeypatch):
    monkeypatch.setenv(VARIABLE, "SPAN_ONLY")
    said = [f"{number}: " + "ä long text, " * 1_200 for number in range(14)]
    messages = [{"role": "user", "content": text} for text in said]
    sender = application(jaeger.grpc, "long")
    sender.client.chat.completions.create(model=MODEL, messages=messages, extra_headers={"x-session-id": "long"})
    sender.send()
    (call,) = calls(until(lambda: jaeger.find("long", **{"session.id": "long"})))
    arrived = tags(call)
    assert len(arrived["gen_ai.input.messages"]) > 200_000
    assert [
        part["content"] for message in json.loads(arrived["gen_ai.input.messages"]) for part in message["parts"]
    ] == said
    (answer,) = json.loads(arrived["gen_ai.output.messages"])
    assert answer["parts"][0]["type"] == "text"
    assert "llm_session.content_cut" not in arrived
