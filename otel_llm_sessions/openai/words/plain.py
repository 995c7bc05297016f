"""Values of bodies and replies as plain JSON, whatever they are made of; binary data stays where it is."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from otel_llm_sessions.guard import pass_on

Json: TypeAlias = dict[str, Any]
"""A message, a part or a tool's definition in the conventions' form."""

CONVENTIONS: Final = frozenset(
    {
        "text",
        "tool_call",
        "tool_call_response",
        "server_tool_call",
        "server_tool_call_response",
        "blob",
        "file",
        "uri",
        "reasoning",
        "compaction",
    }
)
"""Kinds of parts that the conventions say the fields of."""

DEEPEST: Final = 64
LONG: Final = 1024
"""Characters of a text from which on it is looked at whether it is binary data."""

_LOOKED_AT: Final = 256
_BASE64: Final = re.compile(r"(?=.*[A-Z])(?=.*[a-z])(?=.*[0-9])[A-Za-z0-9+/_-]+={0,2}")

NONE: Final[frozenset[str]] = frozenset()


def fields_in(value: Any) -> Mapping[Any, Any] | None:
    """Return the fields of a dict, of another mapping or of a model that are not None; None of what has no fields."""
    if type(value) is dict:
        return value
    if isinstance(value, Mapping):
        return dict(value)
    try:
        extra, fields = value.__pydantic_extra__, value.__dict__
    except AttributeError as error:
        pass_on(error)
        return None
    if type(value) is type or not isinstance(fields, dict):
        return None
    # What a model does not know is in pydantic's extras.
    return {name: said for name, said in {**(extra or {}), **fields}.items() if said is not None}


def plain(value: Any, without: frozenset[str] = NONE, within: tuple[int, ...] = ()) -> Any:
    """Return a value as plain JSON.

    Args:
        value: anything; of what JSON has not only its type is told, of binary data only its size.
        without: names of fields that are left out, at whatever depth.
        within: the identities of what it lies in.
    """
    kind = type(value)
    if kind is str:
        return value if len(value) < LONG else _long(value)
    if value is None or kind is int or kind is bool:
        return value
    if kind is float:
        return value if math.isfinite(value) else str(value)
    return _nested(value, without, within)


def _nested(value: Any, without: frozenset[str], within: tuple[int, ...]) -> Any:
    if len(within) == DEEPEST or id(value) in within:
        return "..."
    within = (*within, id(value))
    if isinstance(value, (list, tuple)):
        return [plain(each, without, within) for each in value]
    fields = fields_in(value)
    if fields is not None:
        return {
            _name(name): plain(said, without, within) for name, said in fields.items() if _name(name) not in without
        }
    for kind, exact in _EXACT:
        if isinstance(value, kind):
            return plain(exact(value), without, within)
    if isinstance(value, (bytes, bytearray)):
        return binary(len(value))
    return f"<{type(value).__name__}>"


_EXACT: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (str, str.__str__),
    (int, int.__index__),
    (float, float.__float__),
)
"""What makes a plain value of one of a class of the application's: of an enum's member, for one."""


def _name(name: Any) -> str:
    return name if type(name) is str else str(plain(name))


def _long(value: str) -> Any:
    start = value[:_LOOKED_AT]
    comma = start.find(";base64,") + len(";base64,") if start[:5].lower() == "data:" else 0
    if comma >= len(";base64,"):
        mime_type = start[5:].partition(";")[0] or None
        return binary(decoded_size(value, comma), mime_type)
    return binary(decoded_size(value)) if is_base64(value) else value


def binary(size: int, mime_type: str | None = None) -> Json:
    """Return what stands for binary data of unknown meaning; ``size`` in bytes."""
    return {"type": "blob", "modality": modality_of(mime_type, "binary"), "mime_type": mime_type, "size": size}


MODALITIES: Final = ("image", "audio", "video")


def modality_of(mime_type: str | None, otherwise: str) -> str:
    """Return the conventions' modality of a MIME type, ``otherwise`` where that is None."""
    if mime_type is None:
        return otherwise
    kind = mime_type.partition("/")[0].strip().lower()
    return kind if kind in MODALITIES else "document"


def is_base64(text: str) -> bool:
    """Whether a long text is binary data, by its beginning."""
    return len(text) >= LONG and _BASE64.fullmatch(text, 0, _LOOKED_AT) is not None


def decoded_size(text: str, start: int = 0) -> int:
    """Return how many bytes a text in base64 stands for, from its length: it is neither decoded nor copied."""
    end = len(text)
    breaks = 0
    if text.find("\n", start, start + _LOOKED_AT) >= 0:  # as ``base64.encodebytes`` and ``base64(1)`` write it
        breaks = text.count("\n", start) + text.count("\r", start)
    padding = text.count("=", max(start, end - 4))
    return max(0, end - start - breaks - padding) * 3 // 4


def safely(read: Callable[[Any], Json], value: Any, otherwise: Callable[[str], Json]) -> Json:
    """Return what becomes of one value; where it cannot be read, what there is for one of its type."""
    try:
        return read(value)
    except Exception as error:  # an object of the application's that is not what it looks like
        pass_on(error)
        return otherwise(f"<{type(value).__name__}>")


def text_in(value: Any) -> str | None:
    """Return a text as a plain string, None of what is none."""
    return value if type(value) is str else str.__str__(value) if isinstance(value, str) else None


def generic(value: Any, kind: str | None = None) -> Json:
    """Return the part that something becomes of which the conventions know nothing.

    Args:
        value: what a server or an application sent.
        kind: what it is, where it does not say so itself.
    """
    fields = fields_in(value)
    if fields is None:
        return {"type": _kind(kind), "content": plain(value)}
    return {**rest_of(fields), "type": _kind(text_in(fields.get("type")) or kind)}


def _kind(kind: str | None) -> str:
    return kind if kind and kind not in CONVENTIONS else "generic"


def rest_of(fields: Mapping[Any, Any], without: frozenset[str] = frozenset({"type"})) -> Json:
    """Return the fields that say something and are not among ``without``, as plain JSON."""
    return {_name(name): plain(said) for name, said in fields.items() if said is not None and name not in without}


def _finite(number: str) -> float | str:
    value = float(number)
    return value if math.isfinite(value) else number


_DECODE: Final = json.JSONDecoder(parse_constant=str, parse_float=_finite).decode


def arguments_of(value: Any) -> Any:
    """Return the arguments of a tool call: parsed where they are the JSON of an object or a list, else as they are."""
    text = text_in(value)
    if text is None:
        return plain(value)
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return _DECODE(text)
    except (ValueError, RecursionError) as error:  # cut short, or never JSON
        pass_on(error)
        return text
