"""Text that came from spans, made harmless to a terminal: nothing in it moves the cursor, colours or turns around."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

JOINERS: Final = "\u200c\u200d"
"""Without these, Persian words and many emoji fall apart; they move nothing."""
TAB: Final = "    "
BEYOND_ASCII: Final = re.compile("[^\x00-\x7e]+")
NEW_LINES: Final = re.compile(r"\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")


class _Shown(dict[int, str]):
    """What stands for a character, as ``str.translate`` asks for it: itself, a space, or its escape."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        kept = (
            char if char.isprintable() or char in JOINERS else " " if char.isspace() and code > 127 else _escape(code)
        )
        self[code] = kept
        return kept


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_SHOWN: Final = _Shown({**{ord(char): f"\\u{ord(char):04x}" for char in "\u2028\u2029"}, 0x85: "\\x85"})
_SHOWN.update({ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"})


def printable(said: object) -> str:
    """Return what was said on one line: characters that do something rather than show something as their escapes.

    Args:
        said: any value of any span; what is no string is shown as Python's ``str`` does.
    """
    text = said if isinstance(said, str) else str(said)
    return text if text.isprintable() else text.translate(_SHOWN)


def printable_lines(said: str) -> list[str]:
    """Return the lines of a text, each harmless as :func:`printable` makes it; tabs become spaces."""
    return [printable(line.replace("\t", TAB)) for line in NEW_LINES.split(said)]


def json_text(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON in plain ASCII: harmless to every terminal, whole in every encoding.

    Args:
        value: what JSON knows; a number that is none (NaN) or too great becomes null.
        indent: spaces per level; None for one line.
    """
    try:
        text = json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=indent)
    return escaped(text)


def escaped(text: str) -> str:
    """Return JSON in plain ASCII: every other character inside it as an escape of JSON's own."""
    return BEYOND_ASCII.sub(_escapes, text)


def _escapes(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1].replace("\x7f", "\\u007f")  # which JSON itself leaves as it is


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
