"""With whose key a request goes out: told apart by a digest, and said again when the provider is asked beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

from otel_llm_sessions.openai.fields import mapping
from otel_llm_sessions.openai.headers import tells_who_asks

IDENTITIES: Final = ("workload_identity", "_provider")
"""What openai (3.0 to 3.57) makes a key of while it sends a request."""

ATTRIBUTES: Final = ("api_key", "admin_api_key", "organization", "project", "_azure_ad_token", *IDENTITIES)
"""What a client of openai's own classes (1.66 to 3.57) says who it is by, besides its headers."""

PROVIDERS: Final = ("_api_key_provider", "_azure_ad_token_provider")
"""Functions of the application's that give a key for each request: only who sends one knows it."""

OWN_HTTP_CLIENTS: Final = frozenset({"SyncHttpxClientWrapper", "AsyncHttpxClientWrapper"})
"""openai's own: any other may bring a certificate, and so is told apart."""

AZURE_WITHOUT_KEY: Final = "<missing API key>"

MAX_DEPTH: Final = 4

_secret = os.urandom(32)  # so that a digest tells nobody a key, should one ever be seen


class Credential:
    """What a request says of who asks; has no ``repr`` that shows it."""

    __slots__ = ("headers", "params", "scope", "security")

    def __init__(self, client: Any, options: Any) -> None:
        """Read it; asks none of the application's functions.

        Args:
            client: the client that sends the request.
            options: openai's ``FinalRequestOptions`` of the request.
        """
        self.security: Any = getattr(options, "security", None)
        self.params = _telling(mapping(options.params))
        self.headers = _telling(mapping(options.headers))
        self.scope: bytes | None = None
        """Server and key as a digest; None if the key is only known to who sends a request."""
        if _is_known(client):
            # Said again as it is now: the application may give the client another key meanwhile.
            self.headers = _merged(client, self.security, self.headers)
            self.scope = _digest(client, self.headers, self.params, ATTRIBUTES)


def scope_of_sent(client: Any, request: Any) -> bytes:
    """Return the digest of server and key of a request as it is sent.

    Args:
        client: the client that sends it.
        request: httpx's request.
    """
    return _digest(client, _telling(request.headers), _telling(request.url.params), IDENTITIES)


def _is_known(client: Any) -> bool:
    is_own = type(client).__module__.partition(".")[0] == "openai"
    return is_own and all(getattr(client, name, None) is None for name in PROVIDERS)


def _telling(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if isinstance(name, str) and tells_who_asks(name.lower())}


def _merged(client: Any, security: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return the headers that say who asks, as the client merges them."""
    default = _telling(mapping(getattr(client, "_custom_headers", None)))
    if hasattr(client, "_azure_ad_token"):
        return _by_name(default, _azure_headers(client), given)
    make = getattr(client, "_auth_headers", None)
    own = make(security or {}) if make is not None else client.auth_headers
    return _by_name(own, default, given)


def _azure_headers(client: Any) -> dict[str, Any]:
    if client._azure_ad_token is not None:
        return {"Authorization": f"Bearer {client._azure_ad_token}"}
    return {"api-key": client.api_key} if client.api_key not in ("", AZURE_WITHOUT_KEY) else {}


def _by_name(*sources: Mapping[str, Any]) -> dict[str, Any]:
    merged = {name.lower(): (name, value) for source in sources for name, value in source.items()}
    return dict(merged.values())


def _digest(client: Any, headers: Mapping[str, Any], params: Mapping[str, Any], names: tuple[str, ...]) -> bytes:
    http = getattr(client, "_client", None)
    parts = (
        str(client.base_url),
        getattr(client, "_custom_query", None),
        {name.lower(): value for name, value in headers.items()},
        [getattr(client, name, None) for name in names],
        params,
        _telling(mapping(getattr(http, "headers", None))),
        getattr(http, "_auth", None),
        None if type(http).__name__ in OWN_HTTP_CLIENTS else _identity(http),
    )
    return blake2b("\0".join(_told(parts)).encode("utf-8", "backslashreplace"), digest_size=16, key=_secret).digest()


def _told(value: Any, depth: int = 0) -> Iterable[str]:
    """Write a value out so that two that differ read differently; an object that is no text by its identity."""
    if value is None or isinstance(value, (str, bytes, int, float)):
        yield f"{type(value).__name__} {value!r}"
    elif depth < MAX_DEPTH and isinstance(value, Mapping):
        yield "{"
        for name in sorted(value, key=repr):
            yield repr(name)
            yield from _told(value[name], depth + 1)
        yield "}"
    elif depth < MAX_DEPTH and isinstance(value, (list, tuple)):
        yield "["
        for item in value:
            yield from _told(item, depth + 1)
        yield "]"
    else:
        yield _identity(value)


def _identity(value: Any) -> str:
    kind = type(value).__name__
    return kind if kind == "Omit" else f"{kind} {id(value)}"
