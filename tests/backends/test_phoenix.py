"""Sessions and their words in the real Phoenix: by the conventions' attributes, and as a Collector completes them."""

from __future__ import annotations

import json

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from servers import ROOT, Collector, eventually, until, validated
from session_servers import Phoenix, nodes
from two_people import CHAIN, LONG, REQUEST, RESULT, THEN

from otel_llm_sessions.openai.words.asked import said_in, tools_in

CONFIG = ROOT / "examples" / "phoenix.yaml"

SAID = [
    {"role": "developer", "content": [{"type": "input_text", "text": "Look."}]},
    {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]},
    {"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}, {"type": "odd", "of": "a kind"}]},
    {"type": "reasoning", "summary": [], "encrypted_content": "AAAA"},
    {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "q"}},
    {"type": "code_interpreter_call", "id": "ci_1", "code": "1", "outputs": [{"type": "logs", "logs": "1"}]},
    {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{"},
    {"type": "function_call_output", "call_id": "call_1", "output": None},
    {"type": "item_reference", "id": "msg_1"},
    {"type": "odd"},
]
TOOLS = [
    {"type": "function", "name": "f", "parameters": None},
    {"type": "web_search"},
    {"type": "mcp", "server_label": "s"},
    {"type": "odd"},
]


def turns(session) -> list:
    """The root spans of a session's traces, in the order in which its page has them."""
    return [trace["rootSpan"] for trace in nodes(session["traces"])]


def arrived(phoenix: Phoenix, project: str):
    """The chat and the chain, once all their turns are there."""

    def check():
        sessions = phoenix.sessions(project)
        assert [len(turns(session)) for session in sessions.values()] == [3, 3]
        chat = sessions.pop(project)
        return chat, *sessions.values()

    return eventually(check)


@pytest.fixture(scope="module")
def direct(phoenix: Phoenix, two_people):
    """The chat and the chain, sent to Phoenix itself over gRPC."""
    two_people(phoenix.grpc, "direct", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    return arrived(phoenix, "direct")


def test_phoenix_makes_sessions_of_the_conventions_attributes_and_keeps_them_whole(direct):
    chat, chain = direct
    assert (chat["userId"], chain["userId"]) == ("ann", None)
    for session in (chat, chain):
        attributes = [json.loads(turn["attributes"]) for turn in turns(session)]
        assert [found["llm_session"]["turn"] for found in attributes] == [1, 2, 3]
        usages = [found["gen_ai"]["usage"] for found in attributes]
        assert session["tokenUsage"] == {
            "prompt": sum(usage["input_tokens"] for usage in usages),
            "completion": sum(usage["output_tokens"] for usage in usages),
        }
        assert {found["llm"]["model_name"] for found in attributes} == {"gpt-4o-mini"}
    first = json.loads(turns(chat)[0]["attributes"])
    asked = json.loads(first["gen_ai"]["input"]["messages"])[-1]
    assert asked == {"role": "user", "parts": [{"type": "text", "content": LONG}]}
    assert first["llm"]["input_messages"][-1]["message"] == {"role": "user", "content": LONG}
    (call,) = first["llm"]["output_messages"][0]["message"]["tool_calls"]
    assert call["tool_call"]["function"]["name"] == "get_weather"
    last = json.loads(turns(chain)[-1]["attributes"])
    assert last["llm"]["input_messages"][-1]["message"] == {"role": "user", "content": CHAIN[-1]}


def test_phoenix_by_itself_shows_no_input_and_for_output_an_id(direct):
    """What docs/backends.md says that it lacks; where this fails, the configuration is not needed any more."""
    for session in direct:
        assert [turn["input"] for turn in turns(session)] == [None] * 3
        assert [set(json.loads(turn["output"]["value"])) for turn in turns(session)] == [{"id", "model"}] * 3


@pytest.mark.parametrize("content", ["delta", "full"])
def test_with_the_configuration_each_turn_shows_its_words(phoenix: Phoenix, two_people, tmp_path, monkeypatch, content):
    monkeypatch.setenv("PHOENIX_ENDPOINT", phoenix.address)
    assert validated(CONFIG).returncode == 0
    with Collector(tmp_path, "localhost:1", "localhost:1", CONFIG) as collector:
        two_people(collector.http, content, OTEL_LLM_SESSIONS_CONTENT=content)
        chat, chain = arrived(phoenix, content)
    assert [turn["input"]["value"] for turn in turns(chat)] == [LONG, RESULT, THEN]
    called, told, thanked = [turn["output"] for turn in turns(chat)]
    assert json.loads(called["value"])[0]["parts"][0]["arguments"] == {"city": "Paris"}
    assert told == {"value": f"The tool says: {RESULT}", "mimeType": "text"}
    assert thanked["mimeType"] == "text"
    assert chat["firstInput"]["value"].startswith(LONG[:100])
    assert chat["lastOutput"]["value"] == thanked["value"]
    assert [turn["input"]["value"] for turn in turns(chain)] == list(CHAIN)
    assert turns(chain)[0]["output"]["value"] == "The capital of France is Paris."


def test_turns_in_requests_are_one_session_whose_list_shows_the_requests(phoenix: Phoenix, two_people):
    two_people(phoenix.address, "nested", "--in-requests")
    for session in arrived(phoenix, "nested"):
        assert [(turn["name"], turn["input"]) for turn in turns(session)] == [(REQUEST, None)] * 3
        assert all(session["tokenUsage"][kind] > 0 for kind in ("prompt", "completion"))
    calls = [span["attributes"] for span in phoenix.spans("nested") if span["name"] != REQUEST]
    assert [call["gen_ai.request.model"] for call in calls] == ["gpt-4o-mini"] * 6
    asked = sorted(json.loads(call["gen_ai.input.messages"])[-1]["parts"][0].get("content", RESULT) for call in calls)
    assert asked == sorted([LONG, RESULT, THEN, *CHAIN])


def test_phoenix_reads_messages_and_tools_of_every_kind(phoenix: Phoenix):
    """One that it does not know has it drop all the others, too."""
    said, tools = said_in("responses", {"input": SAID}), tools_in("responses", {"tools": TOOLS})
    attributes = {"gen_ai.input.messages": json.dumps(said), "gen_ai.tool.definitions": json.dumps(tools)}
    provider = TracerProvider(resource=Resource.create({"openinference.project.name": "kinds"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(phoenix.grpc, insecure=True)))
    provider.get_tracer("kinds").start_span("chat", attributes=attributes).end()
    provider.shutdown()
    (read,) = until(lambda: phoenix.spans("kinds"))
    assert sum(name.endswith("message.role") for name in read["attributes"]) == len(SAID)
    assert sum(name.endswith("tool.json_schema") for name in read["attributes"]) == len(TOOLS)
