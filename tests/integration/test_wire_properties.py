"""Whatever a server sends, the application sees what it would see without us, and the span ends once."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from answered import async_client_of, client_of
from failures import failures_of_ours
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from odd_kit import Pieces
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from otel_llm_sessions.testing import capture_spans

MODEL = "gpt-4o-mini"
EXAMPLES = int(os.environ.get("WIRE_EXAMPLES", "15"))
"""Examples of each test; set it to thousands to look for more."""
QUICK = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
odd_json = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)

NAMES = (
    "id object type model choices index delta message finish_reason usage status output error code response "
    "sequence_number prompt_tokens input_tokens prompt_tokens_details input_tokens_details cached_tokens "
    "incomplete_details reason tool_calls function service_tier system_fingerprint background content role item "
    "previous_response_id item_id output_index"
).split()
WORDS = (
    "resp_1 chatcmpl-1 chat.completion response message function_call stop completed failed incomplete in_progress "
    "queued error response.created response.completed response.failed response.in_progress response.output_text.delta "
    "response.output_item.done max_output_tokens"
).split()
words = st.sampled_from(WORDS)
near_values = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=12,
)
near_objects = st.dictionaries(st.sampled_from(NAMES), near_values, max_size=8)
near_replies = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(["id", "choices", "usage", "output", "status", "error", "model"], near_values)
)
bodies = near_replies | near_objects | odd_json

chat_events = st.fixed_dictionaries(
    {"id": words | scalars, "choices": st.lists(near_objects, max_size=2) | near_values},
    optional={"usage": near_values, "error": near_values, "model": near_values},
)
response_events = st.fixed_dictionaries(
    {"type": words | scalars},
    optional={"response": near_objects | near_values, "error": near_values, "code": near_values},
)
events = st.lists(chat_events | response_events | bodies, max_size=6)
ends = st.sampled_from(["\n\n", "\r\n\r\n", "\r\r", "\n", ""])


def encode(event: Any, end: str) -> bytes:
    named = event.get("type") if isinstance(event, dict) else None
    line = f"event: {named}\n" if isinstance(named, str) and named.isprintable() else ""
    return f"{line}data: {json.dumps(event)}{end}".encode()


event_streams = st.builds(
    lambda parts, done: b"".join(encode(*part) for part in parts) + done,
    st.lists(st.tuples(chat_events | response_events | bodies, ends), max_size=6),
    st.sampled_from([b"", b"data: [DONE]\n\n", b"data: [DONE]", b": comment\n\n"]),
)
line_parts = st.sampled_from(
    [
        b"data:",
        b"data: ",
        b"event: error",
        b"\n",
        b"\r",
        b"\n\n",
        b"{}",
        b'{"id": "a"}',
        b"[DONE]",
        b":",
        b"\xff",
        b"\x00",
    ]
)
sse_bytes = st.lists(line_parts | st.binary(max_size=6), max_size=14).map(b"".join)
types = st.sampled_from(["application/json", "text/event-stream", "text/plain", "text/html; charset=utf-8", "", "x"])


class Ends(SpanProcessor):
    """Counts how often each span ended."""

    def __init__(self) -> None:
        self.ended: list[int] = []

    def on_end(self, span: Any) -> None:
        self.ended.append(span.context.span_id)


class Wire:
    """A client without a network, what it is answered, and the spans of its calls."""

    def __init__(self, ends: Ends, reported: list[Any]) -> None:
        self.content, self.content_type, self.size = b"", "", 1
        self.ends, self.reported = ends, reported
        self.client, self.async_client = client_of(self._answer), async_client_of(self._answer)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(
            200, headers={"content-type": self.content_type}, stream=Pieces(self.content, self.size), request=request
        )

    def check(self, api: str, how: str, stream: bool) -> None:
        """Make the same call without and with a span: the same must come of both, and the span end once."""
        self.ends.ended.clear()
        self.reported.clear()
        with suppress_instrumentation():
            bare = self._outcome(api, how, stream)
        assert not self.ends.ended
        assert self._outcome(api, how, stream) == bare
        assert len(self.ends.ended) == 1
        assert not self.reported

    def _outcome(self, api: str, how: str, stream: bool) -> Any:
        try:
            if how == "async":
                return LOOP.run_until_complete(self._acall(api, stream))
            return self._call(api, how, stream)
        except Exception as error:
            return type(error), str(error)

    def _arguments(self, api: str, stream: bool) -> dict[str, Any]:
        asked: dict[str, Any] = {"messages": [], "model": MODEL} if api == "chat" else {"input": "x", "model": MODEL}
        return {**asked, "stream": True} if stream else asked

    def _call(self, api: str, how: str, stream: bool) -> Any:
        resource: Any = self.client.chat.completions if api == "chat" else self.client.responses
        asked = self._arguments(api, stream)
        if how == "streaming":
            with resource.with_streaming_response.create(**asked) as raw:
                return raw.is_closed, raw.read(), raw.is_closed
        if how == "raw":
            raw = resource.with_raw_response.create(**asked)
            return type(raw), shown(raw.parse())
        return shown(resource.create(**asked))

    async def _acall(self, api: str, stream: bool) -> Any:
        resource: Any = self.async_client.chat.completions if api == "chat" else self.async_client.responses
        reply = await resource.create(**self._arguments(api, stream))
        if isinstance(reply, openai.AsyncStream):
            return [repr(event) async for event in reply]
        return repr(reply)


LOOP = asyncio.new_event_loop()


def shown(reply: Any) -> Any:
    if isinstance(reply, openai.Stream):
        seen = []
        try:
            for event in reply:
                seen.append(repr(event))
        except Exception as error:
            seen.append(repr((type(error), str(error))))
        return type(reply), seen
    return type(reply), repr(reply)


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    ends = Ends()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(ends)
    with failures_of_ours() as reported, capture_spans(traces="turn", tracer_provider=provider):
        made = Wire(ends, reported)
        yield made
        made.client.close()
        LOOP.run_until_complete(made.async_client.close())


apis = pytest.mark.parametrize("api", ["chat", "responses"])
hows = pytest.mark.parametrize("how", ["parsed", "raw", "streaming", "async"])


# The fixture that looks for what a test left behind looks after each test, not after each example.
@pytest.fixture(autouse=True)
def _nothing_left_behind() -> None:
    return None


@apis
@hows
@QUICK
@given(body=bodies, content_type=types)
@example(body=None, content_type="application/json")
@example(body={"choices": None, "output": None, "usage": None}, content_type="application/json")
@example(body={"id": None, "status": "0", "output": [{"type": []}]}, content_type="application/json")
def test_any_json_body(wire, api, how, body, content_type):
    wire.content, wire.content_type, wire.size = json.dumps(body).encode(), content_type, 1000
    wire.check(api, how, stream=False)


@apis
@hows
@QUICK
@given(content=event_streams, size=st.integers(1, 200))
def test_any_events_in_any_order(wire, api, how, content, size):
    wire.content, wire.content_type, wire.size = content, "text/event-stream", size
    wire.check(api, how, stream=True)


@apis
@hows
@QUICK
@given(content=sse_bytes, content_type=types, size=st.integers(1, 20), stream=st.booleans())
def test_any_bytes(wire, api, how, content, content_type, size, stream):
    wire.content, wire.content_type, wire.size = content, content_type, size
    wire.check(api, how, stream)
