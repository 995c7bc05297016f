"""What a reply says that it used, as attributes: counts as they were sent, by tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from otel_llm_sessions import semconv
from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.fields import Fields, fields_of
from otel_llm_sessions.telemetry.values import MAX_COUNT, count_of

INPUT_DETAILS: Final = {
    "cached_tokens": semconv.USAGE_CACHE_READ_INPUT_TOKENS,
    "cache_write_tokens": semconv.USAGE_CACHE_WRITE_INPUT_TOKENS,
    "text_tokens": semconv.USAGE_TEXT_INPUT_TOKENS,
    "audio_tokens": semconv.USAGE_AUDIO_INPUT_TOKENS,
    "image_tokens": semconv.USAGE_IMAGE_INPUT_TOKENS,
}
OUTPUT_DETAILS: Final = {
    "reasoning_tokens": semconv.USAGE_REASONING_OUTPUT_TOKENS,
    "text_tokens": semconv.USAGE_TEXT_OUTPUT_TOKENS,
    "audio_tokens": semconv.USAGE_AUDIO_OUTPUT_TOKENS,
    "image_tokens": semconv.USAGE_IMAGE_OUTPUT_TOKENS,
}
CACHED_DETAILS: Final = {
    "text_tokens": semconv.USAGE_TEXT_CACHE_READ_INPUT_TOKENS,
    "audio_tokens": semconv.USAGE_AUDIO_CACHE_READ_INPUT_TOKENS,
    "image_tokens": semconv.USAGE_IMAGE_CACHE_READ_INPUT_TOKENS,
}
CACHED: Final = "cached_tokens_details"
DETAIL_NAMES: Final = (*INPUT_DETAILS, *OUTPUT_DETAILS, CACHED)

NAMES: Final = {
    "chat_completions": ("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details"),
    "responses": ("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details"),
}
"""The fields of a usage: how many tokens went in and came out, and which of them were what."""

USAGE: Final = {api: Fields(*names) for api, names in NAMES.items()}
"""Reads them, whatever the usage is made of."""


Tokens: TypeAlias = tuple[int | None, int | None]
"""How many went in and came out; None where that is not known."""

NO_TOKENS: Final[Tokens] = (None, None)


def add_usage(attributes: dict[str, Any], usage: Any, api: str) -> Tokens:
    """Add token counts as they were sent, and return input and output; what is missing or no count is left out.

    Of the details (cached, reasoning, by modality) the conventions ask "when applicable": a zero is left out too.
    """
    try:
        said, (tokens_in, tokens_out, details_in, details_out) = usage.__dict__, NAMES[api]
        input_tokens, output_tokens = said[tokens_in], said[tokens_out]
        input_details, output_details = said[details_in], said[details_out]
        # Most details are zero, or not there, which is seen before they are read one by one.
        if input_details is not None and not any(input_details.__dict__.values()):
            input_details = input_details.__pydantic_extra__
        if output_details is not None and not any(output_details.__dict__.values()):
            output_details = output_details.__pydantic_extra__
    except (AttributeError, KeyError, TypeError) as odd:  # not as the newest client has it
        pass_on(odd)
        input_tokens, output_tokens, input_details, output_details = USAGE[api].of(usage)
    if type(input_tokens) is int and 0 <= input_tokens <= MAX_COUNT:  # as ``count_of``, without a call
        attributes[semconv.USAGE_INPUT_TOKENS] = input_tokens
    else:
        input_tokens = None
    if type(output_tokens) is int and 0 <= output_tokens <= MAX_COUNT:
        attributes[semconv.USAGE_OUTPUT_TOKENS] = output_tokens
    else:
        output_tokens = None
    if input_details:
        _add_details(attributes, input_details, INPUT_DETAILS)
    if output_details:
        _add_details(attributes, output_details, OUTPUT_DETAILS)
    return input_tokens, output_tokens


def _add_details(attributes: dict[str, Any], details: Any, counts: Mapping[str, str]) -> None:
    for name, count in fields_of(details, DETAIL_NAMES).items():
        if not count:
            continue
        if name in counts:
            if (known := count_of(count)) is not None:
                attributes[counts[name]] = known
        elif name == CACHED and counts is INPUT_DETAILS:
            _add_details(attributes, count, CACHED_DETAILS)
