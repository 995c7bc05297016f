"""What a request says: its attributes, and the evidence of its session. Reads all, changes nothing."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from opentelemetry.context import Context

from otel_llm_sessions import semconv
from otel_llm_sessions.cheap import new, value
from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.evidence import evidence_of
from otel_llm_sessions.openai.fields import Fields, conversation_id_in, mapping
from otel_llm_sessions.openai.headers import header_session, lowered
from otel_llm_sessions.openai.history import HistoryReader, ReadHistory
from otel_llm_sessions.openai.parameters import add_parameters
from otel_llm_sessions.openai.routes import CHAT, Match, Route
from otel_llm_sessions.openai.server import Server
from otel_llm_sessions.sessions.digest import UNSHARED, DigestSource
from otel_llm_sessions.sessions.names import name_of_conversation
from otel_llm_sessions.sessions.resolver import Evidence
from otel_llm_sessions.sessions.sources import PARENT_HEADER, Given, first_given, from_baggage, from_context
from otel_llm_sessions.telemetry.values import MAX_TEXT, count_of, text_of


@dataclass(frozen=True, slots=True)
class KeyLists:
    """Where a request may name its session, as the settings say."""

    headers: tuple[str, ...]
    body: tuple[str, ...]
    metadata: tuple[str, ...]
    telling: frozenset[str]
    """Which fields of a body tell a session, or say how it is kept (``TELLING``); most bodies have none of them."""
    naming: frozenset[str]
    """Those of ``body``, of which most bodies that tell something have none either."""
    digests: DigestSource
    """Makes the digests of what is beside an id that is not one of a kind."""
    baggage: bool = True
    """Whether baggage may name a session, too."""


TELLING: Final = frozenset({"metadata", "conversation", "stream", "store"})
"""Fields of a body that are looked at one by one where there are any, besides those that may name a session."""

SENT: Final = Fields("method", "url", "headers", "json_data", "extra_json")
"""What a request consists of, in openai's ``FinalRequestOptions``."""

Sent: TypeAlias = tuple[Any, ...]
"""What ``SENT`` reads of it."""


@value
class Request:
    """One request of the client, read."""

    match: Match
    server: Server
    name: str
    """What its span is called."""
    model: str | None
    attributes: dict[str, Any]
    """The attributes to create the span with."""
    evidence: Evidence
    stream: bool
    stored: bool
    """False if the application said ``store=False``: then no later turn can name this one."""
    is_body_for_events: bool = False
    """Whether the body asks for a stream that the client does not know of, so that the application reads it itself."""
    conversation: str | None = None
    """The id of the provider's conversation that the request names."""
    parent: str = ""
    """The session that its headers say the call's own was opened in; empty if they say none."""
    digests: DigestSource = UNSHARED
    """Makes the digests of what is beside an id that is not one of a kind."""
    history: ReadHistory | None = None
    """The history that a chat request sends; None where it is no evidence."""
    user: str = ""
    """Whose it says that it is, where the setting ``USER`` has that read (``users``)."""


def sent_by(options: Any) -> Sent:
    """Return what ``SENT`` reads of a client's options."""
    try:
        said = options.__dict__
        return said["method"], said["url"], said["headers"], said["json_data"], said["extra_json"]
    except (AttributeError, KeyError, TypeError) as error:  # not as the clients make them (openai 1.66 to 3.57)
        pass_on(error)
        return SENT.of(options)


def read_request(
    match: Match, client: Any, options: Any, sent: Sent, server: Server, context: Context, keys: KeyLists, stream: bool
) -> Request:
    """Read a request of the client before it is sent.

    Args:
        match: the route of the request.
        client: the client that sends it, for its default headers.
        options: openai's ``FinalRequestOptions``.
        sent: what ``SENT`` reads of them.
        server: whom the client talks to.
        context: the context in which the call is made.
        keys: where a session may be named.
        stream: whether the reply is to be streamed.
    """
    _, _, headers, json_data, extra_json = sent
    body = json_data if type(json_data) is dict else mapping(json_data)
    extra = NOTHING if extra_json is None else extra_json if type(extra_json) is dict else mapping(extra_json)
    asked = {**body, **extra} if extra else body  # as the client merges them
    model = asked.get("model")
    if type(model) is not str or not model or len(model) > MAX_TEXT:
        model = text_of(model) or text_of(body.get("model"))
    told = NOTHING if keys.telling.isdisjoint(asked) else asked
    streams = stream or ("stream" in told and asked["stream"] is True)
    name, model, first = _first_said(match.route, server, model, streams)
    attributes = first.copy()
    if match.response_id is not None:
        add_fetched(attributes, match.response_id, options)
    add_parameters(attributes, asked)
    if not server.is_openai:
        attributes.pop(semconv.OPENAI_REQUEST_SERVICE_TIER, None)
    headers = lowered(headers) if headers else NOTHING
    try:
        defaults = client._custom_headers
    except AttributeError as error:  # none of the library's
        pass_on(error)
        defaults = NOTHING
    before = attributes.get(semconv.REQUEST_PREVIOUS_RESPONSE_ID) if match.route is not CHAT else None
    previous = match.response_id or before
    given, conversation, parent, stored = None, None, "", True
    if told or headers or defaults or context:  # most requests say nothing of their session
        parent = parent_session(headers, defaults) if headers or defaults else ""
        conversation = conversation_id_in(asked["conversation"]) if "conversation" in told else None
        stored = "store" not in told or asked["store"] is not False
        given = given_session(headers, defaults, body, extra, told, context, keys)
        if given is None and (conversation is not None or context):
            given = _given_else(conversation, server, context if previous is None and keys.baggage else None)
    evidence = evidence_of(match.route.api, given, previous, asked, server, keys.digests)
    for_events = streams and not stream
    return Request(  # in this order: an unpacked tuple, or keywords, would cost as much as all fields
        match, server, name, model, attributes, evidence, stream, stored, for_events, conversation, parent, keys.digests
    )


