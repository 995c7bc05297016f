"""What a call said: a value, in the JSON of the GenAI conventions."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from otel_llm_sessions.cheap import value

Json: TypeAlias = Any
"""What JSON can say: dicts, lists, strings, numbers, true, false and null."""

Extent = Literal["delta", "full"]
"""How much of a conversation's messages a turn records: what is new since the linked turn, or all."""


@value
class Content:
    """What a call said and what was answered."""

    input: list[Json]
    """The messages of the request."""
    output: list[Json]
    """The messages of the reply, one for each choice."""
    system_instructions: list[Json]
    """The parts of the instructions that are no message."""
    tool_definitions: list[Json]
    error: str | None = None
    """The server's words of an error."""


LISTS: Final = ("input", "output", "system_instructions", "tool_definitions")
PARTS: Final = (*LISTS, "error")
"""The names of its fields."""


def as_dict(content: Content) -> dict[str, Json]:
    """Return a content as hooks see it."""
    return {name: getattr(content, name) for name in PARTS}


def from_dict(said: dict[str, Json]) -> Content:
    """Return what a hook has made of a content; what it leaves out is not recorded.

    Raises:
        TypeError: it is not as hooks see one.
    """
    asked, answered, instructions, tools = (_list(said.get(name)) for name in LISTS)
    error = said.get("error")
    if not (error is None or isinstance(error, str)):
        raise TypeError("an error is a string")
    return Content(asked, answered, instructions, tools, error)


def _list(said: Json) -> list[Json]:
    if said is None:
        return []
    if not isinstance(said, list) or not all(isinstance(each, dict) for each in said):
        raise TypeError("messages, parts and tools are dicts, in lists")
    return said
