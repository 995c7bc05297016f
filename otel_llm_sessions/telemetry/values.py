"""Values that others fill in, made fit for an attribute or a metric: the one place where they are bounded and cleaned.

A server, a visitor or a store may send anything. What OTLP cannot carry must not get near a span: a number beyond 64
bits or text with a lone surrogate in a name costs the whole batch (opentelemetry-exporter-otlp-proto-common 1.45).
"""

from __future__ import annotations

import re
from typing import Any, Final

from otel_llm_sessions.guard import pass_on

MAX_COUNT: Final = 2**53
"""The largest count that is recorded: JSON's whole numbers go no further on most readers."""

MAX_TEXT: Final = 256
"""Characters of a name, a reason or a code."""

REPLACEMENT: Final = "\ufffd"
"""What stands where a text had something that no attribute can hold."""

OTHER: Final = "_OTHER"
"""What the conventions have for an error that has no short name; here also for a value past the bounds."""

INT64: Final = 2**63

_ERROR_TYPE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def count_of(value: Any) -> int | None:
    """Return a whole number from 0 to 2^53; None for anything else, ``True`` and 5.0 included."""
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None


def text_of(value: Any, limit: int = MAX_TEXT) -> str | None:
    """Return a text that fits an attribute; None for an empty one and for what is no string.

    Args:
        value: anything. A string of a subclass (an enum's member) counts as the plain string that it is.
        limit: characters that are kept.
    """
    if type(value) is str and value.isascii() and len(value) <= limit and "\0" not in value:  # nearly all
        return value or None
    if not isinstance(value, str):
        return None
    value = str.__str__(value)[:limit].replace("\0", REPLACEMENT)  # databases behind a backend take none
    return encodable(value) or None


def encodable(text: str) -> str:
    """Return a text that UTF-8 can hold: what has lone surrogates gets replacement characters for them."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        pass_on(error)
        # Two halves that belong together become the character that they are; a lone one the replacement character.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def texts_of(values: Any, most: int) -> tuple[str, ...] | None:
    """Return the first ``most`` texts of a list of nothing but strings; None for anything else, or an empty list."""
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values[:most]):
        return None
    return tuple(filter(None, map(text_of, values[:most]))) or None


def double_of(value: Any) -> float | None:
    """Return a number as a double; None for what is no number, or too large for one."""
    if type(value) is float:
        return value
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError as error:
        pass_on(error)
        return None


def int64_of(value: Any) -> int | None:
    """Return a whole number that 64 bits hold; None for anything else."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    number = int.__index__(value)  # an enum's member is the number that it is
    return number if -INT64 <= number < INT64 else None


def asked_count_of(value: Any) -> int | None:
    """Return a count that the application asks for, where 5.0 means 5; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    number = int64_of(value)
    return None if number is None else count_of(number)


def error_code_of(code: Any) -> str | None:
    """Return a code that a server sent, if it may be an ``error.type``: up to 64 characters of ``[A-Za-z0-9._-]``."""
    number = int64_of(code)
    if number is not None:
        return str(number)
    return str.__str__(code) if isinstance(code, str) and _ERROR_TYPE.fullmatch(code) else None


def error_type_of(error: BaseException) -> str:
    """Return ``error.type`` of an exception: the full name of its class, else the bare one, or OTHER."""
    kind = type(error)
    full = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return error_code_of(full) or error_code_of(kind.__name__) or OTHER
