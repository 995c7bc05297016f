"""The OpenAI API as a function from requests to replies: routes, and the handlers of chat and responses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.demo.provider import chat, responses
from otel_llm_sessions.demo.provider.call import Call
from otel_llm_sessions.demo.provider.conversations import Conversations, conversation_id, input_items, page
from otel_llm_sessions.demo.provider.errors import ApiError, missing, refusal
from otel_llm_sessions.demo.provider.events import events, events_after
from otel_llm_sessions.demo.provider.manner import Manner
from otel_llm_sessions.demo.provider.memory import CAPACITY, FETCHES, Conversation, StoredResponse
from otel_llm_sessions.demo.provider.models import embeddings, list_models, show_model
from otel_llm_sessions.demo.provider.reply import Json, Reply
from otel_llm_sessions.demo.provider.request import Request

# What may stand before a route: OpenAI's version, Azure's roots, or a gateway's.
PREFIX = re.compile(r"^(?:/api)?(?:/openai)?(?:/deployments/(?P<deployment>[^/]+)|/v1)?(?=/)")

NAMES = re.compile(r"\{(\w+)\}")
"""The parts of a route's path that vary."""


@dataclass(frozen=True)
class Stream:
    """Events to stream; `typed` ones are the Responses API's."""

    events: list[Json]
    typed: bool


Answer: TypeAlias = Json | Stream
Handler = Callable[[Call], Answer]


