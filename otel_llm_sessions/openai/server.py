"""Whom a client talks to: address, port, provider. Read once per client, since reading a URL is slow."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from otel_llm_sessions import semconv
from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.telemetry.values import text_of

MAX_KNOWN = 256
MAX_URL = 1024
"""How many URLs are remembered, and characters of each: a longer one is read at each request."""

DEPLOYMENTS = "/deployments/"

OWN_MODULES = frozenset({"openai._client", "openai._base_client"})
"""Where the library's classes have their ``base_url``; it is kept in ``_base_url`` (openai 1.66 to 3.57)."""

OWN_PORTS = {"https": 443, "http": 80}
"""The ports that an address need not say, by the URL's scheme."""


@dataclass(frozen=True, slots=True, eq=False)
class Server:
    """The server of a client."""

    address: str
    port: int | None
    provider: str
    scope: str
    """What scopes ids that are not one of a kind: host and port."""
    name: str
    """What the server is called in names: its host, with the port where that is not the scheme's own."""
    deployment: str | None
    """The model of an Azure client whose base URL names a deployment."""
    is_openai: bool
    """Whether the conventions have its spans carry ``openai.*`` attributes."""


_known: Bounded[int, tuple[Any, type, Server]] = Bounded(MAX_KNOWN)
_known_by = _known.get  # bound once: that takes a call as long as the look-up
_by_text: Bounded[tuple[type, str], Server] = Bounded(MAX_KNOWN)


def server_of(client: Any, path: str = "") -> Server:
    """Return the server that a client of the OpenAI library sends a request to.

    Remembered by the identity of the client's base URL, which copies of a client do not share; the bounded table
    holds the URL, so that its identity is not given to another object.

    Args:
        client: the client. Its ``base_url`` may change between two requests.
        path: where the request goes, relative to the base URL; an absolute URL is its own server.
    """
    try:
        url = client._base_url
        known = _known_by(id(url))
        if known is not None and known[0] is url and known[1] is type(client) and "://" not in path:
            return known[2]
    except AttributeError as error:  # none of the library's
        pass_on(error)
    return _find(client, path)


def _find(client: Any, path: str) -> Server:
    kind = type(client)
    keeps = _keeps_its_url(kind)
    url = client._base_url if keeps else client.base_url
    if "://" in path:
        return _read(client, type(url)(path))
    # The module's own client makes a URL of `openai.base_url` at each request (openai 1.66 to 3.57): known by its text.
    key = (kind, str(url))
    server = _by_text.get(key) or _read(client, url)
    if len(key[1]) > MAX_URL:
        return server
    if keeps:
        _known[id(url)] = (url, kind, server)
    _by_text[key] = server
    return server


def _is_url_kept(kind: type) -> bool:
    """Whether ``base_url`` of a client of this class is an attribute of it, not made anew.

    The library's own property imports a module at each access (openai 3.57), which costs a call as much as a span's
    attributes do.
    """
    found: Any = next((vars(base)["base_url"] for base in kind.__mro__ if "base_url" in vars(base)), None)
    # The function's module: the library has its classes say that they are of `openai`, where the module's client is.
    return getattr(getattr(found, "fget", None), "__module__", None) in OWN_MODULES


_keeps_its_url: Callable[[type], bool] = functools.lru_cache(maxsize=64)(_is_url_kept)


def _read(client: Any, url: Any) -> Server:
    address = text_of(str(url.host)) or ""
    own_port = OWN_PORTS.get(url.scheme)
    port = url.port or own_port
    path = str(url.path)
    deployment = path.partition(DEPLOYMENTS)[2].strip("/").partition("/")[0] if DEPLOYMENTS in path else ""
    provider = _provider(client, address)
    scope = f"{address}:{port}"
    name = address if port == own_port else scope
    return Server(address, port, provider, scope, name, text_of(deployment), provider in semconv.OPENAI_PROVIDERS)


def _provider(client: Any, address: str) -> str:
    for base in type(client).__mro__:
        if base.__name__ in semconv.PROVIDER_OF_CLASS:
            return semconv.PROVIDER_OF_CLASS[base.__name__]
    for end, provider in semconv.PROVIDER_OF_HOST:
        if address == end or address.endswith("." + end):
            return provider
    return "openai"
