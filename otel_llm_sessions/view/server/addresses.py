"""Addresses of sessions and traces: ids as path segments, and templates of another page's addresses."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request

from otel_llm_sessions.view.sources.site import DOTS, TILDE, segment

PLACEHOLDERS: Final = ("{trace_id}", "{span_id}")


class Rest(PathConvertor):
    """The rest of a path, whatever stands in it: starlette's own ends at a new line, which an id may hold."""

    regex = "(?s:.*)"


register_url_convertor("rest", Rest())


def segments_after(request: Request, prefix: str) -> list[str]:
    """Return the segments of a request's path after a prefix, as they were before :func:`segment`."""
    raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    said = raw.decode("latin-1").removeprefix(prefix).split("/")
    return [_plain(_decoded(unquote_to_bytes(each))) for each in said]


def checked_template(template: str) -> str:
    """Return the template of a trace's address, if it is one.

    Args:
        template: as ``http://localhost:16686/trace/{trace_id}?uiFind={span_id}``; empty for none.

    Raises:
        ValueError: it is no address of the web, or does not say where the trace's id goes.
    """
    if template and (urlsplit(template).scheme not in ("http", "https") or PLACEHOLDERS[0] not in template):
        raise ValueError(
            f"trace URL {template!r} is not valid: expected an address with {{trace_id}} (and {{span_id}}), "
            "as http://localhost:16686/trace/{trace_id}?uiFind={span_id}"
        )
    return template


def filled(template: str, trace_id: str, span_id: str) -> str:
    """Return a template with the ids in their places."""
    return template.replace(PLACEHOLDERS[0], segment(trace_id)).replace(PLACEHOLDERS[1], segment(span_id))


def web_address(said: str | None) -> str | None:
    """Return an address if a browser that follows it only goes to the web; else None."""
    try:
        return said if said and urlsplit(said).scheme in ("http", "https") else None
    except ValueError:
        return None


def _plain(said: str) -> str:
    """A segment without the sign that keeps one of dots from being a step to somewhere else."""
    return said[1:] if said[:1] == TILDE and DOTS.fullmatch(said[1:]) else said


def _decoded(said: bytes) -> str:
    try:
        return said.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return said.decode("utf-8", "replace")
