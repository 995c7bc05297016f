"""Spans of other instrumentations, told in the conventions' names: one table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from otel_llm_sessions import semconv
from otel_llm_sessions.view.spans import Attributes, ReceivedSpan

NAMES: Final[dict[str, str]] = {
    "traceloop.association.properties.session_id": semconv.SESSION_ID,
    "llm.model_name": semconv.RESPONSE_MODEL,
    "llm.token_count.prompt": semconv.USAGE_INPUT_TOKENS,
    "llm.token_count.completion": semconv.USAGE_OUTPUT_TOKENS,
    "gen_ai.usage.prompt_tokens": semconv.USAGE_INPUT_TOKENS,
    "gen_ai.usage.completion_tokens": semconv.USAGE_OUTPUT_TOKENS,
}
"""What others call what the conventions have a name for."""


def told(span: ReceivedSpan) -> ReceivedSpan:
    """The span with what it says in another's names said in the conventions' too; itself if there is nothing."""
    added = _added(span.attributes)
    return replace(span, attributes={**added, **span.attributes}) if added else span


def _added(attributes: Attributes) -> dict[str, Any]:
    added = {NAMES[name]: value for name, value in attributes.items() if name in NAMES}
    if semconv.OPERATION_NAME not in attributes and _is_model_call(attributes):
        added[semconv.OPERATION_NAME] = "chat"
    return added


def _is_model_call(attributes: Attributes) -> bool:
    return attributes.get("openinference.span.kind") == "LLM" or "llm.request.type" in attributes
