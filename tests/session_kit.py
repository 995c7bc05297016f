"""What tests of ``session(...)`` share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_llm_sessions import current_session
from otel_llm_sessions.testing import CapturedSpans, capture_spans

BOTH_MODES = pytest.mark.parametrize("spans", [{"traces": "session"}, {"traces": "turn"}], indirect=True)


def name_here(*_: Any) -> str | None:
    """The session that is current."""
    here = current_session()
    return here.id if here is not None else None


def calls(spans: Iterable[Any]) -> list[Any]:
    """The spans of chat and responses calls."""
    return [span for span in spans if span.name.startswith("chat ")]


def attribute(spans: Iterable[Any], name: str) -> list[Any]:
    """What the span of each call says, in order."""
    return [span.attributes.get(name) for span in calls(spans)]


def sessions_of(spans: Iterable[Any]) -> list[Any]:
    """The session of each call, in order."""
    return attribute(spans, "session.id")


def found(span: Any) -> tuple[Any, ...]:
    """The session of a call, how it was found, and which turn of it the call is."""
    return tuple(map(span.attributes.get, ("session.id", "llm_session.source", "llm_session.turn")))


def found_of(spans: Iterable[Any]) -> list[tuple[Any, ...]]:
    """The same of each call, in order."""
    return [found(span) for span in calls(spans)]


def place(span: Any) -> tuple[Any, ...]:
    """The session of a call, and which turn of it the call is."""
    return span.attributes["session.id"], span.attributes["llm_session.turn"]


def places(calls: Iterable[Any]) -> list[tuple[Any, ...]]:
    """The same of each."""
    return [place(call) for call in calls]


def named(spans: Iterable[Any], name: str) -> Any:
    """The one span whose name begins so."""
    (span,) = [span for span in spans if span.name.startswith(name)]
    return span


def linked_to(span: Any, kind: str = "previous_turn") -> list[int]:
    """The ids of the spans that a span links to."""
    return [link.context.span_id for link in span.links if link.attributes.get("llm_session.link") == kind]


def kind_of(span: Any) -> str:
    """A span's name; that of a call without its model."""
    return "chat" if span.name.startswith("chat ") else str(span.name)


def by_kind(
    spans: Iterable[Any], said: Callable[[Any], Any], kind: Callable[[Any], str] = kind_of
) -> dict[str, list[Any]]:
    """What is to be said of each span, by the spans' kinds."""
    found: dict[str, list[Any]] = {}
    for span in spans:
        found.setdefault(kind(span), []).append(said(span))
    return found


@contextmanager
def a_process(**settings: Any) -> Iterator[tuple[CapturedSpans, Any]]:
    """Instrument the client as another process would; yield the spans, and a tracer of the application's."""
    provider = TracerProvider(shutdown_on_exit=False, sampler=settings.pop("sampler", None))
    with capture_spans(tracer_provider=provider, **settings) as spans:
        yield spans, provider.get_tracer("the application's")


def ask(client: Any, *_: Any, **arguments: Any) -> Any:
    """One chat call that says nothing of a session but what is given."""
    return client.chat.completions.create(
        **{"model": "m", "messages": [{"role": "user", "content": "Hello"}], **arguments}
    )
