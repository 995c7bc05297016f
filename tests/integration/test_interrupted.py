"""What comes amid the package's own work, at any line of it: Ctrl-C, a task queue's time limit, a handler's call."""

from __future__ import annotations

import base64
import faulthandler
import gc
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest
from amid import Lines
from answered import client_of
from loopback_client import MESSAGES
from odd_kit import CHUNK
from opentelemetry.context import get_current
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from waiting import until

from otel_llm_sessions import evaluate
from otel_llm_sessions.testing import capture_spans

TURN = {"extra_headers": {"x-session-id": "chat-42"}}

EVENTS = b"".join(
    b"data: %s\n\n" % data for data in (json.dumps(CHUNK).encode(), json.dumps(CHUNK).encode(), b"[DONE]")
)


class TooLate(Exception):
    """A task queue's time limit, an exception like any other."""


class LikeOurs(ValueError, KeyError, IndexError, TypeError, RuntimeError, AttributeError):
    """A time limit that is also of each kind which code of ours expects, and catches."""

    __str__ = Exception.__str__


class Body(httpx2.SyncByteStream):
    """A body that is not there yet when the call returns, so that its reading is seen to."""

    def __iter__(self) -> Iterator[bytes]:
        yield from (EVENTS[:100], EVENTS[100:])


def reply(request: Any) -> Any:
    body = json.loads(request.content)
    if body.get("stream"):
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Body())
    if "messages" in body:
        return httpx2.Response(200, json={**CHUNK, "object": "chat.completion"})
    return httpx2.Response(200, json={"id": f"resp_{body['input']}", "object": "response", "output": []})


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with client_of(reply) as client:
        yield client


class Ledger(SpanProcessor):
    """What was started, and what has ended."""

    def __init__(self) -> None:
        self.started: list[Any] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.started.append(span)

    @property
    def open(self) -> list[str]:
        return [span.name for span in self.started if span.end_time is None]


def turn(client: Any, n: int) -> None:
    client.chat.completions.create(model="m", messages=MESSAGES, **TURN)


def first_turn(client: Any, n: int) -> None:
    client.responses.create(model="m", input=f"{n}")


def unknown_chain(client: Any, n: int) -> None:
    wrapped = base64.b64encode(f"litellm:model_id:gpt;response_id:resp_{n:030d}".encode()).decode()
    client.responses.create(model="m", input=f"{n}", previous_response_id=f"resp_{wrapped}")


def stream(client: Any, n: int) -> None:
    for _ in client.chat.completions.create(model="m", messages=MESSAGES, stream=True, **TURN):
        pass


def raw_stream(client: Any, n: int) -> None:
    with client.chat.completions.with_streaming_response.create(model="m", messages=MESSAGES, stream=True) as answer:
        list(answer.iter_lines())


def judged(client: Any, n: int) -> None:
    evaluate("thumbs", session_id=str(uuid.uuid4()), score=n, label="up")


slow = pytest.mark.slow


def lines_of(call: Callable[[Any, int], None], client: Any) -> int:
    lines = Lines(lambda frame: None)
    with lines.run():
        call(client, 0)
    return lines.count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (turn, TooLate),
        (stream, KeyboardInterrupt),
        (judged, LikeOurs),
        (judged, KeyboardInterrupt),
        *((call, LikeOurs) for call in (first_turn, unknown_chain, stream, raw_stream)),
        pytest.param(stream, TooLate, marks=slow),
        pytest.param(first_turn, KeyboardInterrupt, marks=slow),
        pytest.param(raw_stream, KeyboardInterrupt, marks=slow),
        pytest.param(raw_stream, TooLate, marks=slow),
    ],
)
def test_an_exception_amid_our_work_leaves_no_span_open_and_is_the_applications(client, call, kind, caplog):
    def interrupt(frame: Any) -> None:
        raise kind

    provider, ledger = TracerProvider(shutdown_on_exit=False), Ledger()
    provider.add_span_processor(ledger)
    with capture_spans(tracer_provider=provider):
        call(client, 0)
        count = lines_of(call, client)
        assert count > 50
        for at in range(count):
            lines = Lines(interrupt, at)
            raised = None
            try:
                with lines.run():
                    call(client, at + 1)
            except kind as error:
                raised = error
            if lines.seen:
                assert isinstance(raised, kind), lines.seen
            del raised
            assert not get_current(), lines.seen
            assert "evaluation thumbs" not in ledger.open, lines.seen
            if "chat m" in ledger.open:
                gc.collect()  # of a reply that was interrupted before it was read
                until(lambda: "chat m" not in ledger.open)
    assert ledger.open == []
    assert not [record for record in caplog.records if record.name.startswith("otel_llm_sessions")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "call", [first_turn, stream, pytest.param(raw_stream, marks=slow), pytest.param(turn, marks=slow)]
)
def test_a_call_that_a_signal_handler_makes_waits_for_no_lock_of_ours(client, call):
    def handler(frame: Any) -> None:
        call(client, next(numbers))

    numbers = iter(range(10, 10_000))
    provider, ledger = TracerProvider(shutdown_on_exit=False), Ledger()
    provider.add_span_processor(ledger)
    metrics = MeterProvider([InMemoryMetricReader()])
    faulthandler.dump_traceback_later(60, exit=True)
    try:
        with capture_spans(tracer_provider=provider, meter_provider=metrics) as spans:
            # From the very first line: instruments and tracers are made on the way.
            lines = Lines(handler)
            with lines.run():
                call(client, 1)
    finally:
        faulthandler.cancel_dump_traceback_later()
        metrics.shutdown()
    assert lines.count > 50
    assert not ledger.open
    named = [span for span in spans if span.name == "chat m"]
    assert len(named) == len(lines.seen) + 1
