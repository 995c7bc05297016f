"""A program that is asked over HTTP: one request at a time, answers as bytes or JSON, failures as one line."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import IO, Any, Final
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from otel_llm_sessions.view.source import Unreachable

PATIENCE: Final = 30.0
"""Seconds in which something has to come; a backend may look through many blocks before it answers."""
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
LONGEST_ANSWER: Final = 1 << 30
PIECE: Final = 1 << 18
TILDE: Final = "~"
DOTS: Final = re.compile(r"~*\.\.?")
REASON: Final = 200
"""Characters of what a backend says to explain itself."""


class Refused(Unreachable):
    """A program answers with an error status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class TooLong(Unreachable):
    """A program answers more than is read."""


class Site:
    """Where a program answers, and what is sent along. Thread-safe.

    Redirections are not followed, but told: the headers may hold a credential that is meant for this place alone.

    Args:
        url: ``http://`` or ``https://``, with the path below which the program answers.
        headers: sent with each request.
        patience: seconds in which something has to come, and thrice of which an answer has to be there.
        longest: bytes that an answer may have; a GiB by default.

    Raises:
        ValueError: the address is not valid.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        patience: float = PATIENCE,
        longest: int | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ValueError("the address is not valid: expected http://HOST:PORT, without a user or password in it")
        parts.port  # noqa: B018  # raises ValueError for what is no port
        self.url: Final = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        self._headers = {"Accept": "application/json", **(headers or {})}
        self._patience = patience
        self._longest = longest or LONGEST_ANSWER
        proxies: dict[str, str] | None = {} if parts.hostname in LOOPBACK else None
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _NoRedirection())

    def get(self, path: str, said: Mapping[str, str] | None = None) -> bytes:
        """Return what the program answers.

        Args:
            path: below the site's own, with a ``/`` before it, percent-encoded.
            said: what is asked; empty texts are left out.

        Raises:
            Refused: it answers with an error status.
            Unreachable: it does not answer.
        """
        # Half a character, as a terminal or an address may hold it, nobody has: it is asked for as a question mark.
        asked = urlencode({name: value for name, value in (said or {}).items() if value}, errors="replace")
        request = urllib.request.Request(f"{self.url}{path}{'?' if asked else ''}{asked}", headers=self._headers)
        try:
            with self._opener.open(request, timeout=self._patience) as answer:
                return self._read(answer, path)
        except urllib.error.HTTPError as error:
            with error:
                reason = f"{error.code} {error.reason}{_explained(error)}{_elsewhere(error)}"
                raise Refused(self._said(path, reason), error.code) from None
        except (OSError, http.client.HTTPException, ssl.SSLError) as error:
            raise Unreachable(self._said(path, _reason(error))) from None

    def json(self, path: str, said: Mapping[str, str] | None = None) -> Any:
        """Return what the program answers, read as JSON; raises as :meth:`get`, and Unreachable if it is none."""
        try:
            return json.loads(self.get(path, said))
        except (ValueError, RecursionError):
            raise Unreachable(self._said(path, "an answer that is no JSON")) from None

    def _read(self, answer: IO[bytes], path: str) -> bytes:
        """All of an answer; one that comes in drops has an end, too."""
        until = time.monotonic() + 3 * self._patience
        pieces, length = [], 0
        while piece := answer.read1(PIECE):  # type: ignore[attr-defined]
            pieces.append(piece)
            length += len(piece)
            if length > self._longest:
                raise TooLong(self._said(path, f"an answer of more than {self._longest >> 20} MiB"))
            if time.monotonic() > until:
                raise TimeoutError
        # urllib tells an answer that was cut off from its end only where all is read at once.
        if getattr(answer, "length", 0):
            raise http.client.IncompleteRead(b"")
        return b"".join(pieces)

    def _said(self, path: str, reason: str) -> str:
        said = "".join(letter if letter.isprintable() else " " for letter in reason)
        return f"GET {self.url}{path}: {' '.join(said.split())}"


def segment(text: str) -> str:
    """Return any text as one segment of a path; ``/`` becomes ``%2F``, and ``..`` is written ``~..``.

    Whatever encodes them, browsers take segments of one dot or two for steps up, and ask for something else. What looks
    as if it was written so gets another ``~``.
    """
    if DOTS.fullmatch(text):
        text = TILDE + text
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *said: Any, **named: Any) -> None:
        """Let what redirects be an error status."""


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, http.client.IncompleteRead):
        return "an answer that ends too early"
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    return reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason) or type(reason).__name__


def _elsewhere(error: urllib.error.HTTPError) -> str:
    """Where an answer says that the thing is instead."""
    place = dict(error.headers or ()).get("Location", "") if 300 <= error.code < 400 else ""
    return f", to {place[:REASON]}" if place else ""


def _explained(error: urllib.error.HTTPError) -> str:
    """The beginning of what the program says itself, unless that is a page."""
    try:
        text = error.read(4 * REASON).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException):
        return ""
    return f": {text[:REASON]}" if text and not text.startswith("<") else ""
