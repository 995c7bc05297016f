"""Whatever a process asks, and wherever: the short ways leave what the long ones do, span by span and key by key.

``SHORT_WAYS_EXAMPLES=2000`` looks for more.
"""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of
from hypothesis import strategies as st
from openai import OpenAI
from openai._models import FinalRequestOptions
from opentelemetry import baggage
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.trace import IdGenerator, ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, get_current_span, set_span_in_context
from providers_kit import provider_to

from otel_llm_sessions import semconv, session
from otel_llm_sessions.openai import patch
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.decide import planned, resolved
from otel_llm_sessions.openai.ending import finish
from otel_llm_sessions.openai.flow import deliver
from otel_llm_sessions.openai.observing import see
from otel_llm_sessions.openai.runtime import make_runtime
from otel_llm_sessions.openai.standing import start
from otel_llm_sessions.sessions.inside import ROOT_CONTEXT_KEY, SessionRoot
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.sessions.resolver import lookup_keys
from otel_llm_sessions.settings import Settings
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.telemetry.metrics import MetricsSource
from otel_llm_sessions.traces.below import below
from otel_llm_sessions.traces.home import Homes

EXAMPLES = int(os.environ.get("SHORT_WAYS_EXAMPLES", "100"))
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
CLIENT = OpenAI(api_key="x", base_url="http://socket.test/v1")
KEYS = 10
"""How many keys are remembered: few enough for which were used last to matter."""


class Ids(IdGenerator):
    """Gives out the same ids in the same order."""

    def __init__(self) -> None:
        self._random = random.Random(1)

    def generate_trace_id(self) -> int:
        return self._random.getrandbits(128)

    def generate_span_id(self) -> int:
        return self._random.getrandbits(64)


class Name(str):
    """A string of the application's own kind."""

    __slots__ = ()


class Odd(Sampler):
    """Drops or refuses spans by their names, whatever stands above them."""

    def __init__(self, drops: str = "", refuses: str = "") -> None:
        self._drops, self._refuses = drops, refuses

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *others: Any, **more: Any) -> SamplingResult:
        if name == self._refuses:
            raise RuntimeError("a sampler of the application's")
        return SamplingResult(Decision.DROP if name == self._drops else Decision.RECORD_AND_SAMPLE)

    def get_description(self) -> str:
        return "odd"


