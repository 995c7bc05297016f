"""Two people who talk at the same time: what the scenarios share, whatever framework they are written with.

A scenario is a function with `@scenario`, named on the command line; `small_talk` after it asks no tool. It takes the
turns from `interleaved()`, or each person's from `turns_of(person)`; whose turn it is stands on every span that starts
meanwhile, beside what the package under test finds out, so that the test can compare. Nothing of this is seen on the
wire.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor

PERSON = "test.person"
PEOPLE = ("ann", "bob")
MODEL = "gpt-4.1"
# Both say the same, as strangers do: only what ties their calls can tell them apart. The model asks a tool about the
# weather (`demo/provider/tools.py`), so three turns are five calls.
TEXTS = ("What is the weather in Lisbon today?", "And the weather in Porto?", "Thank you, that helps.")
# Where nothing but words comes back, those who say the same cannot be told apart.
SMALL_TALK = ("Hello, I am {person}.", "Tell me a joke.", "Thank you, that helps.")

_speaking: ContextVar[str | None] = ContextVar("speaking", default=None)
_scenarios: dict[str, Callable[[], Any]] = {}


class Speaker(SpanProcessor):
    """Writes on each span whose turn it was when it started."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if person := _speaking.get():
            span.set_attribute(PERSON, person)


def interleaved() -> Iterator[tuple[str, str]]:
    """The turns of all, one of each person after the other."""
    for text in texts():
        for person in PEOPLE:
            _speaking.set(person)
            yield person, text.format(person=person)
    _speaking.set(None)


def turns_of(person: str) -> Iterator[str]:
    """One person's turns, for tasks and threads that talk at the same time."""
    for text in texts():
        _speaking.set(person)
        yield text.format(person=person)
    _speaking.set(None)


def texts() -> tuple[str, ...]:
    """What is said in each turn."""
    return SMALL_TALK if sys.argv[2:] == ["small_talk"] else TEXTS


def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"It is sunny in {city}."


def scenario(function: Callable[[], Any]) -> Callable[[], Any]:
    """Make the function known by its name."""
    _scenarios[function.__name__] = function
    return function


def main() -> None:
    """Play the scenario that the command line names."""
    provider: Any = trace.get_tracer_provider()
    provider.add_span_processor(Speaker())
    played = _scenarios[sys.argv[1]]()
    if inspect.isawaitable(played):
        asyncio.run(_waited_for(played))


async def _waited_for(played: Any) -> None:
    await played
