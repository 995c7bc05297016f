"""Whom a client talks to: address, port, provider. Read once per client, since reading a URL is slow."""

from __future__ import annotations

from typing import Any, NamedTuple

from otel_llm_sessions.telemetry import semconv

MAX_KNOWN = 256

DEPLOYMENTS = "/deployments/"


class Server(NamedTuple):
    """The server of a client."""

    address: str
    port: int | None
    provider: str
    scope: str
    """What scopes ids that are not one of a kind: host and port."""
    deployment: str | None
    """The model of an Azure client whose base URL names a deployment."""


_known: dict[int, tuple[Any, type, Server]] = {}


def server_of(client: Any) -> Server:
    """Return the server of a client of the OpenAI library.

    Remembered by the identity of the client's base URL, which copies of a client do not share; the bounded table
    holds the URL, so that its identity is not given to another object.
    """
    url = client._base_url if hasattr(client, "_base_url") else client.base_url
    known = _known.get(id(url))
    if known is not None and known[0] is url and known[1] is type(client):
        return known[2]
    server = _read(client, url)
    if len(_known) >= MAX_KNOWN:
        _known.clear()
    _known[id(url)] = (url, type(client), server)
    return server


def _read(client: Any, url: Any) -> Server:
    address = str(url.host)
    port = url.port or {"https": 443, "http": 80}.get(url.scheme)
    path = str(url.path)
    deployment = path.partition(DEPLOYMENTS)[2].strip("/").partition("/")[0] if DEPLOYMENTS in path else ""
    return Server(address, port, _provider(client, address), f"{address}:{port}", deployment or None)


def _provider(client: Any, address: str) -> str:
    for base in type(client).__mro__:
        if base.__name__ in semconv.PROVIDER_OF_CLASS:
            return semconv.PROVIDER_OF_CLASS[base.__name__]
    for end, provider in semconv.PROVIDER_OF_HOST:
        if address == end or address.endswith("." + end):
            return provider
    return "openai"
