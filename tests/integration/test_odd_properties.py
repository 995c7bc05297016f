"""Odd values in every field of requests and replies: the application sees what it would see, and all is exported.

``ODD_EXAMPLES=5000`` looks for more.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_kit import EVENTS, JSON, Telemetry, Wire, chat, chunk, completed, response, sse, telemetry
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.trace import TracerProvider
from providers_kit import loggers_to
from waiting import until

from otel_llm_sessions.telemetry.content.capture import VARIABLE

EXAMPLES = int(os.environ.get("ODD_EXAMPLES", "4"))
THOROUGH = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

surrogates = st.text(st.characters(categories=["Cs", "Lu", "Cc"]), max_size=4)
texts = st.sampled_from(["", " ", "\ud800", "a\udfffb", "\0", "\ud83d\ude00", "x" * 3000, "stop", "completed", "a b"])
numbers = st.sampled_from(
    [0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, 1.5, -0.0, 1e308, float("nan"), float("inf")]
)
scalars = st.none() | st.booleans() | texts | numbers | surrogates | st.integers() | st.floats()
odd = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts | st.just("id"), inner, max_size=2),
    max_leaves=5,
)

COUNTS = "prompt_tokens completion_tokens input_tokens output_tokens total_tokens cost_in_usd_ticks".split()
DETAILS = "cached_tokens cache_write_tokens reasoning_tokens text_tokens audio_tokens image_tokens".split()


def some_of(*names: str, **others: Any) -> Any:
    """A mapping of odd values under any of these names."""
    return st.fixed_dictionaries({}, optional={**dict.fromkeys(names, odd), **others})


details = some_of(*DETAILS, cached_tokens_details=some_of(*DETAILS))
of_tokens = dict.fromkeys(
    ["prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details"], details
)
usage = odd | some_of(*COUNTS, cost=odd | some_of("total_cost"), **of_tokens)
errors = odd | some_of("code", "type", "message")
choices = odd | st.lists(odd | some_of("index", "finish_reason", "message", "delta"), max_size=3)
items = odd | st.lists(odd | some_of("id", "type", "call_id", "name", "arguments"), max_size=3)
replies = some_of(
    "id", "model", "object", "service_tier", "system_fingerprint", "status", "background", "metadata", "created_at",
    usage=usage, error=errors, choices=choices, output=items, incomplete_details=odd | some_of("reason"),
    conversation=odd | some_of("id"), previous_response_id=odd,
)  # fmt: skip
requests = some_of(
    "model", "max_tokens", "max_completion_tokens", "max_output_tokens", "temperature", "top_p", "top_k", "n", "seed",
    "frequency_penalty", "presence_penalty", "service_tier", "reasoning_effort", "stop", "response_format", "audio",
    "previous_response_id", "store", "metadata", "modalities", "user", "session_id", "litellm_session_id", "messages",
    prompt=odd | some_of("id", "version"), reasoning=odd | some_of("effort"), text=odd | some_of("format"),
    conversation=odd | some_of("id"), input=items,
)  # fmt: skip

APIS = st.sampled_from(["chat", "responses"])
HOW = st.sampled_from(["parsed", "raw", "bytes", "streaming"])
KINDS = st.sampled_from(["sync", "async"])


class Bench:
    """Makes each call twice, without and with a span, and says what was odd about it."""

    def __init__(
        self, wire: Wire, seen: Telemetry, tracer: Any, around: dict[str, Any] | None, events: Any = None
    ) -> None:
        self._events = events
        self._wire = wire
        self._seen = seen
        self._tracer = tracer
        self._around = around

    def check(self, content: bytes, content_type: str, *call: Any, **asked: Any) -> None:
        """Make a call; the same comes of both, one span comes of it, and an exporter can send it."""
        self._wire.answer(content, content_type)
        self._seen.spans.clear()
        self._seen.logged.clear()
        if self._events is not None:
            self._events.clear()
        with suppress_instrumentation():
            bare = self._wire.outcome(*call, **asked)
        assert self._outcome(*call, **asked) == bare
        is_ours = self._around != THEIRS
        assert len([span for span in self._seen.spans if span.kind.name == "CLIENT"]) == is_ours
        self._seen.check()
        if self._events is not None:
            (log,) = self._events.get_finished_logs()
            encode_logs([log]).SerializeToString()

    def _outcome(self, *call: Any, **asked: Any) -> Any:
        if self._around is None:
            return self._wire.outcome(*call, **asked)
        with self._tracer.start_as_current_span("around", attributes=self._around):
            return self._wire.outcome(*call, **asked)


THEIRS = {"gen_ai.operation.name": "chat"}
"""The attributes of another instrumentation's span, which is annotated."""

PLACES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "alone": ({}, None),
    "nested": ({"store": "sqlite"}, {}),
    "annotated": ({}, THEIRS),
    "turn": ({"traces": "turn"}, None),
    "told": ({"content_hook": lambda content: content}, None),
}
"""Settings, and the attributes of the span around each call."""


@pytest.fixture(params=PLACES)
def bench(request, wire: Wire, tmp_path, monkeypatch) -> Iterator[Bench]:
    """Calls that stand alone, below another span (with a store that writes records down), on another's span, or that
    have what they say recorded."""
    given, around = PLACES[request.param]
    events = None
    if request.param == "told":
        monkeypatch.setenv(VARIABLE, "SPAN_AND_EVENT")
        events = InMemoryLogRecordExporter()
        given = {**given, "logger_provider": loggers_to(events)}
    if "store" in given:
        given = {"store": f"sqlite:///{tmp_path}/sessions.db"}
    provider = TracerProvider(shutdown_on_exit=False)
    with telemetry(tracer_provider=provider, **given) as seen:
        yield Bench(wire, seen, provider.get_tracer("the application's"), around, events)