class Process:
    """What makes calls, and what is seen of them."""

    def __init__(self, settings: Settings, sampler: Sampler) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = provider_to(self.exporter, sampler=sampler, id_generator=Ids())
        self.store = MemoryStore(KEYS)
        self.store.scope = "scope"
        homes = Homes(self.provider, settings, self.store)
        self.runtime = make_runtime(settings, self.store, homes, MetricsSource(None))
        self.tracer = self.provider.get_tracer("application")
        self.asked = 0
        self.sent_in: list[Context] = []

    def make(self, step: Step) -> None:
        """Make one call."""
        self.asked += 1
        with self.at(step.place):
            call = patch._start(self.runtime, CLIENT, step.options(self.asked), False)
            assert call is not None
            self.begin(call)
            self.sent_in.append(call.span.sent_in)
            call.sending.clear()
            if step.fails:
                finish(call, "failed")
            elif step.streams:
                for chunk in step.chunks(self.asked):
                    see(call, chunk)
                    deliver(call)
                finish(call)
            else:
                call.read(step.reply(self.asked))
                finish(call)
            deliver(call)

    def begin(self, call: Call) -> None:
        """Do nothing more."""

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Be somewhere."""
        token = attach(self.context_of(place))
        try:
            if place == "a session's block":
                with session("A", name="refund"):
                    yield
            else:
                yield
        finally:
            detach(token)

    def context_of(self, place: str) -> Context:
        if place in {"a request", "another's call"}:
            attributes = {semconv.OPERATION_NAME: "chat"} if place == "another's call" else {}
            return set_span_in_context(self.tracer.start_span(place, attributes=attributes), Context())
        if place == "an unsampled request":
            return set_span_in_context(NonRecordingSpan(SpanContext(7, 8, True, TraceFlags(0))), Context())
        if place == "a request with baggage":
            around = baggage.set_baggage("session.id", "A", Context())
            return set_span_in_context(self.tracer.start_span(place), around)
        if place == "baggage":
            return baggage.set_baggage("session.id", "A", Context())
        if place == "another's value":
            return Context({"theirs": 1})
        if place == "a call" and self.sent_in:
            return self.sent_in[-1]
        known = dict(self.store.snapshot()).get("s:A") if place in {"the session's trace", "below its root"} else None
        if known is None or known.trace is None:
            return Context()
        root = below(known.trace, Context({"theirs": 1}))
        above = get_current_span(root)
        if place == "below its root":
            return Context({**root, ROOT_CONTEXT_KEY: SessionRoot("A", above)})
        return set_span_in_context(self.tracer.start_span("agent", context=root), root)

    def seen(self) -> tuple[Any, ...]:
        """Return all that can be seen of its calls but times."""
        spans = [seen_of(span) for span in self.exporter.get_finished_spans()]
        kept = [(key, without_times(link)) for key, link in self.store.snapshot()]
        return spans, kept, [in_words(context) for context in self.sent_in]


class ByTheLongWay(Process):
    """One that takes no short way that there is."""

    def __init__(self, settings: Settings, sampler: Sampler) -> None:
        super().__init__(settings, sampler)
        self.runtime = dataclasses.replace(self.runtime, memory=None, begins_at_once=False)
        placer: Any = self.runtime.homes.get().placer
        mark = placer.mark
        placer.go_on = lambda *_: None
        placer.mark = lambda turn, error_type=None, *_: mark(turn, error_type)

    def begin(self, call: Call) -> None:
        """Begin it with all questions."""
        resolution = resolved(call, self.store.get_all(lookup_keys(call.request.evidence)))
        plan = planned(call, resolution)
        start(call, resolution, plan, plan.opening is not None and self.store.claim(plan.opening.claim_key))


def seen_of(span: ReadableSpan) -> tuple[Any, ...]:
    assert span.context is not None
    links = [(tuple(link.context), dict(link.attributes or {})) for link in span.links]
    parent = span.parent and (span.parent.trace_id, span.parent.span_id, str(span.parent.trace_state))
    attributes = {name: value for name, value in (span.attributes or {}).items() if name != FIRST_CHUNK}
    return span.name, tuple(span.context), parent, attributes, links, span.kind, span.status.status_code


def without_times(link: SessionLink) -> SessionLink:
    trace = link.trace and link.trace._replace(started=0)
    return link._replace(start=0, end=1 if link.end else 0, trace=trace)


def in_words(context: Context) -> dict[str, Any]:
    """Return what a context has, of spans their ids."""
    return {key: worded(value) for key, value in context.items() if not key.startswith("otel_llm_sessions.entry")}


def worded(value: Any) -> Any:
    if hasattr(value, "get_span_context"):
        return tuple(value.get_span_context())
    if isinstance(value, tuple):
        return tuple(worded(each) for each in value)
    return len(value) if isinstance(value, list) else repr(value)


@dataclasses.dataclass
class Step:
    """A call that a process makes."""

    place: str
    is_chat: bool
    named: tuple[str, Any] | None
    parent: bool
    before: int
    """How many calls before this one the response is that it follows; 0 for none."""
    stored: bool
    tools: bool
    fails: bool
    streams: bool
    more: dict[str, Any]

    def options(self, number: int) -> Any:
        body: dict[str, Any] = {"model": "m", **self.more}
        headers: dict[str, str] = {}
        where, name = self.named or ("", None)
        if where == "header":
            headers["x-session-id"] = str(name)
        elif where == "metadata":
            body["metadata"] = {"session_id": name}
        elif where:
            body[where] = name
        is_after = 0 < self.before < number
        if self.parent:
            headers["x-parent-session-id"] = "B"
        if not self.stored:
            body["store"] = False
        if self.is_chat:
            body["messages"] = [{"role": "user", "content": "x"}]
            if is_after:
                body["messages"].append({"role": "tool", "tool_call_id": call_id(number - self.before), "content": "y"})
        else:
            body["input"] = "x"
            if is_after:
                body["previous_response_id"] = response_id(number - self.before)
        url = "/chat/completions" if self.is_chat else "/responses"
        return FinalRequestOptions.construct(method="post", url=url, headers=headers, json_data=body)

    def reply(self, number: int) -> dict[str, Any]:
        if not self.is_chat:
            usage = {"input_tokens": 1, "output_tokens": number}
            return {"id": response_id(number), "model": "m", "status": "completed", "output": [], "usage": usage}
        call = {"id": call_id(number), "type": "function", "function": {"name": "f", "arguments": "{}"}}
        choice = {"index": 0, "finish_reason": "stop", "message": {"tool_calls": [call]} if self.tools else {}}
        return {"id": "chatcmpl-" + response_id(number)[5:], "model": "m", "choices": [choice]}

    def chunks(self, number: int) -> list[dict[str, Any]]:
        reply = self.reply(number)
        if not self.is_chat:
            begun = {**reply, "status": "in_progress", "usage": None}
            return [{"type": "response.created", "response": begun}, {"type": "response.completed", "response": reply}]
        (choice,) = reply["choices"]
        calls = [{"index": at, **each} for at, each in enumerate(choice["message"].get("tool_calls", ()))]
        begun = {"index": 0, "delta": {"tool_calls": calls} if calls else {}, "finish_reason": None}
        ended = {"index": 0, "delta": {}, "finish_reason": "stop"}
        return [{**reply, "choices": [choice]} for choice in (begun, ended)]


def response_id(number: int) -> str:
    return f"resp_{random.Random(number).getrandbits(128):032x}"


def call_id(number: int) -> str:
    return f"call_{random.Random(number).getrandbits(128):032x}"


PLACES = [
    *["nowhere"] * 6, "a request", "an unsampled request", "another's call", "a request with baggage", "baggage",
    "another's value", "a call", "the session's trace", "below its root", "a session's block",
]  # fmt: skip
NAMES: list[Any] = [
    *[None] * 6, *[("metadata", "A")] * 4, ("metadata", "B"), ("metadata", Name("A")), ("metadata", 7),
    ("metadata", ["A"]), ("metadata", "x" * 257), ("session_id", "A"), ("header", "A"), ("conversation", "conv_1"),
]  # fmt: skip
steps = st.builds(
    Step,
    place=st.sampled_from(PLACES),
    is_chat=st.booleans(),
    named=st.sampled_from(NAMES),
    parent=st.sampled_from([False, False, False, True]),
    before=st.sampled_from([0, 0, 1, 1, 1, 2, 3]),
    stored=st.sampled_from([True, True, True, False]),
    tools=st.booleans(),
    fails=st.sampled_from([*[False] * 7, True]),
    streams=st.sampled_from([False, False, True]),
    more=st.sampled_from([{}, {}, {"user": "u-1"}, {"prompt_cache_key": "cache-1"}]),
)
talks = st.builds(
    lambda usual, others: [other or usual for other in others],
    steps.filter(lambda step: (step.named is not None or step.before == 1) and not step.fails),
    st.lists(st.sampled_from([None, None, None]) | steps, min_size=4, max_size=7),
)
"""Calls of which most are alike: then they go on from one another."""

all_settings = st.builds(
    Settings,
    traces=st.sampled_from(["session", "session", "session", "turn"]),
    spans=st.sampled_from(["auto", "auto", "auto", "annotate", "always"]),
    max_turns=st.sampled_from([500, 3]),
    root_repeat=st.sampled_from([None, 0.0]),
    user=st.booleans(),
)
samplers: Any = st.sampled_from(
    [ALWAYS_ON] * 5
    + [ALWAYS_OFF, ParentBased(TraceIdRatioBased(0.5))]
    + [Odd(drops="session"), Odd(drops="turn"), Odd(refuses="session"), Odd(refuses="chat m"), Odd(refuses="turn")]
)


@pytest.mark.usefixtures("nothing_reported")  # which the samplers that raise would use up
@settings_of(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(all_settings, samplers, talks)
def test_it_is_all_the_same_by_the_long_way(settings: Settings, sampler: Sampler, calls: list[Step]):
    short, long = Process(settings, sampler), ByTheLongWay(settings, sampler)
    for call in calls:
        short.make(call)
        long.make(call)
    assert short.seen() == long.seen()
