"""Spans of other instrumentations, told in the conventions' names: OpenInference's, and those of OpenLLMetry.

Nothing is taken away: what others call their way stays, and the conventions' names are added where a span has none of
them already.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import Any, Final

from otel_llm_sessions import semconv
from otel_llm_sessions.view.spans import Attributes, ReceivedSpan

OURS: Final = "otel_llm_sessions"
"""The scope of this package's spans, which speak no dialect."""

NAMES: Final[dict[str, tuple[str, ...]]] = {
    semconv.SESSION_ID: (
        "traceloop.association.properties.session_id",
        "traceloop.association.properties.conversation_id",
        "traceloop.association.properties.thread_id",
        "traceloop.association.properties.chat_id",
    ),
    semconv.USER_ID: ("traceloop.association.properties.user_id", "llm.user", "gen_ai.user"),
    semconv.LLM_SESSION_TAGS: ("tag.tags",),
    semconv.PROVIDER_NAME: ("gen_ai.system", "llm.provider", "llm.system", "llm.vendor"),
    semconv.REQUEST_MODEL: ("llm.request.model_name", "llm.request.model"),
    semconv.RESPONSE_MODEL: ("llm.response.model_name", "llm.response.model", "llm.model_name"),
    semconv.USAGE_INPUT_TOKENS: ("llm.token_count.prompt", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens"),
    semconv.USAGE_OUTPUT_TOKENS: (
        "llm.token_count.completion",
        "gen_ai.usage.completion_tokens",
        "llm.usage.completion_tokens",
    ),
    semconv.USAGE_CACHE_READ_INPUT_TOKENS: (
        "llm.token_count.prompt_details.cache_read",
        "gen_ai.usage.cache_read_input_tokens",
    ),
    semconv.USAGE_REASONING_OUTPUT_TOKENS: (
        "llm.token_count.completion_details.reasoning",
        "gen_ai.usage.reasoning_tokens",
        "llm.usage.reasoning_tokens",
    ),
    semconv.USAGE_COST_AMOUNT: ("llm.cost.total",),
}
"""What the conventions have a name for, and what others call it; of several that a span has, the first counts."""

OPERATIONS: Final[dict[tuple[str, str], str]] = {
    ("openinference.span.kind", "LLM"): "chat",
    ("llm.request.type", "chat"): "chat",
    ("llm.request.type", "completion"): "text_completion",
}
"""What tells others' model calls, and ``gen_ai.operation.name`` of such."""

SIGNS: Final = ("openinference.", "traceloop.", "llm.", "gen_ai.prompt.", "gen_ai.completion.", "gen_ai.system")
"""How names begin by which a span may be told to speak a dialect."""

PLACES: Final = re.compile(
    r"(llm\.input_messages|llm\.prompts|gen_ai\.prompt|llm\.output_messages|llm\.completions|gen_ai\.completion)"
    r"\.(\d{1,6})\.(.+)"
)
"""A message's field, in a name: which messages, the place of this one among them, and the field."""
ASKED: Final = frozenset({"llm.input_messages", "llm.prompts", "gen_ai.prompt"})
REPEATED: Final = re.compile(r"\b(?:message|message_content|tool_call|function|prompt)\.(?=[a-z])")
"""What OpenInference says again in each field's name."""
INNER: Final = re.compile(r"(contents|tool_calls)\.(\d{1,6})\.(.+)")
"""A field of a part or a tool call of a message."""
SPOKEN: Final = ("input.value", "output.value")
"""All of the input and of the output in one text."""
CURRENCY: Final = "USD"
"""That of OpenInference's costs."""


def told(span: ReceivedSpan) -> ReceivedSpan:
    """The span with what it says in another's names said in the conventions' too; itself if there is nothing."""
    if span.scope == OURS or not any(name.startswith(SIGNS) for name in span.attributes):
        return span
    added = _named(span.attributes)
    if semconv.OPERATION_NAME in span.attributes or semconv.OPERATION_NAME in added:
        added |= _said(span.attributes)
    return replace(span, attributes={**added, **span.attributes}) if added else span


def _named(attributes: Attributes) -> dict[str, Any]:
    added: dict[str, Any] = {}
    for name, others in NAMES.items():
        known = next((attributes[other] for other in others if attributes.get(other) not in (None, "")), None)
        if known is not None:
            added[name] = known
    if semconv.USAGE_COST_AMOUNT in added:
        added[semconv.USAGE_COST_CURRENCY] = CURRENCY
    kinds = (operation for (name, kind), operation in OPERATIONS.items() if attributes.get(name) == kind)
    if operation := next(kinds, None):
        added[semconv.OPERATION_NAME] = operation
    return added


def _said(attributes: Attributes) -> dict[str, Any]:
    """The messages of a model call, in the conventions' form."""
    messages: defaultdict[tuple[bool, int], dict[str, Any]] = defaultdict(dict)
    for name, value in attributes.items():
        if found := PLACES.fullmatch(name):
            messages[found[1] in ASKED, int(found[2])][REPEATED.sub("", found[3])] = value
    said: dict[str, Any] = {}
    for is_asked, name, spoken in ((True, semconv.INPUT_MESSAGES, 0), (False, semconv.OUTPUT_MESSAGES, 1)):
        told = [_message(fields, is_asked) for (asked, _), fields in sorted(messages.items()) if asked is is_asked]
        whole = attributes.get(SPOKEN[spoken])
        if not told and isinstance(whole, str) and whole:
            told = [_message({"content": whole}, is_asked)]
        if told:
            said[name] = told
    return said


def _message(fields: dict[str, Any], is_asked: bool) -> dict[str, Any]:
    inner: defaultdict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
    for name, value in fields.items():
        if found := INNER.fullmatch(name):
            inner[found[1], int(found[2])][found[3]] = value
    parts = [{"type": "reasoning", "content": fields["reasoning"]}] if fields.get("reasoning") else []
    said = fields.get("content", fields.get("text"))
    if said not in (None, ""):
        answers = fields.get("tool_call_id")
        answer = {"type": "tool_call_response", "id": answers, "response": said}
        parts.append(answer if answers else {"type": "text", "content": said})
    parts += [_part(part) for (kind, _), part in sorted(inner.items()) if kind == "contents"]
    parts += [{**part, "type": "tool_call"} for (kind, _), part in sorted(inner.items()) if kind == "tool_calls"]
    if called := fields.get("function_call_name"):
        parts.append({"type": "tool_call", "name": called, "arguments": fields.get("function_call_arguments_json")})
    role = fields.get("role") or ("user" if is_asked else "assistant")
    return {"role": role, "parts": parts, "finish_reason": fields.get("finish_reason")}


def _part(fields: dict[str, Any]) -> dict[str, Any]:
    if "text" in fields:
        kind = "reasoning" if fields.get("type") == "reasoning" else "text"
        return {"type": kind, "content": fields["text"]}
    url = next((name for name in fields if name.endswith(".url")), None)
    if url is not None:
        return {"type": "uri", "modality": url.partition(".")[0], "uri": fields[url]}
    return {"type": fields.get("type", "generic"), "content": fields}
