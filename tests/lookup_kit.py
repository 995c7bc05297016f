"""What the tests of ``PROVIDER_LOOKUP`` share: what was asked, what was found, and waiting for either."""

from __future__ import annotations

import threading
from typing import Any

from opentelemetry import trace
from waiting import until

from otel_llm_sessions.openai.held import HELD

SLOW = {"extra_headers": {"x-loopback-mode": "delay=0.1"}}
"""For a call whose model takes its time whether or not anything is looked up."""

BRIEF = {"extra_headers": {"x-loopback-mode": "delay=0.02"}}
"""For a call that takes long enough for the provider to be asked, if it is."""

LATE = {"delay": 1.5}
"""For an answer of the provider that comes when the call is over: see ``answer_late``."""


def retrieved(server: Any) -> list[str]:
    """The ids that were asked for, in order."""
    return [request.path.rpartition("/")[2] for request in server.requests if request.method == "GET"]


def second_of(ids: list[str]) -> dict[str, Any]:
    """What the provider says of the second response of a chain: which one it goes on from, and no more."""
    return {"id": ids[1], "object": "response", "previous_response_id": ids[0]}


def calls(spans: Any) -> list[Any]:
    return [span for span in spans if span.kind is trace.SpanKind.CLIENT]


def the_call(spans: Any) -> Any:
    (span,) = calls(spans)
    return span


def no_walk_is_left() -> bool:
    return not any(thread.name == "otel-llm-sessions-lookup" for thread in threading.enumerate())


def nothing_is_held() -> bool:
    return not len(HELD)


def answer_late(server: Any) -> None:
    """Let the provider answer what it was asked and has kept waiting, and the calls that waited for it end."""
    until(lambda: retrieved(server))
    server.release()
    until(no_walk_is_left)
    until(nothing_is_held)