def written(value: Any) -> bytes:
    return json.dumps(value).encode()


ODDITIES: list[Any] = [
    "\ud800", "", "\0", "x" * 3000, -1, 2**53 + 1, 2**63, -(2**63) - 1, 10**400, True, 1.5, float("nan"), None,
    [], {}, [None], ["\ud800"], [2**63], {"id": "\ud800", "type": 2**63, "code": -1},
]  # fmt: skip


PLAIN = (
    "id model service_tier system_fingerprint temperature max_tokens n seed top_k stop modalities metadata "
    "response_format reasoning_effort conversation output"
).split()


def whole(api: str, fields: dict[str, Any]) -> dict[str, Any]:
    return chat(**fields) if api == "chat" else response(**fields)


def event(api: str, fields: dict[str, Any]) -> dict[str, Any]:
    return chunk(**fields) if api == "chat" else completed(**fields)


def filled(value: Any) -> dict[str, Any]:
    """A reply and a request at once, in which every field is the same odd value."""
    counts = dict.fromkeys((*COUNTS, *DETAILS), value)
    counts["cost"] = {"total_cost": value}
    used = {**counts, **{name: {**counts, "cached_tokens_details": counts} for name in of_tokens}}
    choice = {"index": 0, "finish_reason": value, "message": {}, "delta": {}}
    everything = dict.fromkeys(
        "model service_tier system_fingerprint temperature max_tokens n seed top_k".split(), value
    )
    more = dict.fromkeys("stop modalities metadata response_format reasoning_effort conversation".split(), value)
    inner = {"incomplete_details": {"reason": value}, "reasoning": {"effort": value}, "prompt": {"id": value}}
    return {**everything, **more, **inner, "id": value, "usage": used, "choices": [choice], "output": value}


@pytest.mark.slow
@pytest.mark.parametrize("bench", ["alone", "nested"], indirect=True)
@pytest.mark.parametrize("value", ODDITIES, ids=lambda value: ascii(value)[:20])
def test_every_field_the_same_oddity(bench, value):
    for api, statuses in (("chat", ("",)), ("responses", ("completed", "incomplete", "failed"))):
        for status, (how, stream) in itertools.product(statuses, (("parsed", False), ("bytes", True))):
            fields = {**filled(value), "status": status, **({"error": {"code": value}} if status == "failed" else {})}
            content = sse(event(api, fields)) if stream else written(whole(api, fields))
            bench.check(content, EVENTS if stream else JSON, api, how, stream)
        bench.check(written(whole(api, {})), JSON, api, "parsed", False, extra_body=filled(value))


@THOROUGH
@given(api=APIS, how=HOW, kind=KINDS, fields=replies)
def test_whole_replies(bench, api, how, kind, fields):
    bench.check(written(whole(api, fields)), JSON, api, how, False, kind)


@THOROUGH
@given(
    api=APIS, how=HOW, kind=KINDS, several=st.lists(replies, min_size=1, max_size=3), types=st.lists(odd, max_size=1)
)
def test_streams(bench, api, how, kind, several, types):
    if api == "chat":
        events: list[Any] = [chunk(**fields) for fields in several]
    else:
        names = ["response.created", "response.in_progress", "response.completed"]
        events = [{**completed(**fields), "type": name} for fields, name in zip(several, names)]
        events += [{"type": "error", **fields} for fields in several if "error" in fields]
        events += [{**completed(), "type": name} for name in types]
    bench.check(sse(*events), EVENTS, api, how, True, kind)


@THOROUGH
@given(api=APIS, how=HOW, kind=KINDS, fields=requests, stream=st.booleans())
def test_requests(bench, api, how, kind, fields, stream):
    content = sse(event(api, {})) if stream else written(whole(api, {}))
    bench.check(content, EVENTS if stream else JSON, api, how, stream, kind, extra_body=fields)


@THOROUGH
@given(value=odd, name=st.sampled_from("model messages metadata temperature max_tokens stop seed n".split()))
def test_values_of_requests_that_never_become_json(bench, value, name):
    bench.check(written(chat()), JSON, "chat", "parsed", False, "sync", **{name: value})


@pytest.mark.parametrize("value", ODDITIES, ids=lambda value: ascii(value)[:20])
def test_a_response_that_is_fetched_or_looked_up_with_every_field_the_same_oddity(wire, value):
    fields = {**filled(value), "previous_response_id": value, "created_at": value, "completed_at": value}
    wire.answer(written(whole("responses", {**fields, "metadata": {"session.id": value, "traceparent": value}})))
    with telemetry(provider_lookup=True, propagate="metadata,headers,litellm") as seen:
        for call in (wire.client.responses.retrieve, wire.client.responses.cancel):
            with suppress(OverflowError):  # the client's own, of a time that no double holds
                call("resp_x")
        for kind in ("sync", "async"):
            wire.outcome("responses", kind=kind, previous_response_id="resp_" + "aB3dE6gH" * 5)

        def all_ended() -> bool:
            wire.loop.run_until_complete(asyncio.sleep(0.001))  # what is looked up beside a call of a loop's needs it
            return len([span for span in seen.spans if span.kind.name == "CLIENT"]) == 4

        until(all_ended)
    seen.check()
