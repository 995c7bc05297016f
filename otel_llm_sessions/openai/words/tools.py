"""Definitions of tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_llm_sessions.openai.words.media import bare
from otel_llm_sessions.openai.words.plain import Json, fields_in, plain, text_in

SECRETS: Final = frozenset({"headers", "authorization", "domain_secrets", "api_key", "access_token", "env"})
"""Fields of server tools that hold credentials, or may."""

_WRITTEN: Final = ("function", "custom")
"""Kinds that the application wrote itself: chat has what they are in a field of that name, Responses has it beside."""


def tool_of(value: Any) -> Json:
    """Return the definition of a tool, whichever API it is for."""
    said = fields_in(value)
    if said is None:
        return {"type": "generic", "name": "generic", "content": plain(value)}
    kind = text_in(said.get("type"))
    for name in _WRITTEN:
        if (inner := fields_in(said.get(name))) is not None and kind in (name, None):
            return _written(name, inner)
    return _written(kind, said) if kind in _WRITTEN else _served(kind, said)


def function_of(value: Any) -> Json:
    """Return the definition of one of the ``functions`` of the API before there were tools."""
    said = fields_in(value)
    return tool_of(value) if said is None else _written("function", said)


def _written(kind: str | None, said: Mapping[Any, Any]) -> Json:
    definition: Json = {"type": kind or "generic", "name": text_in(said.get("name")) or ""}
    for name in said:
        if type(name) is str and name not in definition and said[name] is not None:
            definition[name] = plain(said[name])
    return definition


def _served(kind: str | None, said: Mapping[Any, Any]) -> Json:
    """Return the definition of a tool that the server has, or a group of tools."""
    definition: Json = {"type": kind or "generic", "name": ""}
    for name, value in said.items():
        if type(name) is not str or name == "type" or value is None or name.lower() in SECRETS:
            continue
        if name == "tools" and isinstance(value, (list, tuple)):
            definition[name] = [tool_of(each) for each in value]
        elif name.endswith("url") and (url := text_in(value)):
            definition[name] = bare(url)
        else:
            definition[name] = plain(value, SECRETS)
    named = text_in(said.get("name")) or text_in(said.get("server_label"))
    definition["name"] = named or kind or "generic"
    return definition
