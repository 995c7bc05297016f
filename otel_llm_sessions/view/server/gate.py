"""The viewer's gate: what a request must be before anything answers it, and what every answer says to browsers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_llm_sessions.view.server.security import Security

READING: Final = frozenset({"GET", "HEAD"})
MACHINES: Final = ("/api/", "/v1/")
"""Paths that programs ask: a token comes to them in a header, and what is wrong is said in JSON."""
OPEN: Final = "/static/"
"""Style and script of the page, the same for everybody."""
CONTENT_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
ON_ALL: Final = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""What every answer says."""

Unknown = Callable[[Scope], Response]


class Gate:
    """An ASGI application in front of another: lets through what may pass.

    Example:
        >>> app = Gate(app, security, ask_for_token)

    Args:
        app: what answers.
        security: who may ask.
        unknown: answers who asks for a page and brings no token.
    """

    def __init__(self, app: ASGIApp, security: Security, unknown: Unknown) -> None:
        self._app = app
        self._security = security
        self._unknown = unknown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._tell(MutableHeaders(scope=message), origin)
            await send(message)

        answer = self._judged(scope, headers) or self._app
        await answer(scope, receive, told)

    def _judged(self, scope: Scope, headers: Headers) -> Response | None:
        """What answers instead; None if the request may pass."""
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        host = hosts[0] if len(hosts) == 1 else ""
        if len(hosts) > 1 or not self._security.answers_to(host):
            return refusal(scope, 403, f"this server does not answer to the host {host!r}; --allow-host adds a name")
        if not all(self._security.allows_origin(origin, host) for origin in origins):
            return refusal(
                scope, 403, f"pages of {origins[0]!r} may not ask this server; --allow-origin adds an origin"
            )
        if origins and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            return _preflight(headers)
        if scope["method"] in READING and not scope["path"].startswith((*MACHINES, OPEN)):
            said = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            if tokens := [value for name, value in said if name == "token"]:
                return self._brings(scope, headers, tokens[0], [each for each in said if each[0] != "token"])
        return None if self._is_known(scope, headers) else self._stranger(scope)

    def _is_known(self, scope: Scope, headers: Headers) -> bool:
        security = self._security
        if not security.token or scope["path"].startswith(OPEN):
            return True
        if security.admits_authorization(headers.get("authorization", "")):
            return True
        return scope["method"] in READING and security.admits_cookie(cookie_of(headers, security.cookie_name))

    def _stranger(self, scope: Scope) -> Response:
        if scope["method"] not in READING or scope["path"].startswith(MACHINES):
            return refusal(scope, 401, "this server asks for its token: Authorization: Bearer TOKEN")
        return self._unknown(scope)

    def _brings(self, scope: Scope, headers: Headers, token: str, rest: list[tuple[str, str]]) -> Response:
        """Let a browser in that brings the token in the address; it is not left standing there, also when it was in."""
        is_admitted = self._security.admits(token)
        if not is_admitted and not self._is_known(scope, headers):
            return self._unknown(scope)
        answer = RedirectResponse(f"{own_path(scope)}{'?' if rest else ''}{urlencode(rest)}", 303)
        if is_admitted and self._security.token:
            secure = scope.get("scheme") == "https"
            cookie = (self._security.cookie_name, self._security.cookie)
            answer.set_cookie(*cookie, httponly=True, samesite="strict", secure=secure)
        answer.headers["Cache-Control"] = "no-store"
        return answer

    def _tell(self, headers: MutableHeaders, origin: str) -> None:
        for name, value in ON_ALL.items():
            headers.setdefault(name, value)
        headers.add_vary_header("Origin")
        if self._security.is_foreign_friend(origin):
            headers["Access-Control-Allow-Origin"] = origin
            headers["Cross-Origin-Resource-Policy"] = "cross-origin"


def refusal(scope: Scope, status: int, message: str) -> Response:
    """Say in one line why a request is not answered: in JSON to programs, else in plain text."""
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    if scope["path"].startswith(MACHINES):
        return JSONResponse({"error": message}, status, headers)
    return PlainTextResponse(f"{message}\n", status, headers)


def own_path(scope: Scope) -> str:
    """Return a request's path, so written that no browser takes it for another server's address."""
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    return "/" + quote(raw.decode("latin-1"), safe="/%!$&'()*+,;=:@~").lstrip("/")


def cookie_of(headers: Headers, name: str) -> str:
    """The value of a request's cookie; empty if it has none."""
    pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
    return next((value for found, _, value in pairs if found == name), "")


def _preflight(headers: Headers) -> Response:
    asked = headers.get("access-control-request-headers", "")
    allowed = {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": asked or "Authorization, Content-Type",
        "Access-Control-Max-Age": "600",
    }
    return Response(None, 204, allowed)
