"""The completion hook of opentelemetry-util-genai, where that is installed and its variable names one.

It gets whole contents, as that package's own values, and may leave references on the span and the event.
"""

from __future__ import annotations

import functools
import importlib
import keyword
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, make_dataclass
from typing import Any, Final, Protocol

from opentelemetry._logs import LogRecord
from opentelemetry.trace import Span

from otel_llm_sessions.guard import report_unquoted, say
from otel_llm_sessions.telemetry.content.values import Content, Json

VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK"

MODULE: Final = "opentelemetry.util.genai"

CLASSES: Final = {
    "text": "TextPart",
    "reasoning": "ReasoningPart",
    "tool_call": "ToolCallRequestPart",
    "tool_call_response": "ToolCallResponsePart",
    "server_tool_call": "ServerToolCallPart",
    "server_tool_call_response": "ServerToolCallResponsePart",
    "file": "FilePart",
    "uri": "UriPart",
    "compaction": "CompactionPart",
}
"""The classes of parts by their type (opentelemetry-util-genai 1.3b0); what says more, or is none, is generic."""


class Completed(Protocol):
    """What a completion hook is to those who call it."""

    def __call__(self, content: Content, span: Span | None, event: LogRecord | None) -> None:
        """Tell of a call that is complete."""
        ...


def completion_hook() -> Completed | None:
    """Return what calls the hook that the variable names; None where it names none, or none that can be loaded."""
    if not os.environ.get(VARIABLE, "").strip():
        return None
    try:
        types = importlib.import_module(f"{MODULE}.types")
        hook = importlib.import_module(f"{MODULE}.completion_hook").load_completion_hook()
    except ImportError:
        say(logging.WARNING, "%s is set, but opentelemetry-util-genai is not installed; it is not called", VARIABLE)
        return None
    except Exception as error:
        report_unquoted("load the completion hook", error)
        return None
    return None if type(hook).__name__ == "_NoOpCompletionHook" else _UtilGenaiHook(hook, types)


class _UtilGenaiHook:
    """Makes util-genai's values of a content."""

    def __init__(self, hook: Any, types: Any) -> None:
        self._hook = hook
        self._genai = types

    def __call__(self, content: Content, span: Span | None, event: LogRecord | None) -> None:
        """See ``Completed``."""
        types, parts = self._genai, self._parts
        self._hook.on_completion(
            inputs=[_made(types.InputMessage, message, parts=parts(message)) for message in _dicts(content.input)],
            outputs=[_made(types.OutputMessage, message, parts=parts(message)) for message in _dicts(content.output)],
            system_instruction=[self._part(part) for part in _dicts(content.system_instructions)],
            tool_definitions=[self._tool(tool) for tool in _dicts(content.tool_definitions)] or None,
            span=span,
            log_record=event,
        )

    def _parts(self, message: Mapping[str, Json]) -> list[Any]:
        parts = message.get("parts")
        return [self._part(part) for part in _dicts(parts if isinstance(parts, list) else ())]

    def _part(self, part: dict[str, Json]) -> Any:
        kind = part.get("type")
        known = getattr(self._genai, CLASSES.get(kind, ""), None) if isinstance(kind, str) else None
        if known is None or not part.keys() <= _names_of(known):
            return self._generic(part, "GenericPart")
        return _made(known, part)

    def _tool(self, tool: dict[str, Json]) -> Any:
        known = self._genai.FunctionToolDefinition
        if tool.get("type") == "function" and tool.keys() <= _names_of(known):
            return _made(known, tool)
        return self._generic(tool, "GenericToolDefinition")

    def _generic(self, said: dict[str, Json], name: str) -> Any:
        """Return a value with all that is said: the class itself knows little more than the type."""
        base = getattr(self._genai, name)
        known = {key: value for key, value in said.items() if key.isidentifier() and not keyword.iskeyword(key)}
        return _extended(base, tuple(sorted(known.keys() - _names_of(base))))(
            **{**dict.fromkeys(_names_of(base)), **known}
        )


def _dicts(values: Iterable[Json]) -> list[dict[str, Json]]:
    return [value for value in values if isinstance(value, dict)]


@functools.lru_cache(maxsize=64)
def _names_of(kind: Any) -> frozenset[str]:
    return frozenset(field.name for field in fields(kind))


@functools.lru_cache(maxsize=128)
def _extended(base: Any, names: tuple[str, ...]) -> Any:
    return make_dataclass(base.__name__, [(name, Any, None) for name in names], bases=(base,)) if names else base


def _made(kind: Any, said: Mapping[str, Json], **instead: Any) -> Any:
    """Return a value of a class of util-genai's, with None for what is not said."""
    names = _names_of(kind)
    given = {name: said.get(name) for name in names if name in said or name not in _optional(kind)}
    return kind(**{**given, **instead})


@functools.lru_cache(maxsize=64)
def _optional(kind: Any) -> frozenset[str]:
    return frozenset(
        field.name for field in fields(kind) if field.default is not MISSING or field.default_factory is not MISSING
    )
