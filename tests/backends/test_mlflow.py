"""Sessions and their words in the real MLflow, by the conventions' attributes alone."""

from __future__ import annotations

import json

from servers import eventually
from session_servers import FIRST_EXPERIMENT, MLflow
from two_people import ASKED, CHAIN, LONG, RESULT, THEN

HEADERS = {"OTEL_EXPORTER_OTLP_HEADERS": FIRST_EXPERIMENT}


def call_in(trace) -> dict:
    """The attributes of the call in a trace, decoded."""
    (call,) = [span for span in trace["data"]["spans"] if "gen_ai.operation.name" in span["attributes"]]
    return {name: decoded(value) for name, value in call["attributes"].items()}


def decoded(value):
    """MLflow keeps each attribute's value as JSON."""
    return json.loads(value) if isinstance(value, str) else value


def arrived(mlflow: MLflow, name: str):
    """The chat's turns, and those of the chain that was made with it, oldest first."""

    def check():
        mine = {
            session: traces
            for session, traces in mlflow.sessions().items()
            if traces[0]["info"]["tags"]["service.name"] == name
        }
        assert [len(traces) for traces in mine.values()] == [3, 3]
        chat = mine.pop(name)
        return chat, *mine.values()

    return eventually(check)


def test_each_turn_of_a_session_shows_input_output_and_tokens(mlflow: MLflow, two_people):
    two_people(mlflow.address, "ann-s", **HEADERS)
    chat, chain = arrived(mlflow, "ann-s")
    for traces in (chat, chain):
        spans = [call_in(trace) for trace in traces]
        assert [span["llm_session.turn"] for span in spans] == [1, 2, 3]
        for span, info in zip(spans, [trace["info"] for trace in traces], strict=True):
            assert span["mlflow.spanInputs"] == span["gen_ai.input.messages"]
            assert span["mlflow.spanOutputs"] == span["gen_ai.output.messages"]
            assert span["mlflow.spanType"] == "CHAT_MODEL"
            assert span["mlflow.llm.model"] == span["gen_ai.response.model"]
            usage = json.loads(info["trace_metadata"]["mlflow.trace.tokenUsage"])
            assert usage["input_tokens"] == span["gen_ai.usage.input_tokens"]
            assert usage["output_tokens"] == span["gen_ai.usage.output_tokens"]
    assert [said(trace) for trace in chat] == [LONG, RESULT, THEN]
    assert [said(trace) for trace in chain] == list(CHAIN)
    assert [messages_in(trace) for trace in chat + chain] == [2, 1, 1, 1, 1, 1]
    assert ASKED in chat[0]["info"]["request_preview"]
    assert THEN in chat[2]["info"]["request_preview"]
    assert "The capital of France is Paris." in chain[0]["info"]["response_preview"]
    assert chat[0]["info"]["trace_metadata"]["mlflow.trace.user"] == "ann"


def test_with_full_contents_the_list_shows_the_beginning_for_every_turn(mlflow: MLflow, two_people):
    two_people(mlflow.address, "full", OTEL_LLM_SESSIONS_CONTENT="full", **HEADERS)
    chat, _ = arrived(mlflow, "full")
    assert [said(trace) for trace in chat] == [LONG, RESULT, THEN]
    assert [messages_in(trace) for trace in chat] == [2, 4, 6]
    (preview,) = {trace["info"]["request_preview"] for trace in chat}
    assert len(preview) == 1000


def messages_in(trace) -> int:
    """How many messages a turn's input has."""
    return len(call_in(trace)["mlflow.spanInputs"])


def said(trace) -> str:
    """The last message of a turn's input."""
    part = call_in(trace)["mlflow.spanInputs"][-1]["parts"][0]
    return part.get("content", part.get("response"))


def test_turns_in_requests_are_one_session_whose_list_shows_the_requests(mlflow: MLflow, two_people):
    two_people(mlflow.address, "nested", "--in-requests", **HEADERS)
    for traces in arrived(mlflow, "nested"):
        assert ["request_preview" in trace["info"] for trace in traces] == [False] * 3
        usages = [json.loads(trace["info"]["trace_metadata"]["mlflow.trace.tokenUsage"]) for trace in traces]
        calls = [call_in(trace) for trace in traces]
        assert [usage["input_tokens"] for usage in usages] == [call["gen_ai.usage.input_tokens"] for call in calls]
        assert {call["mlflow.llm.model"] == call["gen_ai.response.model"] for call in calls} == {True}
        assert all(said(trace) for trace in traces)