class OpenAIApi:
    """One server's API with all that it remembers; `manner` is how it answers."""

    def __init__(self, manner: Manner | None = None) -> None:
        self._manner = manner or Manner()
        self._responses: Bounded[str, StoredResponse] = Bounded(CAPACITY)
        self._conversations = Conversations()
        talks = self._conversations
        self._routes: tuple[tuple[str, re.Pattern[str], Handler], ...] = tuple(
            (method, re.compile(NAMES.sub(r"(?P<\1>[^/]+)", path)), handler)
            for method, path, handler in (
                ("POST", "/chat/completions", complete),
                ("POST", "/responses", self._respond),
                ("POST", "/responses/compact", self._compact),
                ("GET", "/responses/{id}", self._retrieve),
                ("DELETE", "/responses/{id}", self._delete),
                ("POST", "/responses/{id}/cancel", self._cancel),
                ("GET", "/responses/{id}/input_items", self._input_items),
                ("POST", "/conversations", talks.make),
                ("GET", "/conversations/{id}", talks.show),
                ("POST", "/conversations/{id}", talks.update),
                ("DELETE", "/conversations/{id}", talks.delete),
                ("GET", "/conversations/{id}/items", talks.list_items),
                ("POST", "/conversations/{id}/items", talks.add_items),
                ("GET", "/conversations/{id}/items/{item}", talks.show_item),
                ("DELETE", "/conversations/{id}/items/{item}", talks.delete_item),
                ("GET", "/models", list_models),
                ("GET", "/models/{id}", show_model),
                ("POST", "/embeddings", embeddings),
            )
        )

    def answer(self, request: Request) -> Reply:
        """Return the reply to a request."""
        try:
            return self.handled(request, self._manner)
        except ApiError as error:
            return refusal(error)

    def handled(self, request: Request, manner: Manner) -> Reply:
        """Return what the route's handler answers; raises ApiError for what the API refuses."""
        if request.raw and not isinstance(request.body, dict):
            raise ApiError(400, "We could not parse the JSON body of your request.")
        handler, names = self._route(request)
        answer = handler(Call(request, manner, names, manner.ids()))
        if isinstance(answer, Stream):
            return manner.stream(answer.events, answer.typed)
        return manner.plain(answer)

    def _route(self, request: Request) -> tuple[Handler, Mapping[str, str]]:
        """The handler for a request and the names in its path; raises ApiError 404 or 405."""
        prefix = PREFIX.match(request.path)
        path = request.path[prefix.end() :] if prefix else request.path
        names = prefix.groupdict("") if prefix else {}
        tried = ((method, route.fullmatch(path), handler) for method, route, handler in self._routes)
        found = {method: (handler, match) for method, match, handler in tried if match}
        if request.method not in found:
            raise ApiError(405 if found else 404, f"Invalid URL ({request.method} {request.path})")
        handler, match = found[request.method]
        return handler, {**names, **match.groupdict()}

    def _respond(self, call: Call) -> Answer:
        """POST /responses."""
        responses.check(call.body)
        previous = self._previous(call)
        talk = self._conversations.named_by(call.body.get("conversation"))
        context = previous.context if previous else talk.context if talk else 0
        made = responses.response(call, context, conversation_id(call.body.get("conversation")))
        self._remember(call, made, context, talk)
        if call.body.get("stream"):
            return Stream(events(made), typed=True)
        return responses.unfinished(made, "queued") if made["background"] else made

    def _remember(self, call: Call, made: Json, context: int, talk: Conversation | None) -> None:
        """Keep a response, unless it is not to be stored, and what it adds to a conversation."""
        given = input_items(call, call.body.get("input"))
        total = (made["usage"] or {}).get("total_tokens", context)
        if made["store"]:
            waits = made["background"] and not call.body.get("stream")
            self._responses[made["id"]] = StoredResponse(made, given, total, FETCHES if waits else 0)
        if talk is not None:
            talk.items.extend([*given, *made["output"]])
            talk.context = total

    def _previous(self, call: Call) -> StoredResponse | None:
        """The response that the call continues; raises ApiError as OpenAI does for an unknown one."""
        name = "previous_response_id"
        identifier = call.body.get(name)
        if not identifier:
            return None
        found = self._responses.get(str(identifier))
        if found is None:
            message = f"Previous response with id '{identifier}' not found."
            raise ApiError(400, message, param=name, code="previous_response_not_found")
        return found

    def _compact(self, call: Call) -> Answer:
        """POST /responses/compact."""
        previous = self._previous(call)
        earlier = previous.input_items if previous else []
        given = [*earlier, *input_items(call, call.body.get("input"))]
        kept = [item for item in given if item.get("role") == "user"]
        call.model  # noqa: B018  refuses a request that names none
        return responses.compaction(call, kept, previous.context if previous else 0)

    def _retrieve(self, call: Call) -> Answer:
        """GET /responses/{id}, by which a background response goes on, and its replay as a stream."""
        found, query = self._stored(call), call.request.query
        found.pending = max(0, found.pending - 1) if query.get("stream") != "true" else 0
        if query.get("stream") != "true":
            return responses.unfinished(found.response, "in_progress") if found.pending else found.response
        return Stream(events_after(found.response, number(query.get("starting_after"))), typed=True)

    def _cancel(self, call: Call) -> Answer:
        """POST /responses/{id}/cancel: stops a background response that nobody has fetched yet."""
        found = self._stored(call)
        if found.pending:
            found.response = responses.unfinished(found.response, "cancelled")
            found.pending = 0
        return found.response

    def _delete(self, call: Call) -> Answer:
        """DELETE /responses/{id}."""
        self._stored(call)
        self._responses.pop(call.names["id"], None)
        return {"id": call.names["id"], "object": "response.deleted", "deleted": True}

    def _input_items(self, call: Call) -> Answer:
        """GET /responses/{id}/input_items."""
        return page(self._stored(call).input_items, call.request.query)

    def _stored(self, call: Call) -> StoredResponse:
        """The response the path names; raises ApiError 404."""
        found = self._responses.get(call.names["id"])
        if found is None:
            raise missing("Response", call.names["id"])
        return found


def complete(call: Call) -> Answer:
    """POST /chat/completions."""
    made = chat.completion(call)
    if not call.body.get("stream"):
        return made
    options = call.body.get("stream_options")
    include_usage = isinstance(options, Mapping) and bool(options.get("include_usage"))
    return Stream(chat.chunks(made, include_usage), typed=False)


def number(text: Any) -> int:
    """The event number in a query, -1 (before the first) when there is none."""
    return int(text) if isinstance(text, str) and text.isdigit() else -1
