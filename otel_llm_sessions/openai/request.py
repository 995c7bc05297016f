"""What a request says: its attributes, and the evidence of its session. Reads all, changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from opentelemetry.context import Context

from otel_llm_sessions.openai.parameters import add_parameters
from otel_llm_sessions.openai.routes import Match
from otel_llm_sessions.openai.server import Server
from otel_llm_sessions.sessions.keys import response_key
from otel_llm_sessions.sessions.resolver import Evidence
from otel_llm_sessions.sessions.sources import Given, first_id, from_context, session_id_of
from otel_llm_sessions.telemetry import semconv
from otel_llm_sessions.telemetry.values import MAX_ID, count_of, text_of


class KeyLists(NamedTuple):
    """Where a request may name its session, as the settings say."""

    headers: tuple[str, ...]
    body: tuple[str, ...]
    metadata: tuple[str, ...]
    any_body: frozenset[str]
    """The same as ``body``: most requests have none of them, which a set tells at once."""


class Request(NamedTuple):
    """One request of the client, read."""

    match: Match
    server: Server
    model: str | None
    attributes: dict[str, Any]
    """The attributes to create the span with."""
    evidence: Evidence
    stream: bool
    stored: bool
    """False if the application said ``store=False``: then no later turn can name this one."""
    choices: int
    """How many choices were asked for."""
    is_body_for_events: bool = False
    """Whether the body asks for a stream that the client does not know of, so that the application reads it itself."""


def read_request(
    match: Match, client: Any, options: Any, server: Server, context: Context, keys: KeyLists, stream: bool
) -> Request:
    """Read a request of the client before it is sent.

    Args:
        match: the route of the request.
        client: the client that sends it, for its default headers.
        options: openai's ``FinalRequestOptions``.
        server: whom the client talks to.
        context: the context in which the call is made.
        keys: where a session may be named.
        stream: whether the reply is to be streamed.
    """
    body = mapping(options.json_data)
    extra = mapping(options.extra_json)
    model = text_of(extra.get("model")) or text_of(body.get("model")) or server.deployment
    route = match.route
    attributes: dict[str, Any] = {
        semconv.OPERATION_NAME: route.operation,
        semconv.PROVIDER_NAME: server.provider,
        semconv.SERVER_ADDRESS: server.address,
    }
    if server.port is not None:
        attributes[semconv.SERVER_PORT] = server.port
    if model:
        attributes[semconv.REQUEST_MODEL] = model
    streams = stream or extra.get("stream", body.get("stream")) is True
    if streams:
        attributes[semconv.REQUEST_STREAM] = True
    add_parameters(attributes, body)
    if extra:
        add_parameters(attributes, extra)
    if server.is_openai:
        attributes[semconv.OPENAI_API_TYPE] = route.api
    else:
        attributes.pop(semconv.OPENAI_REQUEST_SERVICE_TIER, None)
    if match.response_id is not None:
        attributes[semconv.RESPONSE_ID] = text_of(match.response_id, MAX_ID)
        add_stream_cursor(attributes, options)
    given = given_session(client, options, body, extra, context, keys)
    previous = match.response_id or previous_response(route.api, body, extra)
    return Request(
        match,
        server,
        model,
        attributes,
        Evidence(given, previous, response_key(previous, server.scope) if previous else None),
        stream,
        extra.get("store", body.get("store")) is not False,
        attributes.get(semconv.REQUEST_CHOICE_COUNT, 1),
        streams and not stream,
    )


_EMPTY: dict[str, Any] = {}


def mapping(value: Any) -> Mapping[str, Any]:
    """Return ``value`` if it is a mapping; else an empty one (bytes, lists, ``omit``, None)."""
    return value if type(value) is dict or isinstance(value, Mapping) else _EMPTY


def text(value: Any) -> str | None:
    """Return ``value`` as a plain string if it is a string with something in it, else None."""
    return (str.__str__(value) or None) if isinstance(value, str) else None


def previous_response(api: str, body: Mapping[str, Any], extra: Mapping[str, Any]) -> str | None:
    """Return the ``previous_response_id`` of a responses request."""
    if api != "responses":
        return None
    return text(extra.get("previous_response_id")) or text(body.get("previous_response_id"))


def add_stream_cursor(attributes: dict[str, Any], options: Any) -> None:
    """Add where a streamed fetch takes up again."""
    cursor = mapping(options.params).get("starting_after")
    if count_of(cursor) is not None:
        attributes[semconv.REQUEST_STREAM_CURSOR] = str(cursor)


def given_session(
    client: Any,
    options: Any,
    body: Mapping[str, Any],
    extra: Mapping[str, Any],
    context: Context,
    keys: KeyLists,
) -> Given | None:
    """Return the session that the application or the provider names: sources 1 to 5, in this order."""
    found = header_session(options.headers, getattr(client, "_custom_headers", None), keys.headers)
    if found:
        return Given(found, "header")
    sources = (extra, body) if extra else (body,)
    for source in sources:
        if not keys.any_body.isdisjoint(source) and (found := first_id(source, keys.body)):
            return Given(found, "body")
    for source in sources:
        metadata = source.get("metadata")
        if metadata and (found := first_id(mapping(metadata), keys.metadata)):
            return Given(found, "metadata")
    if named := from_context(context):
        return named
    conversation = extra.get("conversation") or body.get("conversation")
    if conversation is not None:
        id_ = conversation.get("id") if isinstance(conversation, Mapping) else conversation
        if isinstance(id_, str) and (found := session_id_of(id_)):
            return Given(found, "conversation")
    return None


def header_session(given: Any, default: Any, names: tuple[str, ...]) -> Any:
    """Return the session id in the request's headers, else in the client's default ones.

    A header that the request omits (openai's ``Omit``) hides the client's default, as on the wire.
    """
    headers = given if isinstance(given, Mapping) else _EMPTY
    if not headers and not default:
        return None
    merged: dict[str, Any] = {}
    for source in (default, headers):
        if source:
            merged.update((name.lower(), value) for name, value in source.items() if isinstance(name, str))
    for name in names:
        value = merged.get(name)
        if isinstance(value, (str, int, float)) and (found := session_id_of(value)):
            return found
    return None
