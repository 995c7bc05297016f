"""How values are written on the page: numbers, times, costs, and texts of anybody's so that they hide nothing."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from markupsafe import Markup

from otel_llm_sessions.view.costs import Cost

MICROSECOND: Final = 1_000
MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
LATEST: Final = 253_402_300_799 * SECOND
"""The last second of the year 9999, after which ``datetime`` knows no time."""
UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))

ODD: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""What browsers show nothing for, or something that is not there: control characters and halves of pairs."""
DASH: Final = "\N{EN DASH}"
REPLACEMENT: Final = "\ufffd"
PICTURES: Final = 0x2400
"""Where Unicode has pictures of the control characters: ``␛`` for Escape."""


def visible(value: Any) -> Any:
    """Return a text with pictures in the place of what cannot be seen; anything else as it is.

    The page writes every value through this, so that no text can hide what stands in it.
    """
    if isinstance(value, str) and not isinstance(value, Markup) and ODD.search(value):
        return ODD.sub(_picture, value.replace("\r\n", "\n"))
    return value


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(PICTURES + code) if code < 32 else "\u2421" if code == 127 else REPLACEMENT


def number(value: int | float | None) -> str:
    """Write a number with its thousands grouped; a dash where it is unknown."""
    return DASH if value is None else f"{value:,}"


def cost(amount: float | None, currency: str | None) -> str:
    """Write what something cost, to the digits that matter; empty where that is unknown."""
    return "" if amount is None else str(Cost(amount, currency or ""))


def duration(nanoseconds: int) -> str:
    """Write how long something took, in the two units that matter: ``812 ms``, ``1.20 s``, ``3 min 12 s``."""
    if nanoseconds < MILLISECOND:
        return "0 ms" if nanoseconds <= 0 else "<1 ms"
    if nanoseconds < SECOND:
        return f"{nanoseconds // MILLISECOND} ms"
    if nanoseconds < 60 * SECOND:
        seconds = nanoseconds / SECOND
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    left = nanoseconds // SECOND
    written: list[str] = []
    for unit, size in UNITS:
        if left >= size or written:
            written.append(f"{left // size} {unit}" if left >= size else "")
            left %= size
    return " ".join(filter(None, written[:2]))


def at(nanoseconds: int) -> datetime:
    """Return a time in UTC, as near as ``datetime`` comes to it."""
    return BEGINNING + timedelta(microseconds=min(max(nanoseconds, 0), LATEST) // MICROSECOND)


def machine_time(nanoseconds: int) -> str:
    """Write a time for machines: RFC 3339 in UTC."""
    return at(nanoseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def people_time(nanoseconds: int) -> str:
    """Write a time for people, in UTC; the page's script writes it again in the reader's zone."""
    return f"{at(nanoseconds):%Y-%m-%d %H:%M:%S} UTC"


def shortened(text: str, most: int = 80) -> str:
    """Return the beginning of a text, in one line."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[:most].rstrip()}…"


def readable_json(text: str) -> str | None:
    """Return JSON of an object or array as people read it; None if the text is none."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return None


def raw(value: Any) -> str:
    """Write an attribute's value as it is: texts as they stand, all else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        return str(value)
