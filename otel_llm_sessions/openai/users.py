"""Whose a call is, as its request tells the provider or a gateway: for ``user.id``, where the setting ``USER`` says so.

Such a user stands on what the call itself emits (its span, its marker, a root that it opens), and is never remembered:
it is not the application that has said whose the session is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from otel_llm_sessions.openai.fields import mapping
from otel_llm_sessions.openai.headers import lowered
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.semconv import USER_ID
from otel_llm_sessions.sessions.texts import as_text, is_id

BODY_FIELDS: Final = ("safety_identifier", "user")
METADATA_KEYS: Final = ("user_id", "langfuse_user_id")
HEADER: Final = "helicone-user-id"


def read_user(request: Request, client: Any, sent: tuple[Any, ...]) -> Request:
    """Return a request with the user that it names; as it is if it names none.

    Args:
        request: the request.
        client: the client that sends it, for its default headers.
        sent: what ``SENT`` reads of it.
    """
    _, _, headers, body, extra = sent
    for value in users_in(mapping(extra), mapping(body), headers, getattr(client, "_custom_headers", None)):
        if is_id(user := as_text(value)):
            request.attributes[USER_ID] = user
            return replace(request, user=user)
    return request


def users_in(extra: Mapping[str, Any], body: Mapping[str, Any], headers: Any, defaults: Any) -> Iterator[Any]:
    """Yield what may name the user, the strongest first."""
    for field in BODY_FIELDS:
        yield extra.get(field)
        yield body.get(field)
    metadata = mapping(extra.get("metadata")), mapping(body.get("metadata"))
    for key in METADATA_KEYS:
        for values in metadata:
            yield values.get(key)
    # What a request says of a header, also that it be omitted (openai's ``Omit``), hides the default, as on the wire.
    yield {**lowered(defaults), **lowered(headers)}.get(HEADER)
