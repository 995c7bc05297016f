"""Sessions that other instrumentations see: recorded by these themselves, as far as they are installed here."""

from __future__ import annotations

import os
from typing import Any
from unittest.mock import patch

import openai
from loopback_client import options_for
from openinference.instrumentation import (
    get_input_attributes,
    get_llm_attributes,
    get_output_attributes,
    get_session_attributes,
    get_span_kind_attributes,
    get_user_id_attributes,
)
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor as GenAI
from opentelemetry.instrumentation.openai import OpenAIInstrumentor as OpenLLMetry
from opentelemetry.sdk.trace import SpanProcessor

MODEL = "gpt-4o-mini"
LATEST = {
    "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
}


class Associated(SpanProcessor):
    """What traceloop-sdk sets on each span of a workflow."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        span.set_attribute("traceloop.workflow.name", "support")
        span.set_attribute("traceloop.association.properties.session_id", "openllmetry-1")
        span.set_attribute("traceloop.association.properties.user_id", "u-2")


def genai(stage: Any) -> dict[str, Any]:
    """OpenTelemetry's own instrumentation, inside an agent's span: the conversation is the provider's."""
    provider, instrumentor = stage.provider(), GenAI()
    with patch.dict(os.environ, LATEST), openai.OpenAI(**options_for(stage.server)) as client:
        instrumentor.instrument(tracer_provider=provider)
        try:
            talk = client.conversations.create(items=[]).id
            about = {"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": talk}
            with provider.get_tracer("agent").start_as_current_span("invoke_agent helper", attributes=about):
                replies = [client.responses.create(model=MODEL, input=f"Hello {at}", conversation=talk) for at in "ab"]
        finally:
            instrumentor.uninstrument()
    said = [
        [[["user", f"Hello {at}"]], [["assistant", one.output_text]]] for at, one in zip("ab", replies, strict=True)
    ]
    counts = [(one.usage.input_tokens, one.usage.output_tokens) for one in replies]
    return _book(talk, [one.id for one in replies], counts, said, parts=[])


def openllmetry(stage: Any) -> dict[str, Any]:
    """OpenLLMetry, inside a workflow."""
    provider, instrumentor = stage.provider(), OpenLLMetry()
    provider.add_span_processor(Associated())
    with openai.OpenAI(**options_for(stage.server)) as client:
        instrumentor.instrument(tracer_provider=provider)
        try:
            about = {"traceloop.span.kind": "workflow", "traceloop.entity.name": "support"}
            with provider.get_tracer("traceloop.sdk").start_as_current_span("support.workflow", attributes=about):
                replies = [
                    client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": f"Hello {at}"}])
                    for at in "ab"
                ]
        finally:
            instrumentor.uninstrument()
    texts = [one.choices[0].message.content for one in replies]
    said = [[[["user", f"Hello {at}"]], [["assistant", text]]] for at, text in zip("ab", texts, strict=True)]
    counts = [(one.usage.prompt_tokens, one.usage.completion_tokens) for one in replies]
    return _book("openllmetry-1", [one.id for one in replies], counts, said, user="u-2")


def openinference(stage: Any) -> dict[str, Any]:
    """OpenInference's attributes: a chain, an agent in it, and a model call in that; then a call alone."""
    tracer = stage.provider().get_tracer("openinference.instrumentation.langchain")
    around = {**get_session_attributes(session_id="openinference-1"), **get_user_id_attributes(user_id="u-3")}
    for at in (1, 2):
        asked, told = [{"role": "user", "content": f"Hello {at}"}], [{"role": "assistant", "content": f"Hi {at}"}]
        count = {"prompt": 10 * at, "completion": at, "total": 11 * at, "prompt_details": {"cache_read": 5}}
        model = get_llm_attributes(
            provider="openai",
            system="openai",
            model_name="gpt-4o-mini-2024-07-18",
            input_messages=asked,
            output_messages=told,
            token_count=count,
        )
        model = {**model, **get_input_attributes({"messages": asked}), **get_output_attributes(f"Hi {at}")}
        with tracer.start_as_current_span(
            "RunnableSequence", attributes={**around, **get_span_kind_attributes("chain")}
        ):
            with tracer.start_as_current_span("agent", attributes={**around, **get_span_kind_attributes("agent")}):
                said = {**around, **get_span_kind_attributes("llm"), **model}
                tracer.start_span("ChatOpenAI", attributes=said).end()
    words = [[[["user", f"Hello {at}"]], [["assistant", f"Hi {at}"]]] for at in (1, 2)]
    told = _book("openinference-1", [None, None], [(10, 1), (20, 2)], words, user="u-3")
    return {**told, "requests": ["RunnableSequence"] * 2}


def _book(id_: str, ids: list[Any], counts: list[tuple[int, int]], words: Any, **facts: Any) -> dict[str, Any]:
    turns = [
        {"response_id": response_id, "input_tokens": read, "output_tokens": written, "error": None}
        for response_id, (read, written) in zip(ids, counts, strict=True)
    ]
    sums = {"input_tokens": sum(read for read, _ in counts), "output_tokens": sum(written for _, written in counts)}
    return {"id": id_, "turns": turns, **sums, "words": words, **facts}


def others(stage: Any) -> list[dict[str, Any]]:
    """Sessions of OpenTelemetry's genai instrumentation, OpenLLMetry and OpenInference."""
    return [genai(stage), openllmetry(stage), openinference(stage)]
