"""What a request asks of the model, as attributes: by tables, and only values of the type that the conventions give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from otel_llm_sessions import semconv
from otel_llm_sessions.guard import report
from otel_llm_sessions.sessions.names import returned_id_of
from otel_llm_sessions.telemetry.values import (
    asked_count_of,
    double_of,
    int64_of,
    text_of,
    texts_of,
)

MAX_STOPS: Final = 16
"""Stop sequences that are recorded; the API takes 4."""

MAX_MODALITIES: Final = 8

AUTO: Final = "auto"

COMPACTION: Final = "compaction"
"""The type of an item that stands for all of a conversation before it."""


def _service_tier_of(value: Any) -> str | None:
    # The conventions ask for the tier "if the request includes a service_tier and the value is not 'auto'".
    tier = text_of(value)
    return None if tier == AUTO else tier


PARAMETERS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "max_tokens": (semconv.REQUEST_MAX_TOKENS, asked_count_of),
    "max_completion_tokens": (semconv.REQUEST_MAX_TOKENS, asked_count_of),
    "max_output_tokens": (semconv.REQUEST_MAX_TOKENS, asked_count_of),
    "temperature": (semconv.REQUEST_TEMPERATURE, double_of),
    "top_p": (semconv.REQUEST_TOP_P, double_of),
    "top_k": (semconv.REQUEST_TOP_K, asked_count_of),
    "frequency_penalty": (semconv.REQUEST_FREQUENCY_PENALTY, double_of),
    "presence_penalty": (semconv.REQUEST_PRESENCE_PENALTY, double_of),
    "seed": (semconv.REQUEST_SEED, int64_of),
    "service_tier": (semconv.OPENAI_REQUEST_SERVICE_TIER, _service_tier_of),
    "reasoning_effort": (semconv.REQUEST_REASONING_LEVEL, text_of),
    "previous_response_id": (semconv.REQUEST_PREVIOUS_RESPONSE_ID, returned_id_of),
}
"""Parameters of the body that become one attribute each, and what makes the attribute's value of theirs.

``top_k`` is a whole number in the GenAI conventions since their own first release (0.1.0); it was a double before.
"""


def add_parameters(attributes: dict[str, Any], body: Mapping[str, Any]) -> None:
    """Add what the body says of the generation; wrong types, sentinels and what no attribute can hold are left out."""
    for name in body:
        if name in _KNOWN:
            try:
                if name in _SHAPED:
                    _SHAPED[name](attributes, body[name])
                    continue
                attribute, value_of = PARAMETERS[name]
                if (found := value_of(body[name])) is not None:
                    attributes[attribute] = found
            except Exception as error:  # a value whose own methods raise costs its attribute, not the span
                report("read a parameter", error)


def _stop(attributes: dict[str, Any], value: Any) -> None:
    stops = texts_of([value] if isinstance(value, str) else value, MAX_STOPS)
    if stops is not None:
        attributes[semconv.REQUEST_STOP_SEQUENCES] = stops


def _choice_count(attributes: dict[str, Any], value: Any) -> None:
    count = asked_count_of(value)
    if count is not None and count != 1:
        attributes[semconv.REQUEST_CHOICE_COUNT] = count


def _output_type(attributes: dict[str, Any], value: Any) -> None:
    kind = text_of(value.get("type") if isinstance(value, Mapping) else value)
    if kind is not None and attributes.get(semconv.OUTPUT_TYPE) not in OUTPUT_MODALITIES.values():
        attributes[semconv.OUTPUT_TYPE] = "json" if kind.startswith("json") else kind


OUTPUT_MODALITIES: Final = {"audio": "speech", "image": "image"}
"""``gen_ai.output.type`` by the modality that is asked for besides text."""

SPEECH: Final = OUTPUT_MODALITIES["audio"]


def _modalities(attributes: dict[str, Any], value: Any) -> None:
    asked = texts_of(value, MAX_MODALITIES)
    if asked is None:
        return
    kind = next((kind for modality, kind in OUTPUT_MODALITIES.items() if modality in asked), None)
    if kind is not None or attributes.get(semconv.OUTPUT_TYPE) in (None, SPEECH):
        attributes[semconv.OUTPUT_TYPE] = kind or "text"


def _audio(attributes: dict[str, Any], value: Any) -> None:
    # How speech is to sound; `modalities`, which comes later in a body, says whether there is to be any.
    if isinstance(value, Mapping):
        attributes.setdefault(semconv.OUTPUT_TYPE, SPEECH)


def _text_format(attributes: dict[str, Any], value: Any) -> None:
    if isinstance(value, Mapping) and "format" in value:
        _output_type(attributes, value["format"])


def _reasoning(attributes: dict[str, Any], value: Any) -> None:
    effort = text_of(value.get("effort")) if isinstance(value, Mapping) else None
    if effort is not None:
        attributes[semconv.REQUEST_REASONING_LEVEL] = effort


def _prompt(attributes: dict[str, Any], value: Any) -> None:
    for name, attribute in (("id", semconv.PROMPT_NAME), ("version", semconv.PROMPT_VERSION)):
        found = text_of(value.get(name)) if isinstance(value, Mapping) else None
        if found is not None:
            attributes[attribute] = found


def _input(attributes: dict[str, Any], value: Any) -> None:
    if type(value) is not str and isinstance(value, (list, tuple)):
        for item in value:
            if type(item) is dict and item.get("type") == COMPACTION:
                attributes[semconv.CONVERSATION_COMPACTED] = True
                return


_SHAPED: Final = {
    "input": _input,
    "stop": _stop,
    "n": _choice_count,
    "response_format": _output_type,
    "audio": _audio,
    "modalities": _modalities,
    "text": _text_format,
    "reasoning": _reasoning,
    "prompt": _prompt,
}
"""Parameters that are more than one value."""

_KNOWN: Final = frozenset({*PARAMETERS, *_SHAPED})
