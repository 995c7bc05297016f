"""What counts as an id or a name of the application's: bounded, printable text."""

from __future__ import annotations

import math
from typing import Any, Final, NoReturn

from otel_llm_sessions.guard import pass_on

MAX_LENGTH: Final = 256
"""Characters of a session's id, of its name, of a user and of a tag."""

_TOO_LARGE: Final = 10**MAX_LENGTH

_SHOWN: Final = 100
"""Characters of a wrong value that an error shows."""


def as_text(value: Any) -> str:
    """Return a number, or a string of a subclass (an enum's), as a plain string; an empty one for anything else."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool):
        return ""
    if isinstance(value, int):
        # Python refuses to write out very large numbers.
        return int.__repr__(value) if abs(value) < _TOO_LARGE else ""
    return float.__repr__(value) if isinstance(value, float) and math.isfinite(value) else ""


def is_id(text: str) -> bool:
    """Whether ``text`` can be an id: printable, of 1 to 256 characters, and not of blanks alone."""
    return 0 < len(text) <= MAX_LENGTH and text.isprintable() and not text.isspace()


def is_name(value: object) -> bool:
    """Whether ``value`` can be a name: a printable string of at most 256 characters."""
    return isinstance(value, str) and len(value) <= MAX_LENGTH and value.isprintable()


def shown(value: Any) -> str:
    """Return how an error shows a wrong value: in short, and whatever it is."""
    try:
        text = repr(value)
    except Exception as error:  # one of the application's own classes
        pass_on(error)
        text = type(value).__qualname__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def refuse(parameter: str, value: Any, allowed: str) -> NoReturn:
    """Say that a parameter's value is not valid, and what would be.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{parameter}={shown(value)} is not valid: expected {allowed}")
