"""``PROPAGATE``: the session travels with the request; what the application gave stays as it is."""

from __future__ import annotations

import copy
import json
import os
from typing import Any

import openai
import pytest
from lookup_kit import calls, retrieved
from loopback_client import MODEL, THINKING, options_for
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from programs import importing, run_code
from session_kit import found
from traces_kit import traceparent_of

from otel_llm_sessions import session, session_trace_id
from otel_llm_sessions.openai import provider_lookup
from otel_llm_sessions.openai.propagation import Propagation
from otel_llm_sessions.testing import capture_spans

CARRIED = {"session.id", "traceparent", "tracestate"}
LONG_ID = "resp_" + "0123456789abcdef" * 40

pytestmark = pytest.mark.usefixtures("thinks_meanwhile")


@pytest.fixture
def metadata_on():
    with capture_spans(propagate="metadata") as spans:
        yield spans


def sent(server: Any) -> Any:
    """The body of the newest request."""
    return server.requests[-1].body


# --- metadata: what is written ------------------------------------------------------------------------------


def test_a_stored_response_says_its_session_and_its_span(api, server, metadata_on):
    api.respond(metadata={"session_id": "mine"})
    metadata = sent(server)["metadata"]
    assert set(metadata) == CARRIED | {"session_id"}
    assert metadata["session.id"] == metadata["session_id"] == "mine"
    assert metadata["traceparent"] == traceparent_of(calls(metadata_on)[0])


def test_the_first_turn_of_a_chain_has_no_session_yet(api, server, metadata_on):
    first = api.respond()
    assert set(sent(server)["metadata"]) == {"traceparent", "tracestate"}
    api.respond(previous_response_id=first.id)
    assert sent(server)["metadata"]["session.id"] == first.id


def test_nothing_that_the_caller_passes_is_changed(api, server, metadata_on):
    given = {"topic": "x"}
    body = {"extra_body": {"metadata": {"a": "b"}, "top_k": 3}}
    before = copy.deepcopy((given, body))
    api.respond(metadata=given)
    assert sent(server)["metadata"]["topic"] == "x"
    api.respond(metadata=given, **body)
    assert CARRIED - {"session.id"} <= set(sent(server)["metadata"])
    assert "topic" not in sent(server)["metadata"], "as without us: the client takes that of extra_body"
    assert (given, body) == before


def test_a_raw_post_is_not_changed_either(client, server, metadata_on):
    body = {"model": MODEL, "input": "x", "metadata": {"topic": "x"}}
    before = copy.deepcopy(body)
    client.post("/responses", body=body, cast_to=object)
    assert set(sent(server)["metadata"]) == {"topic", "traceparent", "tracestate"}
    assert body == before


@pytest.mark.parametrize("name", sorted(CARRIED))
def test_the_applications_own_keys_are_never_overwritten(api, server, metadata_on, name):
    api.respond(metadata={name: "its own"})
    assert sent(server)["metadata"][name] == "its own"
    if name != "session.id":
        assert not set(sent(server)["metadata"]) - {name}, "half of a trace context would be wrong"


@pytest.mark.parametrize("own", range(12, 18))
def test_there_are_never_more_keys_than_the_api_takes(api, server, metadata_on, own):
    given = {f"key{number}": "x" for number in range(own)}
    with session("mine"):
        api.respond(metadata=given)
    metadata = sent(server)["metadata"]
    assert given.items() <= metadata.items()
    assert len(metadata) == max(own, min(16, own + 3))
    assert ("session.id" in metadata) == (own < 16)


def test_no_value_is_longer_than_the_api_takes(client, server, metadata_on):
    server.script({"id": LONG_ID, "object": "response"}, path="/responses")
    first = client.responses.create(model=MODEL, input="x")
    server.script({"id": "resp_2", "object": "response"}, path="/responses")
    client.responses.create(model=MODEL, input="x", previous_response_id=first.id)
    metadata = sent(server)["metadata"]
    assert set(metadata) == {"session.id", "traceparent", "tracestate"}
    assert all(len(name) <= 64 and len(value) <= 512 for name, value in metadata.items())


@pytest.mark.parametrize(
    "arguments",
    [{"store": False}, {"extra_body": {"store": False}}, {"extra_body": {"metadata": "none of ours"}}],
    ids=str,
)
def test_what_is_not_stored_or_odd_is_not_touched(api, server, metadata_on, arguments):
    with session("mine"):
        api.respond(**arguments)
    ours = sent(server)
    with suppress_instrumentation():
        api.respond(**arguments)
    assert ours == sent(server)


