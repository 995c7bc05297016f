"""Where the spans of model calls come from, and how another instrumentation's are recognised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import is_
from typing import Any, Final, TypeAlias

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, set_span_in_context

from otel_llm_sessions import semconv

UTIL_GENAI_INFERENCE = "opentelemetry.genai.client.inference.context"
UTIL_GENAI_FETCH = "opentelemetry.genai.client.fetch_response.context"
UTIL_GENAI = (UTIL_GENAI_INFERENCE, UTIL_GENAI_FETCH)
"""Context keys of opentelemetry-util-genai 1.3b0: set while a span of that kind is open."""

(SPAN_KEY,) = set_span_in_context(INVALID_SPAN, Context())
"""Context key of the current span."""

NOTHING_TAKEN: tuple[object, ...] = ()

IN_FLIGHT_KEY = "otel_llm_sessions.in_flight"
"""Context key that holds the ``InFlight`` of the innermost call."""


def is_model_call(attributes: Mapping[str, Any] | None) -> bool:
    """Whether a span with these attributes already stands for a call of a model."""
    if not attributes:
        return False
    return (
        attributes.get(semconv.OPERATION_NAME) in semconv.MODEL_OPERATIONS
        or attributes.get("openinference.span.kind") == "LLM"
        or attributes.get("llm.request.type") in {"chat", "completion"}
    )


InFlight: TypeAlias = tuple[Span | None, Span, tuple[object, ...], list[object]]
"""What a context says of the call of ours that is being made in it; its transport may make others.

The span of ours that is current, None if another instrumentation has one for the call; what was current around the
call; what stands for the call, or for one around it (spans and util-genai's data): no other call is theirs; what tells
the request that is being sent from others, empty when it is not any more. A plain tuple, since each call makes one.
"""

SPAN: Final = 0
AROUND: Final = 1
TAKEN: Final = 2
SENDING: Final = 3


def in_flight(context: Context, span: Span | None, around: Span, outer: Context, sending: list[object]) -> Context:
    """Return the context to send a call in.

    Args:
        context: where the call stands.
        span: its span; None if another instrumentation has one.
        around: the ambient span of the call.
        outer: the context in which it is made.
        sending: see ``InFlight``.
    """
    is_bare = not outer or (len(outer) == 1 and around is not INVALID_SPAN)  # as in most web requests
    if is_bare and span is not None:  # then there is nothing where the call stands but the span above
        return Context({IN_FLIGHT_KEY: (span, around, (around,) if outer else NOTHING_TAKEN, sending), SPAN_KEY: span})
    taken = _taken(around, outer) if outer else NOTHING_TAKEN
    # One new context for both values: it costs as much as all else here. The copy is a plain dict.
    values: dict[str, object] = context.copy()
    values[IN_FLIGHT_KEY] = (span, around, taken, sending)
    if span is not None:
        values[SPAN_KEY] = span
    return Context(values)


def _flight_in(context: Context) -> InFlight | None:
    return context.get(IN_FLIGHT_KEY)  # type: ignore[return-value]  # nobody else sets this key


def _taken(around: Span, outer: Context) -> tuple[object, ...]:
    before = _flight_in(outer)
    taken = (around,) if before is None else (around, *before[TAKEN])
    inference, fetch = outer.get(UTIL_GENAI_INFERENCE), outer.get(UTIL_GENAI_FETCH)
    return taken if inference is None and fetch is None else (*taken, inference, fetch)


def is_being_sent(context: Context, request: list[object]) -> bool:
    """Whether a call is one that is in flight: a client's own ``request`` may call ``request``, to try again."""
    flight = _flight_in(context)
    sent = () if flight is None else flight[SENDING]
    return len(sent) == len(request) and all(map(is_, sent, request))


def outside(context: Context, current: Span) -> tuple[Context, Span]:
    """Return a context and its current span, without the span of a call of ours that is in flight there."""
    flight = _flight_in(context)
    if flight is None or flight[SPAN] is not current:
        return context, current
    return set_span_in_context(flight[AROUND], context), flight[AROUND]


def is_owned(context: Context, current: Span) -> bool:
    """Whether another instrumentation already has a span for the call that is about to be made.

    Its span is the current one, or (util-genai) an ancestor of it; and stands for no call that is in flight there.
    """
    is_bare = len(context) == 1 and current is not INVALID_SPAN  # as in most web requests
    flight = None if is_bare else _flight_in(context)
    taken = () if flight is None else flight[TAKEN]
    if current.is_recording() and is_model_call(getattr(current, "attributes", None)) and not _is_among(current, taken):
        return True
    if is_bare:
        return False
    for key in UTIL_GENAI:  # no generator: this is asked at each call below a span
        data = context.get(key)
        if data is not None and not _is_among(data, taken):
            return True
    return False


def _is_among(one: object, others: tuple[object, ...]) -> bool:
    return any(one is other for other in others)


def annotate(context: Context, current: Span, attributes: Mapping[str, Any]) -> None:
    """Set attributes on the span that another instrumentation has for a call.

    Its own ``gen_ai.conversation.id`` and ``user.id`` are left as they are, and so is what it says itself that the call
    cost.

    util-genai copies what is in the data it keeps in the context onto its span, and onto its event, when the span
    ends; so they get there also where another span has become the current one.

    Args:
        context: the context in which the call was made.
        current: the span that is current there.
        attributes: what to set.
    """
    conversation = attributes.get(semconv.CONVERSATION_ID)
    has: Any = getattr(current, "attributes", None) or ()
    others = {
        name: value
        for name, value in attributes.items()
        if name != semconv.CONVERSATION_ID and (name != semconv.USER_ID or name not in has)
    }
    if semconv.USAGE_COST_AMOUNT in others and _is_priced(context, current):
        others = {name: value for name, value in others.items() if name not in semconv.COST_ATTRIBUTES}
    if current.is_recording():  # its owner may have ended it before the stream is read
        current.set_attributes(others)
        if conversation is not None and semconv.CONVERSATION_ID not in has:
            current.set_attribute(semconv.CONVERSATION_ID, conversation)
    for key in UTIL_GENAI:
        data: Any = context.get(key)
        if data is not None:
            data.attributes.update(others)
            # Among the attributes it would replace what the owner has; here what the owner has goes first.
            if conversation is not None and getattr(data, "conversation_id", conversation) is None:
                data.conversation_id = conversation


def _is_priced(context: Context, current: Span) -> bool:
    """Whether another instrumentation says itself what its call cost."""
    data: Iterator[Any] = (context.get(key) for key in UTIL_GENAI)
    said = (getattr(current, "attributes", None), *(getattr(each, "attributes", None) for each in data))
    return any(semconv.USAGE_COST_AMOUNT in attributes for attributes in said if attributes)
