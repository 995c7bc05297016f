"""Who may use the viewer: tokens, the names that it answers to, and the web pages that may ask it.

A page of anybody's, open in a browser on the same machine, can send requests to loopback. What keeps it out: the
``Host`` header while bound to loopback (a name of the attacker's may be made to mean 127.0.0.1), the ``Origin`` header
always, and beyond loopback a token.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

LOCALHOST: Final = "localhost"
NAME: Final = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
PORT: Final = re.compile(r":[0-9]*$")
VISIBLE: Final = re.compile(r"[!-~]+")
BEARER: Final = "bearer "


@dataclass(frozen=True, slots=True)
class Security:
    """Who may use the viewer; made by :func:`security_for`.

    Args:
        token: what a request has to know; empty if nothing.
        names: the host names that it answers to, without ports; None if to all.
        origins: the web pages, besides its own, that may ask it.
    """

    token: str = field(default="", repr=False)
    names: frozenset[str] | None = None
    origins: frozenset[str] = frozenset()

    def admits(self, token: str) -> bool:
        """Whether this is the token, or none is needed; takes the same time whatever is wrong with it."""
        return not self.token or _same(token, self.token)

    def admits_authorization(self, header: str) -> bool:
        """Whether the value of an ``Authorization`` header (or of gRPC's ``authorization``) brings the token."""
        is_bearer = header[: len(BEARER)].lower() == BEARER
        return self.admits(header[len(BEARER) :].strip() if is_bearer else "")

    def answers_to(self, host: str) -> bool:
        """Whether the value of a ``Host`` header names this server."""
        if self.names is None:
            return True
        name = PORT.sub("", host).lower()
        return name in self.names or is_loopback(name)

    def allows_origin(self, origin: str, host: str) -> bool:
        """Whether a request may come from a web page of this ``Origin``: our own, or one that was allowed."""
        scheme, _, authority = origin.lower().partition("://")
        is_own = scheme in ("http", "https") and bool(authority) and authority == host.lower()
        return is_own or self.is_foreign_friend(origin)

    def is_foreign_friend(self, origin: str) -> bool:
        """Whether it is one of the origins that were allowed besides our own."""
        return origin.lower() in self.origins

    @property
    def cookie_name(self) -> str:
        """The name of the page's cookie: another for each token, since servers of one host share their cookies."""
        return f"otel-llm-sessions-{self._derived('name')[:8]}"

    @property
    def cookie(self) -> str:
        """The value of the page's cookie, from which nobody learns the token."""
        return self._derived("value")

    def admits_cookie(self, value: str) -> bool:
        """Whether the page's cookie has this value."""
        return bool(self.token) and _same(value, self.cookie)

    def _derived(self, what: str) -> str:
        return hmac.new(self.token.encode(), f"otel-llm-sessions cookie {what}".encode(), hashlib.sha256).hexdigest()


def security_for(
    host: str, *, token: str = "", allow_hosts: Iterable[str] = (), allow_origins: Iterable[str] = ()
) -> Security:
    """Say who may use a viewer that is bound to a host.

    Args:
        host: what it is bound to, a name or an address. Beyond loopback it takes a token.
        token: the token; where one is needed and none is given, a random one is made.
        allow_hosts: names that requests may call it by while it is bound to loopback, besides loopback's own.
        allow_origins: web pages that may ask it besides its own, as ``https://app.example.com:8443``.

    Raises:
        ValueError: a token, name or origin is not valid; the message says what is expected.
    """
    is_local = is_loopback(host)
    if token and not VISIBLE.fullmatch(token):
        raise ValueError("token is not valid: expected letters, digits and signs of ASCII, without spaces")
    names = frozenset(map(_name, allow_hosts))
    return Security(
        token=token or ("" if is_local else secrets.token_urlsafe(24)),
        names=names if is_local else None,
        origins=frozenset(map(_origin, allow_origins)),
    )


def is_loopback(host: str) -> bool:
    """Whether a name or address (IPv6 with or without brackets) is this machine's own, reached from nowhere else."""
    if host.lower() == LOCALHOST:
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def _name(said: str) -> str:
    name = PORT.sub("", said).lower()
    if not NAME.fullmatch(name):
        raise ValueError(f"allowed host {said!r} is not valid: expected a name or an address, as viewer.example.com")
    return name


def _origin(said: str) -> str:
    try:
        parts = urlsplit(said)
        is_origin = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        is_origin = False
    if not is_origin or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(
            f"allowed origin {said!r} is not valid: expected https://app.example.com, with its port if any"
        )
    return f"{parts.scheme}://{parts.netloc}".lower()