def test_only_stored_responses_are_touched(api, server, metadata_on):
    with session("mine"):
        api.chat()
        assert "metadata" not in sent(server)
        api.chat(metadata={"topic": "x"}, store=True)
        assert sent(server)["metadata"] == {"topic": "x"}


def test_metadata_that_is_null_counts_as_none(api, server, metadata_on):
    api.respond(metadata=None)
    assert set(sent(server)["metadata"]) == {"traceparent", "tracestate"}


def test_streams_and_raw_responses_say_it_too(client, server, metadata_on):
    client.responses.create(model=MODEL, input="x", stream=True).close()
    assert "traceparent" in sent(server)["metadata"]
    client.responses.with_raw_response.create(model=MODEL, input="x")
    assert "traceparent" in sent(server)["metadata"]
    with client.responses.with_streaming_response.create(model=MODEL, input="x") as response:
        response.read()
    assert "traceparent" in sent(server)["metadata"]


def test_a_retried_request_says_the_same_again(server, metadata_on):
    mode = {"x-loopback-mode": "fail_first=1", "x-loopback-key": "retried"}
    with openai.OpenAI(**{**options_for(server), "max_retries": 1}) as client:
        client.responses.create(model=MODEL, input="x", extra_headers=mode)
    first, second = [request.body for request in server.requests]
    assert first == second
    assert first["metadata"]["traceparent"] == traceparent_of(calls(metadata_on)[0])


def test_an_unsampled_turn_says_that_it_is(client, server):
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    with capture_spans(propagate="metadata", tracer_provider=provider), session("mine"):
        client.responses.create(model=MODEL, input="x")
    metadata = sent(server)["metadata"]
    assert metadata["session.id"] == "mine"
    assert int(metadata["traceparent"][-2:], 16) & 1 == 0


