"""A judgement stands in the session's trace, and its event belongs to the turn that was meant."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from broken_kit import BrokenSampler
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from providers_kit import loggers_to
from session_kit import a_process, named
from traces_kit import ref
from waiting import run_all, until

from otel_llm_sessions import aevaluate, evaluate, session, session_trace_id
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.telemetry import events

SAID = {"score": 1, "label": "up", "explanation": "It\nhelped."}
TOLD = {
    "gen_ai.evaluation.name": "thumbs",
    "gen_ai.evaluation.score.value": 1.0,
    "gen_ai.evaluation.score.label": "up",
    "gen_ai.evaluation.explanation": "It\nhelped.",
}
X = {"x-session-id": "X"}
Evaluate = Callable[..., bool]


@pytest.fixture(params=["sync", "async"])
def say(request) -> Evaluate:
    """``evaluate``, then the same test with ``aevaluate``."""
    return evaluate if request.param == "sync" else lambda *told, **said: asyncio.run(aevaluate(*told, **said))


@pytest.fixture
def logged(monkeypatch) -> Iterator[InMemoryLogRecordExporter]:
    """The events that arrive at the global logger provider."""
    exporter = InMemoryLogRecordExporter()
    provider = loggers_to(exporter)
    monkeypatch.setattr(events, "get_logger_provider", lambda: provider)
    yield exporter
    provider.shutdown()


def event_in(logged: InMemoryLogRecordExporter) -> Any:
    (event,) = logged.get_finished_logs()
    return event.log_record


def test_it_stands_below_the_sessions_root_with_a_link_to_the_turn_and_as_an_event_of_the_turn(client, say, logged):
    with a_process() as (spans, tracer):
        reply = client.responses.create(model="m", input="Hello", extra_headers=X)
        with tracer.start_as_current_span("POST /feedback"):
            assert say("thumbs", response_id=reply.id, **SAID)
    span, turn, root, event = (named(spans, name) for name in ("evaluation thumbs", "chat", "session", "evaluation"))
    told = {**TOLD, "gen_ai.response.id": reply.id, "session.id": "X"}
    assert (dict(span.attributes), span.kind.name) == (told, "INTERNAL")
    assert ref(span.parent) == ref(root.context)
    assert [ref(link.context) for link in span.links] == [ref(turn.context)]
    event = event_in(logged)
    assert (event.event_name, dict(event.attributes)) == ("gen_ai.evaluation.result", told)
    assert (event.trace_id, event.span_id, event.timestamp) == (*ref(turn.context), span.start_time)


def test_of_a_nested_turn_the_link_leads_to_the_call_and_the_span_stands_beside_the_marker(client, say, logged):
    with a_process() as (spans, tracer):
        with tracer.start_as_current_span("POST /chat"):
            reply = client.responses.create(model="m", input="Hello", extra_headers=X)
        assert say("thumbs", response_id=reply.id)
    span, turn = named(spans, "evaluation"), named(spans, "chat")
    assert ref(span.parent) == ref(named(spans, "session").context) == ref(named(spans, "turn").parent)
    assert [ref(link.context) for link in span.links] == [ref(turn.context)]


def test_it_is_of_the_current_session_where_no_id_is_named(client, say, logged):
    with a_process() as (spans, _), session("X", user="u-1", tags=["beta"]):
        client.chat.completions.create(model="m", messages=[])
        assert say("thumbs", score=0.5)
    span = named(spans, "evaluation")
    said = {"session.id": "X", "user.id": "u-1", "llm_session.tags": ("beta",)}
    assert span.attributes == {"gen_ai.evaluation.name": "thumbs", "gen_ai.evaluation.score.value": 0.5, **said}
    assert (ref(span.parent), span.links) == (ref(named(spans, "session").context), ())
    event = event_in(logged)
    assert ((event.trace_id, event.span_id), event.attributes.get("user.id")) == (ref(span.context), None)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("history", [False, True], ids=["named", "by its history"])
def test_a_chat_completion_of_a_session_is_known_by_its_id(client, say, logged, stream, history):
    def chat(*messages: dict[str, str]) -> tuple[str, str]:
        if not stream:
            reply = client.chat.completions.create(model="m", messages=messages)
            return reply.id, reply.choices[0].message.content
        chunks = [*client.chat.completions.create(model="m", messages=messages, stream=True)]
        texts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
        return chunks[0].id, "".join(texts)

    hello = {"role": "user", "content": "Hello"}
    with a_process(history=history) as (spans, _), nullcontext() if history else session("X"):
        one, said = chat(hello)
        two, _ = chat(hello, {"role": "assistant", "content": said}, hello)
        assert all([say("first", response_id=one), say("second", response_id=two)])
    turns = {span.attributes["gen_ai.response.id"]: span for span in spans if span.name.startswith("chat")}
    for name, id_ in (("first", one), ("second", two)):
        judged = named(spans, f"evaluation {name}")
        assert ref(judged.links[0].context) == ref(turns[id_].context)
        assert judged.attributes["session.id"] == turns[id_].attributes["session.id"]


def test_a_chat_completion_without_a_session_is_not_known(client, say, logged):
    with a_process():
        assert not say("thumbs", response_id=client.chat.completions.create(model="m", messages=[]).id)


def test_a_chat_completion_is_not_known_by_an_id_that_others_have_too(client, server, say, logged):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
    reply = {"id": "chatcmpl-150", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    with a_process(), session("X"):
        server.script(reply)
        client.chat.completions.create(model="m", messages=[])
        assert not say("thumbs", response_id="chatcmpl-150")
        assert say("thumbs", response_id="chatcmpl-150", session_id="X")


def test_an_unknown_response_and_one_of_another_session_emit_nothing(client, say, logged):
    with a_process() as (spans, _):
        reply = client.responses.create(model="m", input="Hello", extra_headers=X)
        before = len(spans)
        assert not say("thumbs", response_id="resp_" + "0af7651916cd43dd8448eb211c80319c")
        assert not say("thumbs", response_id=reply.id, session_id="Y")
        assert (len(spans), logged.get_finished_logs()) == (before, ())


def test_a_chain_that_began_without_an_id_is_known_by_its_name(client, say, logged):
    with a_process() as (spans, _):
        first = client.responses.create(model="m", input="Hello")
        assert say("thumbs", session_id=first.id)
    root, span = named(spans, "session"), named(spans, "evaluation")
    assert (ref(span.parent), span.links) == (ref(root.context), ())


def test_an_unknown_session_is_opened_as_by_a_turn_and_once(client, say, logged):
    with a_process() as (spans, _):
        assert say("thumbs", session_id="X", score=1)
        assert say("thumbs", session_id="X", score=2)
        client.chat.completions.create(model="m", messages=[], extra_headers=X)
    root, turn = named(spans, "session"), named(spans, "chat")
    assert f"{root.context.trace_id:032x}" == session_trace_id("X")
    judged = [span for span in spans if span.name == "evaluation thumbs"]
    assert [ref(span.parent) for span in [*judged, turn]] == [ref(root.context)] * 3
    assert turn.attributes["llm_session.turn"] == 1


def test_a_weak_start_is_proven_by_a_judgement_as_by_a_second_turn(client, say, logged):
    with a_process() as (spans, tracer):
        with tracer.start_as_current_span("POST /chat"):
            reply = client.responses.create(model="m", input="Hello")
        assert [span.name.split(" ")[0] for span in spans] == ["chat", "POST"]
        assert say("thumbs", response_id=reply.id)
        client.responses.create(model="m", input="Hello", previous_response_id=reply.id)
    root, marker = named(spans, "session"), named(spans, "turn")
    assert ref(named(spans, "evaluation").parent) == ref(marker.parent) == ref(root.context)
    second = [span for span in spans if span.name.startswith("chat")][-1]
    assert (ref(second.parent), second.attributes["llm_session.turn"]) == (ref(root.context), 2)


def test_it_stands_in_the_part_of_its_turn_and_opens_none_however_old_that_is(client, say, logged):
    with a_process(max_turns=1) as (spans, _):
        first = client.responses.create(model="m", input="Hello", extra_headers=X)
        second = client.responses.create(model="m", input="Hello", extra_headers=X)
        for response in (first, second):
            assert say(response.id, response_id=response.id)
    roots = [span for span in spans if span.name.startswith("session")]
    assert len(roots) == 2
    for response, root in zip((first, second), roots, strict=True):
        assert ref(named(spans, f"evaluation {response.id}").parent) == ref(root.context)


def test_with_traces_turn_it_is_a_child_of_the_turn_or_a_root_of_its_own(client, say, logged):
    with a_process(traces="turn") as (spans, tracer), tracer.start_as_current_span("request"):
        reply = client.responses.create(model="m", input="Hello", extra_headers=X)
        assert say("meant", response_id=reply.id)
        assert say("alone", session_id="X")
    meant, alone = named(spans, "evaluation meant"), named(spans, "evaluation alone")
    assert (ref(meant.parent), alone.parent) == (ref(named(spans, "chat").context), None)
    assert not [span for span in spans if span.name.startswith("session")]


def test_the_event_goes_to_the_logger_provider_that_instrument_was_given(say, logged):
    exporter = InMemoryLogRecordExporter()
    provider = loggers_to(exporter)
    with a_process(logger_provider=provider):
        assert say("thumbs", session_id="X")
    event = event_in(exporter)
    assert (event.event_name, event.attributes["session.id"]) == ("gen_ai.evaluation.result", "X")
    assert not logged.get_finished_logs()
    provider.shutdown()


def test_with_spans_annotate_there_is_the_event_alone(client, say, logged):
    with a_process(spans="annotate") as (spans, _):
        assert say("thumbs", session_id="X")
    assert (list(spans), event_in(logged).attributes["session.id"]) == ([], "X")


def test_of_an_unsampled_session_there_is_the_event_alone(client, say, logged):
    with a_process(sampler=ALWAYS_OFF) as (spans, _):
        reply = client.responses.create(model="m", input="Hello", extra_headers=X)
        assert say("thumbs", response_id=reply.id)
    assert (list(spans), event_in(logged).attributes["session.id"]) == ([], "X")


@pytest.mark.usefixtures("patient")
def test_another_process_says_it_of_a_turn_that_only_the_store_knows(client, say, logged, tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    with a_process(store=url) as (spans, _):
        reply = client.responses.create(model="m", input="Hello")
    root, turn = named(spans, "session"), named(spans, "chat")
    with a_process(store=url) as (spans, _):
        assert say("thumbs", response_id=reply.id)
    (span,) = spans
    assert (ref(span.parent), ref(span.links[0].context)) == (ref(root.context), ref(turn.context))


@pytest.mark.slow
@pytest.mark.usefixtures("patient")
def test_another_process_says_it_over_redis(client, say, logged, redis):
    with a_process(store=redis.url) as (spans, _):
        reply = client.responses.create(model="m", input="Hello")
    root = named(spans, "session")
    with a_process(store=redis.url) as (spans, _):
        assert say("thumbs", response_id=reply.id)
        assert say("thumbs", session_id=reply.id)
    assert {ref(span.parent) for span in spans} == {ref(root.context)}


def test_nothing_happens_where_nothing_is_instrumented(client, say, logged):
    assert not say("thumbs", session_id="X")
    with a_process() as (spans, _):
        with suppress_instrumentation():
            assert not say("thumbs", session_id="X")
        assert say("thumbs", session_id="X")
    before = len(spans)
    assert not say("thumbs", session_id="X")
    assert (len(spans), len(logged.get_finished_logs())) == (before, 1)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("name", value) for value in ("", " ", "x" * 257, "a\nb", None, 7)),
        *(("session_id", value) for value in ("", "x" * 257, "a\n", True, ["X"])),
        *(("response_id", value) for value in ("", "x" * 1025, "a\n", 7)),
        *(("score", value) for value in (math.nan, math.inf, "1", True, 10**400, [1])),
        *(("label", value) for value in ("", "x" * 257, 7)),
        ("explanation", 7),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_what_is_not_valid_is_refused_at_once(say, parameter, value):
    said = {"name": "thumbs", "session_id": "X", parameter: value}
    with pytest.raises(ValueError, match=f"{parameter}=.* is not valid: expected a") as refused:
        say(said.pop("name"), **said)
    assert len(str(refused.value)) < 300


def test_without_an_id_and_a_session_it_is_refused(say):
    with pytest.raises(ValueError, match="session_id or response_id"):
        say("thumbs", score=1)


def test_what_is_said_is_bounded_and_can_be_sent():
    with a_process() as (spans, _):
        what_is_said_is_bounded_and_can_be_sent(spans)


@given(
    explanation=st.text(), score=st.one_of(st.integers(-(2**1100), 2**1100), st.floats(), st.decimals(allow_nan=False))
)
def what_is_said_is_bounded_and_can_be_sent(spans, explanation, score):
    spans.clear()
    try:
        assert evaluate("thumbs", session_id="X", score=score, explanation=explanation * 4000)
    except ValueError:
        assert not abs(score) < 2**1024
        return
    attributes = named(spans, "evaluation").attributes
    told = attributes.get("gen_ai.evaluation.explanation", "")
    assert len(told.encode()) <= 4 * 16_384 and isinstance(attributes["gen_ai.evaluation.score.value"], float)


class Broken(MemoryStore):
    def get_all(self, keys: Any) -> Any:
        raise RuntimeError("a store of the application's")


@pytest.mark.usefixtures("nothing_reported")
@pytest.mark.parametrize("what", ["sampler", "store", "logs", "repr"])
def test_it_never_hurts(say, logged, monkeypatch, what):
    class Odd:
        def __float__(self) -> float:
            raise RuntimeError

        __repr__ = __float__  # type: ignore[assignment]

    settings = {"sampler": {"sampler": BrokenSampler()}, "store": {"store": Broken()}}.get(what, {})
    if what == "logs":
        monkeypatch.setattr(events, "get_logger_provider", lambda: None)
    with a_process(**settings) as (_, _):
        if what == "repr":
            with pytest.raises(ValueError, match="score=.*Odd is not valid"):
                say("thumbs", session_id="X", score=Odd())
        else:
            assert isinstance(say("thumbs", session_id="X"), bool)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["session_id", "response_id"])
def test_a_late_answer_holds_nobody_up_and_is_used_when_it_comes(client, say, logged, redis, proxy, by):
    with a_process(store=redis.url) as (spans, _):
        reply = client.responses.create(model="m", input="Hello")
    root, turn = named(spans, "session"), named(spans, "chat")
    with a_process(store=proxy.url) as (spans, _):
        client.chat.completions.create(model="m", messages=[], extra_headers={"x-session-id": "other"})
        proxy.delay = 0.2
        began = time.perf_counter()
        assert say("thumbs", **{by: reply.id})
        assert time.perf_counter() - began < 0.15
        until(lambda: [span for span in spans if span.name.startswith("evaluation")])
        span = named(spans, "evaluation")
        if by == "response_id":
            assert (ref(span.parent), ref(span.links[0].context)) == (ref(root.context), ref(turn.context))
            assert event_in(logged).span_id == turn.context.span_id
        else:
            assert f"{span.context.trace_id:032x}" == session_trace_id(reply.id)


@pytest.mark.slow
def test_what_is_said_at_the_same_time_opens_one_root(say, logged):
    with a_process() as (spans, _):
        threads = [threading.Thread(target=say, args=["thumbs"], kwargs={"session_id": "X"}) for _ in range(16)]
        run_all(threads)
    assert len([span for span in spans if span.name.startswith("session")]) == 1
    assert len(logged.get_finished_logs()) == 16
