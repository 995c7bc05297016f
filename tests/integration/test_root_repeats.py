"""``ROOT_REPEAT``: a session's root is told again, once, with the first turn that comes long after it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from otlp_receiver import OtlpReceiver
from store_kit import free_port
from traces_kit import ref
from waiting import until

from otel_llm_sessions import session
from otel_llm_sessions.testing import CapturedSpans, capture_spans
from otel_llm_sessions.view.sessions import sessions_of

REST = 0.001
"""Seconds after which roots are told again here."""

Turn = Callable[[Any, Any], Any]


def named(api: Any, before: Any) -> Any:
    return api.chat(metadata={"session_id": "X"})


def chained(api: Any, before: Any) -> Any:
    return api.respond(previous_response_id=before.id if before is not None else None)


def in_a_request(api: Any, before: Any) -> Any:
    with TracerProvider(shutdown_on_exit=False).get_tracer("web").start_as_current_span("request"):
        return chained(api, before)


def described(api: Any, before: Any) -> Any:
    with session("X", name="refund", user="ann", tags=("beta",)):
        return api.chat()


def by_client(client: Any, before: Any) -> Any:
    return client.responses.create(model="m", input="x", previous_response_id=before.id if before is not None else None)


WAYS = [named, chained, in_a_request, described]


def rested(seconds: float = REST) -> None:
    """Wait as long as roots that have been told rest."""
    begun = time.time_ns()
    until(lambda: time.time_ns() - begun > seconds * 1_000_000_000)


def talk(api: Any, turn: Turn, turns: int, before: Any = None) -> Any:
    for _ in range(turns):
        before = turn(api, before)
    return before


def roots_of(spans: CapturedSpans) -> list[ReadableSpan]:
    return [span for span in spans if (span.attributes or {}).get("llm_session.root")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spans", [{"root_repeat": "1ms"}], indirect=True)
def test_it_is_told_again_byte_for_byte_and_once(api, spans, way):
    before = talk(api, way, 2)
    rested()
    talk(api, way, 4, before)
    first, again = roots_of(spans)
    assert encode_spans([first]).SerializeToString() == encode_spans([again]).SerializeToString()
    assert len({ref(span.context) for span in spans}) == len(spans) - 1


@pytest.mark.parametrize("way", WAYS)
def test_turns_that_go_on_by_the_shortest_way_until_then_do_not_go_past_it(api, way):
    with capture_spans(root_repeat="300ms") as spans:
        before = talk(api, way, 6)
        rested(0.3)
        talk(api, way, 1, before)
    assert len(roots_of(spans)) == 2


@pytest.mark.parametrize("settings", [{}, {"root_repeat": "none"}, {"root_repeat": "1h"}], ids=str)
def test_it_is_not_told_again_by_default_nor_before_its_time(api, settings):
    with capture_spans(**settings) as spans:
        before = talk(api, chained, 2)
        rested()
        talk(api, chained, 2, before)
    assert len(roots_of(spans)) == 1


def test_a_root_that_was_made_up_for_afterwards_rests_from_then_on(api):
    """That of a chain whose first turn stood in a request begins when that turn began, and is told with the second."""
    with capture_spans(root_repeat="200ms") as spans:
        before = in_a_request(api, None)
        rested(0.2)
        before = in_a_request(api, before)
        begun = time.monotonic()
        before = in_a_request(api, before)
        assert len(roots_of(spans)) == 1 or time.monotonic() - begun > 0.2
        rested(0.2)
        in_a_request(api, before)
    assert len(roots_of(spans)) == 2


def test_nothing_of_it_is_seen_where_there_are_no_roots_or_nobody_sees_them(api):
    unseen = Counting()
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(unseen)
    for settings in ({"traces": "turn"}, {"tracer_provider": provider}):
        with capture_spans(root_repeat="1ms", **settings) as spans:
            before = talk(api, chained, 2)
            rested()
            talk(api, chained, 2, before)
        assert roots_of(spans) == []
    assert unseen.ended == 0


class Counting(SpanProcessor):
    """Counts what ends; raises at a root that comes again, where it is told to."""

    def __init__(self, raises: bool = False) -> None:
        self.ended, self.raised = 0, 0
        self._raises, self._seen = raises, set[tuple[int, int]]()

    def on_end(self, span: ReadableSpan) -> None:
        self.ended += 1
        if self._raises and ref(span.context) in self._seen:
            self.raised += 1
            raise RuntimeError("a processor of the application's")
        self._seen.add(ref(span.context))


def test_a_processor_that_raises_costs_the_call_nothing(api, nothing_reported, caplog):
    counting = Counting(raises=True)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(counting)
    with capture_spans(root_repeat="1ms", tracer_provider=provider) as spans:
        before = talk(api, chained, 2)
        rested()
        talk(api, chained, 2, before)
    assert counting.raised == 1
    assert len([span for span in spans if span.name.startswith("chat")]) == 4
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("spans", [{"root_repeat": "1ms"}], indirect=True)
def test_a_forked_child_leaves_it_to_its_parent(client, spans):
    before = talk(client, by_client, 1)
    rested()
    if (child := os.fork()) == 0:
        told = 0
        try:
            talk(client, by_client, 2, before)
            told = len(roots_of(spans))
        finally:
            os._exit(told)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    talk(client, by_client, 2, before)
    assert len(roots_of(spans)) == 2


def test_who_goes_on_with_anothers_session_does_not_tell_its_root(api, tmp_path, patient):
    settings = {"root_repeat": "1ms", "store": f"sqlite:///{tmp_path}/sessions.db"}
    with capture_spans(**settings) as spans:
        before = talk(api, chained, 1)
    assert len(roots_of(spans)) == 1
    rested()
    with capture_spans(**settings) as spans:
        talk(api, chained, 2, before)
    assert len(spans) == 2
    assert roots_of(spans) == []


def test_a_session_whose_root_was_lost_has_it_when_it_goes_on(client):
    port = free_port()
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces", timeout=0.2)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    with capture_spans(root_repeat="1ms", tracer_provider=provider):
        before = talk(client, by_client, 1)
        provider.force_flush()  # nobody is there: it is lost
        with OtlpReceiver(port) as receiver:
            talk(client, by_client, 2, before)
            provider.force_flush()
            (found,) = sessions_of(receiver.spans)
            assert len(receiver.spans) == 3
            assert [turn.number for turn in found.turns] == [2, 3]
            assert found.parts[0].root is not None
            provider.shutdown()


def test_a_turn_after_the_provider_was_shut_down_is_a_turn_like_any_other(client):
    provider = TracerProvider(shutdown_on_exit=False)
    with OtlpReceiver() as receiver:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{receiver.endpoint}/v1/traces")))
        with capture_spans(root_repeat="1ms", tracer_provider=provider):
            before = talk(client, by_client, 1)
            provider.shutdown()
            rested()
            assert talk(client, by_client, 1, before).id
        assert len(receiver.spans) == 2


def test_a_session_that_came_with_two_roots_is_one_to_the_view(client, exported):
    with capture_spans(root_repeat="1ms", tracer_provider=exported.provider):
        before = talk(client, by_client, 2)
        rested()
        talk(client, by_client, 1, before)
    assert len(exported.named("session")) == 2
    (found,) = sessions_of(exported.spans)
    assert len(found.turns) == 3
    assert [part.number for part in found.parts] == [1]
