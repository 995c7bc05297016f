"""The events that stream a response."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from otel_llm_sessions.demo.provider.reply import Json
from otel_llm_sessions.demo.provider.responses import unfinished
from otel_llm_sessions.demo.provider.text import pieces


def events(made: Json) -> list[Json]:
    """Every event of the finished response's stream, numbered from 0."""
    return [{**event, "sequence_number": number} for number, event in enumerate(unnumbered(made))]


def events_after(made: Json, number: int) -> list[Json]:
    """The events after the one with this number."""
    return [event for event in events(made) if event["sequence_number"] > number]


def unnumbered(made: Json) -> Iterator[Json]:
    """The events from `response.created` to the one that says how it ended."""
    first = "queued" if made["background"] else "in_progress"
    yield {"type": "response.created", "response": unfinished(made, first)}
    if first == "queued":
        yield {"type": "response.queued", "response": unfinished(made, first)}
    yield {"type": "response.in_progress", "response": unfinished(made, "in_progress")}
    for index, item in enumerate(made["output"]):
        yield from item_events(item, index)
    yield {"type": f"response.{made['status']}", "response": made}


def item_events(item: Json, index: int) -> Iterator[Json]:
    """An output item: that it begins, what is in it, that it is done."""
    filled, inner = BEGUN.get(item["type"], ({}, nothing_between))
    yield {"type": "response.output_item.added", "output_index": index, "item": {**item, **filled}}
    for event in inner(item):
        yield {**event, "item_id": item["id"], "output_index": index}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def message_events(item: Json) -> Iterator[Json]:
    """A message's text, word by word."""
    (part,) = item["content"]
    at = {"content_index": 0}
    yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
    for word in pieces(part["text"]):
        yield {"type": "response.output_text.delta", **at, "delta": word, "logprobs": []}
    yield {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": part}


def function_call_events(item: Json) -> Iterator[Json]:
    """A function call's arguments, piece by piece."""
    for piece in pieces(item["arguments"]):
        yield {"type": "response.function_call_arguments.delta", "delta": piece}
    yield {
        "type": "response.function_call_arguments.done",
        "name": item["name"],
        "arguments": item["arguments"],
    }


def nothing_between(item: Json) -> Iterator[Json]:
    """Nothing, of an item that comes as a whole."""
    yield from ()


BEGUN: Final[dict[str, tuple[Json, Callable[[Json], Iterator[Json]]]]] = {
    "message": ({"content": [], "status": "in_progress"}, message_events),
    "function_call": ({"arguments": "", "status": "in_progress"}, function_call_events),
}
"""By an item's type what it is while it has only begun, and the events until it is done."""
