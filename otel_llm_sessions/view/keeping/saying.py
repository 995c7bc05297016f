"""The words that spans and events carry, for those who look for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from otel_llm_sessions import semconv
from otel_llm_sessions.view.spans import Attributes

CONTENTS: Final = (semconv.INPUT_MESSAGES, semconv.OUTPUT_MESSAGES, semconv.SYSTEM_INSTRUCTIONS)
OTHERS: Final = ("llm.input_messages.", "llm.output_messages.", "gen_ai.prompt.", "gen_ai.completion.")
"""How the names of attributes begin in which other instrumentations record contents."""
NAMES: Final = frozenset({"role", "type", "id", "modality", "mime_type", "finish_reason"})
"""Keys in the conventions' messages whose values nobody said."""
MOST: Final = 1 << 16
"""Characters of one span that can be looked for."""
DEEPEST: Final = 12


def words_of(attributes: Attributes, body: Any = None) -> str:
    """What was said in a call, as one text; empty where no contents are recorded.

    Args:
        attributes: a span's or an event's.
        body: an event's body.
    """
    said: list[str] = []
    for name in CONTENTS:
        if name in attributes:
            said += _texts(_read(attributes[name]))
    said += [value for name, value in attributes.items() if name.startswith(OTHERS) and isinstance(value, str)]
    if isinstance(body, dict):
        said += _texts(body)
    # JSON may hold half a character ("\\ud83d"), which no database takes.
    return "\n".join(said)[:MOST].encode("utf-8", "replace").decode()


def _read(value: Any) -> Any:
    """The messages; what a backend or a limit has cut, as it stands there."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _texts(value: Any, deep: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and deep < DEEPEST:
        for key, each in value.items():
            if key not in NAMES:
                yield from _texts(each, deep + 1)
    elif isinstance(value, (list, tuple)) and deep < DEEPEST:
        for each in value:
            yield from _texts(each, deep + 1)
