"""Which source an address is: what it says itself, or what it answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from otel_llm_sessions.view.source import Source, Unreachable
from otel_llm_sessions.view.sources.jaeger import JaegerSource
from otel_llm_sessions.view.sources.site import PATIENCE, Refused, Site
from otel_llm_sessions.view.sources.tempo import TempoSource
from otel_llm_sessions.view.sources.viewer import HEALTH, Viewer

EXPECTED: Final = (
    "http:// or https:// and a host, such as http://localhost:16686 (Jaeger), http://localhost:3200 (Tempo) or "
    "http://localhost:4318 (the viewer); jaeger+, tempo+ or viewer+ before it says which of them it is"
)

OURS: Final = "otel-llm-sessions"
LONGEST: Final = 1 << 26
"""Bytes of one answer of a backend; a search that answers more is asked for less at once."""

Opened = Callable[[str, Mapping[str, str]], Source]

KINDS: Final[dict[str, Opened]] = {
    "jaeger": lambda url, headers: JaegerSource(Site(url, headers, longest=LONGEST)),
    "tempo": lambda url, headers: TempoSource(Site(url, headers, longest=LONGEST)),
    "viewer": Viewer,
}


def open_source(url: str, headers: Mapping[str, str] | None = None, patience: float = PATIENCE) -> Source:
    """Return the source at an address: a Jaeger, a Tempo or a viewer of ours.

    Args:
        url: where it answers, with the prefix that it is below, if any (``http://host/jaeger``). A user and password in
            it are sent as HTTP says (Basic), and are shown nowhere. ``jaeger+http://…``, ``tempo+http://…`` and
            ``viewer+http://…`` (also ``https``) say what it is; else it is asked.
        headers: sent with each request.
        patience: seconds in which it has to answer what it is.

    Raises:
        ValueError: the address is not valid.
        Unreachable: nothing answers there, or nothing that is one of these; the message says what was tried.
    """
    kind, address, headers = _parts(url, headers or {})
    if not kind:
        kind = _asked(Site(address, headers, patience))
    return KINDS[kind](address, headers)


def _parts(url: str, headers: Mapping[str, str]) -> tuple[str, str, Mapping[str, str]]:
    """What the address says to be, the address without that and without credentials, and the headers with these."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        kind, plus, scheme = parts.scheme.rpartition("+")
        host = parts.netloc.rpartition("@")[2]
        if (
            scheme not in ("http", "https")
            or not parts.hostname
            or (plus and kind not in KINDS)
            or not url.isprintable()
        ):
            raise ValueError
        parts.port  # noqa: B018  # raises ValueError for what is no port
    except ValueError:
        # Not with the address: what is not understood may have a password in any place.
        raise ValueError(f"the address of the source is not valid: expected {EXPECTED}") from None
    return kind, urlunsplit((scheme, host, parts.path.rstrip("/"), "", "")), {**credentials_in(parts), **headers}


def credentials_in(parts: SplitResult) -> dict[str, str]:
    """The header that says what an address has before its host, by HTTP's Basic; none where it has nothing there."""
    if parts.username is None:
        return {}
    said = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(said.encode()).decode()}"}


def _asked(site: Site) -> str:
    """Which kind of source answers.

    Raises:
        Unreachable: none does.
    """
    tried = []
    for kind, path, is_it in QUESTIONS:
        try:
            if is_it(site.get(path)):
                return kind
            tried.append(f"{path} is not {kind}'s")
        except Refused as refused:
            if refused.status in (401, 403):
                raise Unreachable(
                    f"{refused} (headers, as a token, come from OTEL_LLM_SESSIONS_FROM_HEADERS)"
                ) from None
            tried.append(f"{path} {refused.status}")
    raise Unreachable(f"{site.url} is neither a viewer nor Tempo nor Jaeger: GET {', '.join(tried)}")


def _lists(field: str, without: bool = False) -> Callable[[bytes], bool]:
    """Whether an answer has a list in a field; or nothing at all, as protobuf's JSON has where a list is empty."""

    def is_it(answer: bytes) -> bool:
        said = _object(answer)
        return isinstance(said.get(field), list) or (without and answer.strip() == b"{}")

    return is_it


def _object(answer: bytes) -> dict[str, Any]:
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


QUESTIONS: Final[tuple[tuple[str, str, Callable[[bytes], bool]], ...]] = (
    ("viewer", HEALTH, lambda answer: _object(answer).get("viewer") == OURS),
    ("tempo", "/api/echo", lambda answer: answer.strip() == b"echo"),
    ("jaeger", "/api/services", _lists("data")),
    ("jaeger", "/api/v3/services", _lists("services", True)),
    # A Tempo behind a gateway that lets only some paths through.
    ("tempo", "/api/v2/search/tags?scope=span", _lists("scopes")),
)
"""What each is asked, in this order: a Jaeger answers its page to whatever it does not know."""
