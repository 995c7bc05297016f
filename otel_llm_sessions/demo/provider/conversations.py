"""Conversations: what is said in them, and how it is listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.demo.provider.call import Call
from otel_llm_sessions.demo.provider.errors import ApiError, missing
from otel_llm_sessions.demo.provider.ids import hexadecimal
from otel_llm_sessions.demo.provider.memory import CAPACITY, Conversation
from otel_llm_sessions.demo.provider.reply import Json
from otel_llm_sessions.demo.provider.text import entries

PREFIX = "conv_"
PAGE = 20
MAX_ADDED = 20
"""How many items the API takes at a time."""


class Conversations:
    """The conversations made on this server."""

    def __init__(self) -> None:
        self._kept: Bounded[str, Conversation] = Bounded(CAPACITY)

    def make(self, call: Call) -> Json:
        """Start a conversation with the items given."""
        made = Conversation(hexadecimal("conv"), call.now, call.body.get("metadata") or {})
        made.items += added_items(call)
        self._kept[made.id] = made
        return made.document()

    def show(self, call: Call) -> Json:
        """One conversation."""
        return self.known(call.names["id"]).document()

    def update(self, call: Call) -> Json:
        """Replace a conversation's metadata."""
        found = self.known(call.names["id"])
        found.metadata = call.body.get("metadata") or {}
        return found.document()

    def delete(self, call: Call) -> Json:
        """Forget a conversation."""
        found = self.known(call.names["id"])
        self._kept.pop(found.id, None)
        return {"id": found.id, "object": "conversation.deleted", "deleted": True}

    def list_items(self, call: Call) -> Json:
        """A page of a conversation's items, newest first unless asked otherwise."""
        return page(self.known(call.names["id"]).items, call.request.query)

    def add_items(self, call: Call) -> Json:
        """Add items; the reply lists them."""
        talk, added = self.known(call.names["id"]), added_items(call)
        talk.items.extend(added)
        return listing(added, has_more=False)

    def show_item(self, call: Call) -> Json:
        """One item of a conversation."""
        _, item = self._item(call)
        return item

    def delete_item(self, call: Call) -> Json:
        """Forget an item; the reply is the conversation."""
        talk, item = self._item(call)
        talk.items.remove(item)
        return talk.document()

    def _item(self, call: Call) -> tuple[Conversation, Json]:
        talk = self.known(call.names["id"])
        found = [item for item in talk.items if item["id"] == call.names["item"]]
        if not found:
            raise missing("Item", call.names["item"])
        return talk, found[0]

    def known(self, identifier: str) -> Conversation:
        """The conversation; raises ApiError 404 when there is none of this id."""
        found = self._kept.get(identifier)
        if found is None:
            raise missing("Conversation", identifier)
        return found

    def named_by(self, argument: Any) -> Conversation | None:
        """The conversation a `conversation` argument names, as an id or an object.

        An id that is not of this API's form is some gateway's own and names nothing here. Raises ApiError 404 for
        one of the form that this server did not make.
        """
        identifier = conversation_id(argument)
        return self.known(identifier) if identifier and identifier.startswith(PREFIX) else None


def conversation_id(argument: Any) -> str | None:
    """The id in a `conversation` argument."""
    identifier = argument.get("id") if isinstance(argument, Mapping) else argument
    return identifier if isinstance(identifier, str) and identifier else None


def added_items(call: Call) -> list[Json]:
    """The items that a request adds; raises ApiError for more than the API takes."""
    items = input_items(call, call.body.get("items"))
    if len(items) > MAX_ADDED:
        raise ApiError(
            400, f"Too many items: at most {MAX_ADDED} at a time.", param="items", code="array_above_max_length"
        )
    return items


def input_items(call: Call, given: Any) -> list[Json]:
    """What a request puts in, as items with ids; text becomes a user's message."""
    said = [{"role": "user", "content": given}] if isinstance(given, str) else entries(given)
    return [input_item(call, item) for item in said]


def input_item(call: Call, item: Mapping[str, Any]) -> Json:
    """An item as the API remembers it: with an id, a type and a status, its text in parts."""
    kind = item.get("type") or "message"
    identifier = call.ids.item("msg" if kind == "message" else "fc")
    made: Json = {"id": identifier, "status": "completed", **item, "type": kind}
    if isinstance(made.get("content"), str):
        part = "output_text" if made.get("role") == "assistant" else "input_text"
        made["content"] = [{"type": part, "text": made["content"]}]
    return made


def page(items: list[Json], query: Mapping[str, str]) -> Json:
    """The page of the items (oldest first) that `order`, `after` and `limit` ask for."""
    ordered = items[:] if query.get("order") == "asc" else items[::-1]
    places = [place for place, item in enumerate(ordered, 1) if item["id"] == query.get("after")]
    rest = ordered[places[0] if places else 0 :]
    size = int(query["limit"]) if query.get("limit", "").isdigit() else PAGE
    return listing(rest[:size], has_more=len(rest) > size)


def listing(items: list[Json], has_more: bool) -> Json:
    """A list as the API gives it out."""
    ends = {"first_id": items[0]["id"] if items else None, "last_id": items[-1]["id"] if items else None}
    return {"object": "list", "data": items, "has_more": has_more, **ends}
