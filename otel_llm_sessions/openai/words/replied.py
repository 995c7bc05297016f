"""What a reply says: its messages, as far as they have come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from otel_llm_sessions.openai.fields import field, items_of
from otel_llm_sessions.openai.pieces import Pieces
from otel_llm_sessions.openai.response import Reply
from otel_llm_sessions.openai.words.events import Events
from otel_llm_sessions.openai.words.items import ASSISTANT, item_of
from otel_llm_sessions.openai.words.messages import message_of, odd_message
from otel_llm_sessions.openai.words.plain import Json, fields_in, safely

REASONS: Final = {"tool_calls": "tool_call", "function_call": "tool_call"}
"""Finish reasons that the conventions have another word for."""


def replied(reply: Reply) -> list[Json]:
    """Return the output messages of a reply that was made with ``is_recorded``, as far as it has been read.

    Of chat one for each choice, of a response one with what all its items say. Each has a ``finish_reason`` where the
    server named one; what was cut short has ``error``, once ``Reply.cut_short`` has been called. When it is to be read:
    at the end of the call, before the application has a whole reply in hand, which it may change.

    Args:
        reply: what is known of it: whole, in pieces, or nothing but an error.
    """
    if reply.route.api == "responses":
        return _of_a_response(reply)
    if isinstance(reply.pieces, Pieces) and (pieces := reply.pieces.so_far()):
        return [_with_reason(safely(_put_together, said, odd_message), reply, index) for index, said in pieces]
    choices = enumerate(items_of(reply.kept.get("choices")))
    return [
        _with_reason(safely(_message_in, choice, odd_message), reply, _index_of(choice, place))
        for place, choice in choices
    ]


def _message_in(choice: Any) -> Json:
    """Return the message of a choice; of one that says none there are no parts."""
    said = fields_in(choice)
    if said is None:
        return message_of(choice, ASSISTANT)
    message = said.get("message")
    if message is None:  # what servers send that have only streams
        message = said.get("delta")
    return message_of({} if message is None else message, ASSISTANT)


def _index_of(choice: Any, place: int) -> int:
    index = field(choice, "index")
    return index if type(index) is int else place


def _of_a_response(reply: Reply) -> list[Json]:
    items = output_of(reply)
    if not items:
        return []
    parts = [part for item in items for part in safely(_item_in, item, odd_message)["parts"]]
    return [_with_reason({"role": ASSISTANT, "parts": parts}, reply, 0)]


def output_of(reply: Reply) -> Sequence[Any]:
    """Return the output items of a response, as far as they have come, as the server sent them."""
    whole = items_of(reply.kept.get("output"))
    heard = reply.pieces.items() if isinstance(reply.pieces, Events) else []
    # Some gateways end a stream with a response that has no output.
    return whole if len(whole) >= len(heard) else heard


def _item_in(item: Any) -> Json:
    return item_of(item, ASSISTANT)


def _with_reason(message: Json, reply: Reply, index: int) -> Json:
    reason = reply.choices.get(index)
    if reason is not None:
        message["finish_reason"] = REASONS.get(reason, reason)
    return message


def _put_together(said: dict[str, Any]) -> Json:
    """Return a message whose content, or whose reasoning, is a list of pieces."""
    content = said["content"]
    if all(type(piece) is str for piece in content):
        said = {**said, "content": "".join(content)}
    message = message_of(said, ASSISTANT)
    message["parts"] = [*_joined(message["parts"])]
    return message


def _joined(parts: Iterable[Json]) -> Iterator[Json]:
    """Yield parts, of which those that are pieces of one text are one."""
    texts: list[str] = []
    kind = ""
    for part in parts:
        is_text = len(part) == 2 and part["type"] in ("text", "reasoning")
        if texts and (not is_text or part["type"] != kind):
            yield {"type": kind, "content": "".join(texts)}
            texts.clear()
        if is_text:
            kind = part["type"]
            texts.append(part["content"])
        else:
            yield part
    if texts:
        yield {"type": kind, "content": "".join(texts)}
