"""What tests of the view share: received spans as they are made by hand, and any spans at all."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

from hypothesis import strategies as st

from otel_llm_sessions.view.spans import ReceivedEvent, ReceivedLink, ReceivedLog, ReceivedSpan

RESOURCE = {"service.name": "shop"}
SESSION_TRACE, REQUEST_1, REQUEST_2 = "5e" * 16, "a1" * 16, "a2" * 16
SECOND = 1_000_000_000
_ids = count(1)


def span(name: str = "span", trace_id: str = SESSION_TRACE, parent: Any = None, at: float = 0, **more: Any) -> Any:
    """A span of a millisecond that starts ``at`` seconds; keywords with ``__`` are attributes."""
    attributes = {key.replace("__", "."): more.pop(key) for key in list(more) if "__" in key}
    start = int((at + 1) * SECOND)
    known = {"parent_id": parent.span_id if parent else "", "start": start, "end": start + 1_000_000}
    attributes |= more.pop("attributes", {})
    return ReceivedSpan(
        name, trace_id, f"{next(_ids):016x}", **{**known, "resource": RESOURCE, **more}, attributes=attributes
    )


def call(turn: int | None = None, trace_id: str = SESSION_TRACE, session: str | None = "s-1", **more: Any) -> Any:
    """A model call's span."""
    said = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini"}
    said |= {"session.id": session} if session else {}
    said |= {"llm_session.turn": turn, "llm_session.source": "metadata"} if turn else {}
    more = {"name": "chat gpt-4o-mini", **more, "attributes": {**said, **more.get("attributes", {})}}
    return span(trace_id=trace_id, **more)


def response(id_: str, previous: str | None = None, **more: Any) -> Any:
    """A responses call's span."""
    said = {"gen_ai.response.id": id_}
    said |= {"gen_ai.request.previous_response.id": previous} if previous else {}
    return call(attributes={**said, **more.pop("attributes", {})}, **more)


def root(session: str = "s-1", trace_id: str = SESSION_TRACE, part: int = 1, **more: Any) -> Any:
    """A session's root."""
    more = {"name": "anything", **more}
    return span(trace_id=trace_id, session__id=session, llm_session__root=True, llm_session__part=part, **more)


def marker(of: Any, turn: int, below: Any, session: str = "s-1", **more: Any) -> Any:
    """A marker of a call."""
    more = {"name": "anything", "start": of.start, "end": of.end, "links": (link(of),), **more}
    return span(trace_id=below.trace_id, parent=below, session__id=session, llm_session__turn=turn, **more)


def link(to: Any, kind: str | None = None) -> ReceivedLink:
    return ReceivedLink(to.trace_id, to.span_id, {"llm_session.link": kind} if kind else {})


def ids_of(sessions: Iterable[Any]) -> list[tuple[str, list[int]]]:
    """The sessions, with the numbers of their turns."""
    return [(session.id, [turn.number for turn in session.turns]) for session in sessions]


# --- any spans at all ----------------------------------------------------------------------------------------------

NAMES = (
    "session.id", "gen_ai.conversation.id", "user.id", "gen_ai.operation.name", "gen_ai.response.id", "error.type",
    "gen_ai.request.previous_response.id", "gen_ai.response.model", "gen_ai.usage.input_tokens", "tag.tags",
    "gen_ai.usage.output_tokens", "gen_ai.usage.cost.amount", "gen_ai.usage.cost.currency", "gen_ai.input.messages",
    "gen_ai.output.messages", "gen_ai.response.time_to_first_chunk", "llm_session.source", "llm_session.turn",
    "llm_session.part", "llm_session.root", "llm_session.name", "llm_session.tags", "llm_session.content_cut",
    "llm_session.usage.input_tokens", "gen_ai.evaluation.name", "gen_ai.evaluation.score.value",
    "openinference.span.kind", "llm.model_name", "llm.token_count.prompt", "llm.input_messages.0.message.role",
    "llm.input_messages.0.message.contents.1.message_content.text", "gen_ai.prompt.0.content", "llm.request.type",
    "gen_ai.completion.1.tool_calls.0.arguments", "traceloop.association.properties.session_id", "llm.cost.total",
)  # fmt: skip
"""Every attribute that something is read from."""

PLAIN = (
    "a", "b", "resp_1", "chat", "LLM", "chain_partial", "", "\x1b[31m", "\u202e", '[{"role": "user", "parts": [{',
    "[1]",
    "{}", "nul\0", "\ud83d", True, False, 0, 1, 2, -1, 2**70, 0.5, -0.0, float("nan"), float("inf"), None, b"\xff",
)  # fmt: skip
values = st.recursive(
    st.sampled_from(PLAIN) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
attributes = st.dictionaries(st.sampled_from(NAMES), values, max_size=10)
ids = st.sampled_from(["a", "resp_1", "resp_2", "resp_3"])
likely = st.fixed_dictionaries(
    {},
    optional={
        "session.id": ids,
        "gen_ai.operation.name": st.sampled_from(["chat", "chat", "invoke_agent", "fetch_response"]),
        "gen_ai.response.id": ids,
        "gen_ai.request.previous_response.id": ids,
        "llm_session.source": st.sampled_from(["chain", "chain_partial"]),
        "llm_session.turn": st.integers(1, 4),
        "llm_session.part": st.integers(1, 2),
        "llm_session.root": st.just(True),
        "gen_ai.usage.input_tokens": st.integers(0, 9),
        "gen_ai.evaluation.name": st.just("thumbs"),
    },
)
"""Attributes as they are where all is well."""
trace_ids = st.sampled_from(["a" * 32, "b" * 32, "", "no id"])
span_ids = st.sampled_from([f"{at:016x}" for at in range(9)])
times = st.integers(0, 5) | st.integers(0, 2**64 - 1)
links = st.builds(
    ReceivedLink,
    trace_ids,
    span_ids,
    st.dictionaries(st.just("llm_session.link"), st.sampled_from(["previous_turn", "parent_session", 1]), max_size=1),
)
any_span = st.builds(
    ReceivedSpan,
    name=st.sampled_from(["session", "turn", "chat m", ""]),
    trace_id=trace_ids,
    span_id=span_ids,
    parent_id=span_ids | st.just(""),
    start=times,
    end=times,
    attributes=attributes | likely,
    links=st.lists(links, max_size=2).map(tuple),
    events=st.lists(st.builds(ReceivedEvent, st.just("exception"), times, attributes), max_size=1).map(tuple),
    status=st.sampled_from(["UNSET", "OK", "ERROR"]),
    resource=st.dictionaries(st.just("service.name"), values, max_size=1),
    scope=st.sampled_from(["otel_llm_sessions", ""]),
)
any_log = st.builds(
    ReceivedLog,
    event_name=st.sampled_from(
        [
            "gen_ai.client.inference.operation.details",
            "gen_ai.evaluation.result",
            "gen_ai.choice",
            "gen_ai.tool.message",
        ]
    ),
    time=times,
    body=values | st.dictionaries(st.sampled_from(["message", "content", "tool_calls", "id", "role"]), values),
    attributes=attributes | likely,
    trace_id=trace_ids,
    span_id=span_ids,
)