def test_a_failure_of_ours_sends_the_request_as_it_is(client, server, monkeypatch, caplog):
    def fail(*arguments: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(Propagation, "applied", fail)
    with capture_spans(propagate="metadata") as spans:
        client.responses.create(model=MODEL, input="x")
    assert "metadata" not in sent(server)
    assert len(calls(spans)) == 1
    assert "failed to send a session on" in caplog.text


# --- metadata: what the next process makes of it ------------------------------------------------------------


class Elsewhere:
    """Another process: what it knows is its own, what it sends arrives at the same server."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def run(self, work: Any) -> Any:
        provider = TracerProvider(shutdown_on_exit=False)
        with capture_spans(propagate="metadata", tracer_provider=provider, **self._settings) as spans:
            work(provider.get_tracer("application"))
        return spans


@pytest.mark.parametrize("named", [False, True], ids=["chain", "named"])
@pytest.mark.parametrize("nested", [False, True], ids=["alone", "nested"])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_one_retrieve_tells_the_next_process_everything(api, server, turns, nested, named):
    ids: list[str] = []

    def talk(tracer: Any) -> None:
        for _ in range(turns):
            previous = {"previous_response_id": ids[-1]} if ids else {}
            metadata = {"metadata": {"session_id": "mine"}} if named and not ids else {}
            if nested:
                with tracer.start_as_current_span("GET /"):
                    ids.append(api.respond(**previous, **metadata).id)
            else:
                ids.append(api.respond(**previous, **metadata).id)

    before = Elsewhere().run(talk)
    server.requests.clear()
    after = Elsewhere(provider_lookup=True).run(lambda _: api.respond(previous_response_id=ids[-1], **THINKING))
    assert len(retrieved(server)) == 1
    last, call = calls(before)[-1], calls(after)[0]
    assert found(call) == ("mine" if named else ids[0], "provider", turns + 1)
    assert ("gen_ai.conversation.id" in call.attributes) == named
    (link,) = [link for link in call.links if link.attributes.get("llm_session.link") == "previous_turn"]
    assert (link.context.trace_id, link.context.span_id) == (last.context.trace_id, last.context.span_id)
    (root,) = [span for span in [*before, *after] if span.name == "session"]
    markers = {span.attributes["llm_session.turn"]: span for span in [*before, *after] if span.name == "turn"}
    assert sorted(markers) == [*(range(1, turns + 1) if nested else []), turns + 1]
    marker = markers[turns + 1]
    assert (marker.context.trace_id, marker.parent.span_id) == (root.context.trace_id, root.context.span_id)
    assert [link.context.span_id for link in marker.links] == [call.context.span_id]
    if nested and turns == 1 and not named:
        assert markers[1].start_time == last.start_time, "the first turn's true beginning"


OWN_IDS = {
    "named by a header": ("web-1", {}, {"extra_headers": {"x-session-id": "H"}}),
    "named by another key": ("web-1", {"metadata_keys": "thread"}, {"metadata": {"thread": "T"}}),
    "not named": ("web-1", {"metadata_keys": "thread"}, {}),
    "no id": ("x" * 300, {}, {}),
    "blank": (" ", {}, {}),
    "not printable": ("a\nb", {}, {}),
}


@pytest.mark.parametrize("turns", [1, 2])
@pytest.mark.parametrize("way", OWN_IDS)
def test_what_the_application_itself_calls_a_session_id_does_not_mislead_the_next_process(api, server, way, turns):
    own, settings, first = OWN_IDS[way]
    ids: list[str] = []

    def talk(_: Any) -> None:
        for _ in range(turns):
            previous = {"previous_response_id": ids[-1]} if ids else {}
            metadata = {"session.id": own, **first.get("metadata", {})}
            ids.append(api.respond(**{**first, **previous, "metadata": metadata}).id)

    before = Elsewhere(**settings).run(talk)
    after = Elsewhere(provider_lookup=True, **settings).run(
        lambda _: api.respond(previous_response_id=ids[-1], **THINKING)
    )
    last, call = calls(before)[-1], calls(after)[0]
    assert found(call) == (last.attributes["session.id"], "provider", turns + 1)
    assert last.attributes["session.id"] in {"H", "T", ids[0]}
    (marker,) = [span for span in after if span.name == "turn"]
    assert marker.context.trace_id == last.context.trace_id
    assert call.links[0].context.span_id == last.context.span_id


def test_a_later_part_goes_on_as_that_part(client, server):
    ids: list[str] = []

    def talk(_: Any) -> None:
        for _ in range(5):
            previous = {"previous_response_id": ids[-1]} if ids else {}
            ids.append(client.responses.create(model=MODEL, input="x", **previous).id)

    before = Elsewhere(max_turns=2).run(talk)
    more = {"previous_response_id": ids[-1], **THINKING}
    after = Elsewhere(max_turns=2, provider_lookup=True).run(
        lambda _: client.responses.create(model=MODEL, input="x", **more)
    )
    last, call = calls(before)[-1], calls(after)[0]
    assert call.attributes["llm_session.part"] == last.attributes["llm_session.part"] == 3
    (marker,) = [span for span in after if span.name == "turn"]
    assert (marker.context.trace_id, marker.parent) == (last.context.trace_id, last.parent)


def test_a_response_that_the_application_fetches_itself_tells_it_too(api, server):
    ids: list[str] = []
    before = Elsewhere().run(lambda _: ids.append(api.respond(metadata={"session_id": "mine"}).id))

    def go_on(_: Any) -> None:
        api.retrieve(ids[0])
        api.respond(previous_response_id=ids[0])

    after = Elsewhere().run(go_on)
    fetch, call = calls(after)
    assert {span.attributes["session.id"] for span in after} == {"mine"}
    assert found(fetch)[:2] == ("mine", "provider")
    assert found(call) == ("mine", "chain", 2)
    first = calls(before)[0]
    assert call.context.trace_id == first.context.trace_id == int(session_trace_id("mine"), 16)
    assert [link.context.span_id for link in call.links] == [first.context.span_id]


def test_a_turn_that_is_being_looked_up_carries_its_span_alone_and_costs_one_step_more(client, server, monkeypatch):
    monkeypatch.setattr(provider_lookup, "HEAD_START", 0.1)  # as it is for a machine that is not busy
    ids: list[str] = []
    Elsewhere().run(lambda _: ids.append(client.responses.create(model=MODEL, input="x").id))
    for _ in range(2):
        more = {"previous_response_id": ids[-1], **THINKING}
        after = Elsewhere(provider_lookup=True).run(
            lambda _: ids.append(client.responses.create(model=MODEL, input="x", **more).id)
        )
    carried = [request.body["metadata"] for request in server.requests[1:] if request.body]
    assert [set(metadata) for metadata in carried] == [{"traceparent"}] * 2
    assert found(calls(after)[0]) == (ids[0], "provider", 3)
    assert carried[-1]["traceparent"].split("-")[2] == f"{calls(after)[0].context.span_id:016x}"


PROGRAM = """
    import sys
    from openai import OpenAI
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from otel_llm_sessions import OpenAISessionsInstrumentor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    OpenAISessionsInstrumentor().instrument(tracer_provider=provider)
    previous = {"previous_response_id": sys.argv[1]} if sys.argv[1:] else {}
    mode = {"x-loopback-mode": "delay=0.5"}
    print(OpenAI(api_key="x").responses.create(model="m", input="x", extra_headers=mode, **previous).id)
"""


@pytest.mark.slow
def test_two_real_processes_without_a_store_share_a_session(server, exported):
    env = os.environ | {
        "OPENAI_BASE_URL": server.base_url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": exported.receiver.endpoint,
        "OTEL_LLM_SESSIONS_PROPAGATE": "metadata",
        "OTEL_LLM_SESSIONS_PROVIDER_LOOKUP": "true",
        **importing(),
    }

    def run(*arguments: str) -> str:
        done = run_code(PROGRAM, *arguments, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    first = run()
    run(first)
    (root,) = [span for span in exported.spans if span.name == "session"]
    (marker,) = [span for span in exported.spans if span.name == "turn"]
    one, two = [span for span in exported.spans if span.name.startswith("chat ")]
    assert root.attributes["session.id"] == first
    assert {(span.trace_id, span.parent_id) for span in (one, marker)} == {(root.trace_id, root.span_id)}
    assert [(span.attributes["session.id"], span.attributes["llm_session.turn"]) for span in (one, two, marker)] == [
        (first, 1),
        (first, 2),
        (first, 2),
    ]
    # The provider's answer moves no span: the second turn stands where it began.
    assert (two.parent_id, [(link.trace_id, link.span_id) for link in marker.links]) == (
        "",
        [(two.trace_id, two.span_id)],
    )
    assert (two.links[0].trace_id, two.links[0].span_id) == (one.trace_id, one.span_id)


# --- headers ------------------------------------------------------------------------------------------------


def test_headers_carry_the_span_and_the_session(api, server):
    with capture_spans(propagate="headers") as spans:
        api.chat(metadata={"session_id": "müßig, 42"}, store=True)
    headers = server.requests[-1].headers
    assert headers["traceparent"] == traceparent_of(calls(spans)[0])
    assert headers["baggage"] == "session.id=m%C3%BC%C3%9Fig%2C%2042"
    assert sent(server)["metadata"] == {"session_id": "müßig, 42"}


def test_headers_of_the_applications_own_stay(api, server):
    with capture_spans(propagate="headers"), session("mine"):
        api.chat(extra_headers={"Traceparent": "its own", "x-mine": "1"})
        assert server.requests[-1].headers["traceparent"] == "its own"
        assert server.requests[-1].headers["x-mine"] == "1"
        api.with_options(default_headers={"BAGGAGE": "a=b"}).chat()
        assert server.requests[-1].headers["baggage"] == "a=b"
        assert "traceparent" in server.requests[-1].headers


def test_a_call_without_a_session_carries_only_its_span(api, server):
    with capture_spans(propagate="headers"):
        api.chat()
    assert "traceparent" in server.requests[-1].headers
    assert "baggage" not in server.requests[-1].headers


# --- litellm ------------------------------------------------------------------------------------------------


def test_litellm_is_told_the_session_in_the_body(api, server):
    with capture_spans(propagate="litellm"):
        api.chat()
        assert "litellm_session_id" not in sent(server)
        api.chat(extra_headers={"x-session-id": "mine"})
        assert sent(server)["litellm_session_id"] == "mine"
        first = api.respond()
        assert "litellm_session_id" not in sent(server)
        api.respond(previous_response_id=first.id)
        assert sent(server)["litellm_session_id"] == first.id
        api.chat(extra_headers={"x-session-id": "mine"}, extra_body={"litellm_session_id": "its own"})
        assert sent(server)["litellm_session_id"] == "its own"


def test_all_ways_together(api, server):
    with capture_spans(propagate="metadata, headers, litellm"), session("mine"):
        api.respond()
    body, headers = sent(server), server.requests[-1].headers
    assert set(body) == {"input", "model", "metadata", "litellm_session_id"}
    assert set(body["metadata"]) == CARRIED
    assert {"traceparent", "baggage"} <= set(headers)


def test_a_body_that_is_no_object_is_left_alone(client, server):
    with capture_spans(propagate=["metadata", "litellm", "headers"]), session("mine"):
        client.post("/responses", content=json.dumps({"model": MODEL, "input": "x"}).encode(), cast_to=object)
    assert set(sent(server)) == {"model", "input"}