def _given_else(conversation: str | None, server: Server, context: Context | None) -> Given | None:
    """Return the session that a conversation is, else what baggage names; the context is None where that may not."""
    if conversation is not None:
        return Given(name_of_conversation(conversation, server.name), "conversation")
    return from_baggage(context) if context else None


def read_history(request: Request, sent: Sent, reader: HistoryReader) -> Request:
    """Return a chat request with its history as evidence; any other as it is.

    Args:
        request: the request.
        sent: what ``SENT`` reads of it.
        reader: reads histories.
    """
    if request.match.route is not CHAT:
        return request
    _, _, _, body, extra = sent
    history = reader.read({**mapping(body), **mapping(extra)}.get("messages"))
    if history is None:
        return request
    return replace(request, history=history, evidence=history.tied(request.evidence))


@functools.lru_cache(maxsize=128)
def _first_said(
    route: Route, server: Server, asked: str | None, streams: bool
) -> tuple[str, str | None, dict[str, Any]]:
    """Return the name, the model and the first attributes, to be copied, of the spans of all requests of a kind.

    Kept, since most applications make few kinds of them.
    """
    model = text_of(asked) or server.deployment
    attributes: dict[str, Any] = {
        semconv.OPERATION_NAME: route.operation,
        semconv.PROVIDER_NAME: server.provider,
        semconv.SERVER_ADDRESS: server.address,
    }
    if server.is_openai:
        attributes[semconv.OPENAI_API_TYPE] = route.api
    if server.port is not None:
        attributes[semconv.SERVER_PORT] = server.port
    if model:
        attributes[semconv.REQUEST_MODEL] = model
    if streams:
        attributes[semconv.REQUEST_STREAM] = True
    name = f"{route.operation} {model}" if route.is_turn and model else route.operation
    return name, model, attributes


def add_fetched(attributes: dict[str, Any], response_id: str, options: Any) -> None:
    """Add which response is fetched or cancelled, and where a streamed fetch takes up again."""
    attributes[semconv.RESPONSE_ID] = response_id
    cursor = mapping(options.params).get("starting_after")
    if count_of(cursor) is not None:
        attributes[semconv.REQUEST_STREAM_CURSOR] = str(cursor)


NOTHING: Final[Mapping[str, Any]] = {}

PARENT_HEADERS: Final = (PARENT_HEADER,)


def given_session(
    headers: Mapping[str, Any],
    defaults: Any,
    body: Mapping[str, Any],
    extra: Mapping[str, Any],
    told: Mapping[str, Any],
    context: Context,
    keys: KeyLists,
) -> Given | None:
    """Return the session that the application names: by headers, body, metadata, context, the client's own headers.

    Args:
        headers: those of the request, by their names in lower case.
        defaults: the client's.
        body: the request's body.
        extra: what ``extra_body`` adds to it.
        told: both as they are sent; an empty one if they tell nothing.
        context: the context in which the call is made.
        keys: where a session may be named.
    """
    if headers and (found := header_session(headers, keys.headers)):
        return new(Given, (found, "header"))
    if told and not keys.naming.isdisjoint(told):
        for values in (extra, body):
            if given := first_given(values, keys.body, "body"):
                return given
    if "metadata" in told:
        for values in (extra, body):
            if given := first_given(mapping(values.get("metadata")), keys.metadata, "metadata"):
                return given
    if context and (named := from_context(context)):
        return named
    # What a request says of a header, also that it be omitted (openai's ``Omit``), hides the default, as on the wire.
    if defaults and (found := header_session({**lowered(defaults), **headers}, keys.headers)):
        return new(Given, (found, "header"))
    return None


def parent_session(headers: Mapping[str, Any], defaults: Any) -> str:
    """Return the session that a request's headers, or its client's, name as the parent of its own; empty if none."""
    sent = {**lowered(defaults), **headers} if defaults else headers
    return (header_session(sent, PARENT_HEADERS) or "") if PARENT_HEADER in sent else ""
