"""What a reply says that it used, as attributes: counts as they were sent, by tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_llm_sessions import semconv
from otel_llm_sessions.openai.fields import fields_of, getter_of
from otel_llm_sessions.telemetry.values import count_of

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

USAGE_COUNTS: Final = {
    "chat_completions": (
        ("prompt_tokens", semconv.USAGE_INPUT_TOKENS),
        ("completion_tokens", semconv.USAGE_OUTPUT_TOKENS),
    ),
    "responses": (
        ("input_tokens", semconv.USAGE_INPUT_TOKENS),
        ("output_tokens", semconv.USAGE_OUTPUT_TOKENS),
    ),
}
USAGE_DETAILS: Final = {
    "chat_completions": (
        ("prompt_tokens_details", INPUT_DETAILS),
        ("completion_tokens_details", OUTPUT_DETAILS),
    ),
    "responses": (
        ("input_tokens_details", INPUT_DETAILS),
        ("output_tokens_details", OUTPUT_DETAILS),
    ),
}


def add_usage(attributes: dict[str, Any], usage: Any, api: str) -> None:
    """Add token counts as they were sent; what is missing or no count is left out.

    Of the details (cached, reasoning, by modality) the conventions ask "when applicable": a zero is left out too.
    """
    get = getter_of(usage)
    for name, attribute in USAGE_COUNTS[api]:
        count = get(name)
        if count is not None and (count := count_of(count)) is not None:
            attributes[attribute] = count
    for name, counts in USAGE_DETAILS[api]:
        details = get(name)
        if details is not None:
            _add_details(attributes, details, counts)


def _add_details(attributes: dict[str, Any], details: Any, counts: Mapping[str, str]) -> None:
    # Most are zero, or not there: that is told first.
    for name, count in fields_of(details, DETAIL_NAMES).items():
        if not count:
            continue
        if name in counts:
            if (known := count_of(count)) is not None:
                attributes[counts[name]] = known
        elif name == CACHED and counts is INPUT_DETAILS:
            _add_details(attributes, count, CACHED_DETAILS)
