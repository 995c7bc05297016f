"""Sends the session on with the request, in the ways that ``PROPAGATE`` names; changes copies, never what was given."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from otel_llm_sessions.openai.carried import TRACEPARENT, TRACESTATE, Carried, write
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.routes import RESPONSES
from otel_llm_sessions.semconv import LLM_SESSION_ID, SESSION_ID

MAX_KEYS: Final = 16
"""Keys that ``metadata`` may have (https://platform.openai.com/docs/api-reference/responses/create)."""

LITELLM: Final = "litellm_session_id"

BAGGAGE: Final = "baggage"


class Propagation:
    """Adds to requests what the settings ask for, where the application itself says nothing of the kind."""

    def __init__(self, ways: frozenset[str], key: str | None = None) -> None:
        """Args: any of ``metadata``, ``headers``, ``litellm``; the setting ``KEY``."""
        self._ways = ways
        self._key = key

    def applied(self, options: Any, client: Any, request: Request, carried: Carried) -> Any:
        """Return openai's ``FinalRequestOptions`` to send in the place of ``options``; ``options`` stay as they are.

        Args:
            options: what the application asks for.
            client: the client that sends it, for its default headers.
            request: the same, read.
            carried: the session and the span of the call.
        """
        if carried.session_id is None and carried.span is None:
            return options
        options = copy.copy(options)
        if "metadata" in self._ways and request.match.route is RESPONSES and request.stored:
            _add_metadata(options, write(carried, self._key))
        if "litellm" in self._ways and carried.session_id is not None and request.match.route.is_turn:
            _add_to_body(options, LITELLM, carried.session_id)
        if "headers" in self._ways:
            _add_headers(options, client, carried)
        return options


def _add_metadata(options: Any, values: dict[str, str]) -> None:
    part = _part_with(options, "metadata")
    own = getattr(options, part).get("metadata") if part else ""
    if not (own is None or isinstance(own, Mapping)):
        return
    merged = dict(own or {})
    if TRACEPARENT in merged or TRACESTATE in merged:
        # One of another span's and one of ours would say what is not true.
        values = {name: value for name, value in values.items() if name == SESSION_ID}
    if SESSION_ID in values and merged.get(SESSION_ID, values[SESSION_ID]) != values[SESSION_ID]:
        values = {LLM_SESSION_ID: values[SESSION_ID], **values}
    for name, value in values.items():
        if len(merged) < MAX_KEYS:
            merged.setdefault(name, value)
    if merged != own:
        setattr(options, part, {**getattr(options, part), "metadata": merged})


def _add_to_body(options: Any, name: str, value: str) -> None:
    part = _part_with(options, name)
    if part and name not in getattr(options, part):
        setattr(options, part, {**getattr(options, part), name: value})


def _part_with(options: Any, name: str) -> str:
    """Return which part of the body says ``name``, or would be added to; the client merges ``extra_json`` over it."""
    body, extra = options.json_data, options.extra_json
    if isinstance(extra, Mapping) and (name in extra or body is None):
        return "extra_json"
    return "json_data" if isinstance(body, Mapping) else ""


def _add_headers(options: Any, client: Any, carried: Carried) -> None:
    headers = options.headers if isinstance(options.headers, Mapping) else {}
    taken = {name.lower() for names in (getattr(client, "_custom_headers", None), headers) for name in names or ()}
    added = {name: value for name, value in write(carried).items() if name == TRACEPARENT}
    if TRACEPARENT in added and TRACEPARENT not in taken and carried.state:
        added[TRACESTATE] = carried.state
    if carried.session_id is not None:
        # Not by OpenTelemetry's propagator (1.45): it writes a space as "+", which others than Python's read as one.
        added[BAGGAGE] = f"{SESSION_ID}={quote(carried.session_id, safe='')}"
    new = {name: value for name, value in added.items() if name not in taken}
    if new:
        options.headers = {**headers, **new}
