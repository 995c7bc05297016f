"""Processors and samplers of the application's that call the client, or raise, while a root or a marker is made."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from broken_kit import BrokenSampler
from openai import OpenAI
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from session_kit import ask
from traces_kit import ref

from otel_llm_sessions import session, session_trace_id
from otel_llm_sessions.testing import CapturedSpans, capture_spans


class Calls(SpanProcessor):
    """Does something when a root or a marker begins; not again for what begins meanwhile."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self._do = do
        self.is_busy = False

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.do_once()

    def do_once(self) -> None:
        if not self.is_busy:
            self.is_busy = True
            try:
                self._do()
            finally:
                self.is_busy = False


class CallingSampler(Calls, Sampler):
    """The same in a sampler: between the ids that a span gets."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        self.do_once()
        return SamplingResult(Decision.RECORD_AND_SAMPLE, kwargs.get("attributes") or (args[4] if args[4:] else None))

    def get_description(self) -> str:
        return "Calling"


WHAT: dict[str, Callable[[OpenAI, Any], Any]] = {
    "a chain begins": lambda client, _: client.responses.create(model="inner", input="x"),
    "a named session": lambda client, _: ask(client, model="inner", metadata={"session_id": "inner"}),
    "the same session": lambda client, _: ask(client, model="inner", metadata={"session_id": "S"}),
    "a block": lambda client, _: block(client),
    "a span of its own": lambda _, tracer: tracer.start_span("inner").end(),
    "a nested call": lambda client, tracer: nested(client, tracer),
}


def block(client: OpenAI) -> None:
    with session("inner"):
        ask(client, model="inner")


def nested(client: OpenAI, tracer: Any) -> None:
    with tracer.start_as_current_span("around"):
        ask(client, model="inner", metadata={"session_id": "inner"})


@pytest.mark.parametrize("where", ["processor", "sampler"])
@pytest.mark.parametrize("what", WHAT)
def test_what_is_started_while_a_root_begins_has_ids_of_its_own(client, what, where):
    def do() -> None:
        WHAT[what](client, provider.get_tracer("the application's"))

    calling = CallingSampler(do) if where == "sampler" else Calls(do)
    sampler = ParentBased(calling) if isinstance(calling, Sampler) else ALWAYS_ON
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    calling.is_busy = True
    with capture_spans(tracer_provider=provider) as spans:
        if where == "processor":
            provider.add_span_processor(calling)
        calling.is_busy = False
        ask(client, metadata={"session_id": "S"})
        calling.is_busy = True
    assert len({ref(span.context) for span in spans}) == len(spans)
    roots = [span for span in spans if span.attributes.get("session.id") == "S" and span.parent is None]
    (root,) = roots
    assert f"{root.context.trace_id:032x}" == session_trace_id("S")
    (call,) = [span for span in spans if span.name == "chat m"]
    assert (call.context.trace_id, call.parent.span_id) == ref(root.context)
    assert_own_traces(spans)


def assert_own_traces(spans: CapturedSpans) -> None:
    """Each trace of a session holds spans of that session alone."""
    by_trace: dict[int, set[Any]] = {}
    for span in spans:
        by_trace.setdefault(span.context.trace_id, set()).add(span.attributes.get("session.id"))
    for span in spans:
        if span.attributes.get("llm_session.root"):
            assert by_trace[span.context.trace_id] == {span.attributes["session.id"]}


class Raises(SpanProcessor):
    """A processor that raises for this package's own spans."""

    def __init__(self, when: str) -> None:
        self._when = when
        self.raised = 0

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._raise("on_start", span)

    def on_end(self, span: Any) -> None:
        self._raise("on_end", span)

    def _raise(self, when: str, span: Any) -> None:
        if when == self._when and span.name.split()[0] in ("session", "turn", "no"):
            self.raised += 1
            raise RuntimeError("processor")


@pytest.mark.usefixtures("patient", "nothing_reported")
@pytest.mark.parametrize("when", ["on_start", "on_end"])
def test_a_processor_that_raises_costs_neither_the_call_nor_the_chain_nor_the_record(api, caplog, tmp_path, when):
    provider = TracerProvider(shutdown_on_exit=False)
    raises = Raises(when)
    with capture_spans(tracer_provider=provider, store=f"sqlite:///{tmp_path}/store.db") as spans:
        provider.add_span_processor(raises)
        tracer = provider.get_tracer("the application's")
        first = api.respond()
        with session("block"):
            api.chat()
        api.chat(metadata={"session_id": "named"})
        with tracer.start_as_current_span("request"):
            api.chat(metadata={"session_id": "named"})
            nested = api.respond()
        api.respond(previous_response_id=nested.id)
        with pytest.raises(Exception, match="429"):
            api.respond(extra_headers={"x-loopback-mode": "status=429"})
        provider_spans = [span for span in spans if span.name.startswith("chat")]
    with capture_spans(store=f"sqlite:///{tmp_path}/store.db") as later:
        api.respond(previous_response_id=first.id)
        api.respond(previous_response_id=nested.id)
    assert raises.raised >= 5
    turns = [(span.attributes["session.id"], span.attributes["llm_session.turn"]) for span in provider_spans[:-1]]
    chain = [(first.id, 1), ("block", 1), ("named", 1), ("named", 2), (nested.id, 1), (nested.id, 2)]
    assert turns == chain
    found = [span.attributes["session.id"] for span in later if span.name.startswith("chat")]
    assert found == [first.id, nested.id]
    warnings = Counter(r.getMessage() for r in caplog.records if r.name.startswith("otel_llm_sessions"))
    assert set(warnings.values()) == {1}


@pytest.mark.parametrize("when", ["on_start", "on_end"])
def test_turns_stay_below_a_root_whose_processor_raised(client, when):
    provider = TracerProvider(shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider) as spans:
        provider.add_span_processor(Raises(when))
        for _ in range(2):
            ask(client, metadata={"session_id": "S"})
    traces = {f"{span.context.trace_id:032x}" for span in spans if span.name == "chat m"}
    assert traces == {session_trace_id("S")}


def test_a_sampler_that_raises_for_roots_costs_no_call(client, caplog):
    caplog.set_level(logging.CRITICAL)
    provider = TracerProvider(sampler=ParentBased(BrokenSampler()), shutdown_on_exit=False)
    with capture_spans(tracer_provider=provider) as spans:
        ask(client, metadata={"session_id": "S"})
        with session("B"):
            ask(client)
    assert [(span.name, span.attributes["session.id"]) for span in spans] == [("chat m", "S"), ("chat m", "B")]
