"""Retrieves one response from the provider through the application's own client, un-instrumented."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from otel_llm_sessions.openai.chain_walk import is_response
from otel_llm_sessions.openai.credential import Credential

POOL_PATIENCE: Final = 0.05
"""Seconds to wait for a connection of the application's pool."""

SPARE_CONNECTIONS: Final = 2
"""How many connections of the application's pool must be free to take one of them."""

MAX_BODY: Final = 16 * 1024 * 1024
MAX_ID: Final = 1024
RAW_RESPONSE_HEADER: Final = "X-Stainless-Raw-Response"

ID: Final = re.compile(r"[A-Za-z0-9._+=:,/-]+")
DOTS: Final = re.compile(r"\.*")
WORD: Final = re.compile(r"[a-z._-]*")

Original = Callable[..., Any]
"""``request`` of the client's class, as it was before it was patched."""


def is_askable(response_id: str) -> bool:
    """Whether an id is still one part of a path, however servers on the way unquote and normalise it.

    Ids come from outside, and the path they are put into is asked for with the application's key. Those of LiteLLM may
    have a ``/`` (base64), but no part that leads elsewhere or names another route.
    """
    first, *others = response_id.split("/")
    return (
        len(response_id) <= MAX_ID
        and ID.fullmatch(response_id) is not None
        and DOTS.fullmatch(first) is None
        and not any(WORD.fullmatch(part) for part in others)
    )


def retrieval(response_id: str, credential: Credential, seconds: float) -> Any:
    """Return the request that retrieves a response: once, in time, as who asked, its body left to be read.

    Args:
        response_id: the response; see ``is_askable``.
        credential: of the request of the application's that names it.
        seconds: how long it may take.
    """
    import openai
    from openai._models import FinalRequestOptions

    asked: dict[str, Any] = {
        "method": "get",
        "url": f"/responses/{quote(response_id, safe='')}",
        "headers": {**credential.headers, RAW_RESPONSE_HEADER: "stream"},
        "params": credential.params,
        "max_retries": 0,
        "timeout": openai.Timeout(seconds, pool=min(seconds, POOL_PATIENCE)),
    }
    if credential.security is not None:  # which of its keys the client sends (openai 3.0)
        asked["security"] = credential.security
    return FinalRequestOptions.construct(**asked)


def has_room(client: Any) -> bool:
    """Whether a request more would not keep the application's own requests waiting for a connection.

    Looks at httpcore's pool (1.0 to httpcore2 2.16) where there is one; any other transport is taken to have room.
    """
    pool = _pool_of(client)
    most, requests = getattr(pool, "_max_connections", None), getattr(pool, "_requests", None)
    if not isinstance(most, int) or not isinstance(requests, list):
        return True
    return most - len(requests) >= SPARE_CONNECTIONS


def _pool_of(client: Any) -> Any:
    return getattr(getattr(getattr(client, "_client", None), "_transport", None), "_pool", None)


def retrieve(client: Any, original: Original, options: Any, deadline: float) -> Any:
    """Return the response that the provider answers with."""
    body = bytearray()
    try:
        response = original(client, object, options).http_response
        try:
            for piece in response.iter_bytes():
                body += piece
                _check_size(body)
                # The client's own limits hold for each step: every piece may be in time while the whole is not.
                if time.monotonic() > deadline:
                    raise TimeoutError("the provider's answer takes too long")
        finally:
            response.close()
    finally:
        if (pool := _left_open(client)) is not None:
            pool.close()
    return _response_in(body)


async def aretrieve(client: Any, original: Original, options: Any) -> Any:
    """As ``retrieve``, for a client on an event loop; the caller bounds its time."""
    # Limits of the HTTP client's own would take a loop that stood still for a provider that takes no connections.
    options.timeout = _without_limits()
    body = bytearray()
    try:
        response = (await original(client, object, options)).http_response
        try:
            async for piece in response.aiter_bytes():
                body += piece
                _check_size(body)
        finally:
            await response.aclose()
    finally:
        if (pool := _left_open(client)) is not None:
            await pool.aclose()
    return _response_in(body)


def _without_limits() -> Any:
    import openai

    return openai.Timeout(None, pool=POOL_PATIENCE)


def _left_open(client: Any) -> Any:
    """Return the connection pool of a client that the application has closed meanwhile; None of any other transport.

    It keeps a connection that was only being made when it was closed (httpcore 1.0 to httpcore2 2.16).
    """
    return _pool_of(client) if client.is_closed() else None


def _check_size(body: bytearray) -> None:
    if len(body) > MAX_BODY:
        raise ValueError("the provider's answer is too large")


def _response_in(body: bytearray) -> Any:
    reply = json.loads(body)
    if not is_response(reply):
        raise ValueError("the provider answered with something else than a response")
    return reply
