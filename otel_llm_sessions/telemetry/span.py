"""Where the spans of model calls come from, and how another instrumentation's are recognised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Tracer, TracerProvider

from otel_llm_sessions.telemetry import semconv
from otel_llm_sessions.version import __version__

SCOPE = "otel_llm_sessions"

UTIL_GENAI_INFERENCE = "opentelemetry.genai.client.inference.context"
UTIL_GENAI_FETCH = "opentelemetry.genai.client.fetch_response.context"
UTIL_GENAI = (UTIL_GENAI_INFERENCE, UTIL_GENAI_FETCH)
"""Context keys of opentelemetry-util-genai 1.3b0: set while a span of that kind is open."""


class TracerSource:
    """Hands out this package's tracer of the provider in force: given, or the global one, whenever it is set."""

    def __init__(self, provider: TracerProvider | None, on_provider: Callable[[TracerProvider], None]) -> None:
        self._given = provider
        self._on_provider = on_provider
        self.provider: TracerProvider = trace.NoOpTracerProvider()
        self._tracer: Tracer = trace.NoOpTracer()

    def get(self) -> Tracer:
        """Return the tracer; asked anew for every call, since a provider may be set late or replaced."""
        provider = self._given or trace.get_tracer_provider()
        if provider is not self.provider:
            self._tracer = provider.get_tracer(SCOPE, __version__, schema_url=semconv.SCHEMA_URL)
            self.provider = provider
            self._on_provider(provider)
        return self._tracer


def is_model_call(attributes: Mapping[str, Any] | None) -> bool:
    """Whether a span with these attributes already stands for a call of a model."""
    if not attributes:
        return False
    return (
        attributes.get(semconv.OPERATION_NAME) in semconv.MODEL_OPERATIONS
        or attributes.get("openinference.span.kind") == "LLM"
        or attributes.get("llm.request.type") in {"chat", "completion"}
    )


def is_owned(context: Context, current: Span) -> bool:
    """Whether another instrumentation already has a span for the call that is about to be made.

    Its span is the current one, or (util-genai) an ancestor of it.
    """
    if current.is_recording() and is_model_call(getattr(current, "attributes", None)):
        return True
    return any(context.get(key) is not None for key in UTIL_GENAI)


def annotate(context: Context, current: Span, attributes: Mapping[str, Any]) -> None:
    """Set attributes on the span that another instrumentation has for a call.

    Its own ``gen_ai.conversation.id`` is left as it is.

    util-genai copies what is in the data it keeps in the context onto its span, and onto its event, when the span
    ends; so they get there also where another span has become the current one.

    Args:
        context: the context in which the call was made.
        current: the span that is current there.
        attributes: what to set.
    """
    conversation = attributes.get(semconv.CONVERSATION_ID)
    others = {name: value for name, value in attributes.items() if name != semconv.CONVERSATION_ID}
    if current.is_recording():  # its owner may have ended it before the stream is read
        current.set_attributes(others)
        if conversation is not None and semconv.CONVERSATION_ID not in (getattr(current, "attributes", None) or ()):
            current.set_attribute(semconv.CONVERSATION_ID, conversation)
    for key in UTIL_GENAI:
        data: Any = context.get(key)
        if data is not None:
            data.attributes.update(others)
            # Among the attributes it would replace what the owner has; here what the owner has goes first.
            if conversation is not None and getattr(data, "conversation_id", conversation) is None:
                data.conversation_id = conversation
