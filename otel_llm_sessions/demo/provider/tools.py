"""Which tool the model calls, and with which arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otel_llm_sessions.demo.provider.errors import ApiError
from otel_llm_sessions.demo.provider.schema import Example
from otel_llm_sessions.demo.provider.text import answer, entries, plain_text

WEATHER = "weather"
PLACES = frozenset({"city", "location", "place", "town"})
SENTENCES = frozenset({"answer", "text", "content", "summary", "description", "explanation"})
# A capitalised word that does not begin the text.
NAME = re.compile(r"(?<=\w )[A-Z]\w+")
OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output", "tool_search_output"})


@dataclass(frozen=True)
class ToolCall:
    """A function to call, its arguments as JSON text."""

    name: str
    arguments: str


def word(name: str, text: str) -> str:
    """The text of a property: a name out of the user's text, a sentence, or the property's own name."""
    if name in SENTENCES:
        return answer(text)
    found = NAME.search(text)
    return found.group() if found else ("Paris" if name in PLACES else name)


def example(schema: Any, text: str) -> str:
    """The smallest JSON text the schema accepts, with words from the user's text; ApiError if it is no schema."""
    try:
        return json.dumps(Example(schema, lambda name: word(name, text)).value())
    except (AttributeError, TypeError, ValueError) as error:
        raise ApiError(400, f"Invalid schema: {error}", code="invalid_json_schema") from error


def wanted_calls(body: Mapping[str, Any], history: Any, text: str) -> list[ToolCall]:
    """The calls the model makes: of the tool that the request insists on, or of the first when it is about weather."""
    functions = [found for found in map(function, entries(body.get("tools"))) if found is not None]
    choice = body.get("tool_choice")
    insists = choice == "required" or isinstance(choice, Mapping)
    about_weather = choice != "none" and WEATHER in text.lower() and not ends_with_output(history)
    if not functions or not (insists or about_weather):
        return []
    chosen = named(functions, choice)
    return [ToolCall(str(chosen.get("name")), example(chosen.get("parameters") or {"type": "object"}, text))]


def function(tool: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The function a tool describes, in chat's form or in that of responses; None for other kinds of tools."""
    inner = tool.get("function", tool)
    return inner if tool.get("type") == "function" and isinstance(inner, Mapping) else None


def named(functions: list[Mapping[str, Any]], choice: Any) -> Mapping[str, Any]:
    """The function the choice names, else the first."""
    wanted = (function(choice) or {}).get("name") if isinstance(choice, Mapping) else None
    return next((found for found in functions if found.get("name") == wanted), functions[0])


def ends_with_output(history: Any) -> bool:
    """Whether the newest entry is what a tool gave back."""
    last: Mapping[str, Any] = next(reversed(entries(history)), {})
    return last.get("role") == "tool" or last.get("type") in OUTPUTS


def tool_output(history: Any) -> str:
    """What a tool gave back at the very end, as text."""
    return plain_text(entries(history)[-1]) if ends_with_output(history) else ""
