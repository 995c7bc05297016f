"""The page's templates: every value that they write is escaped, and shows what it hides."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from otel_llm_sessions.view.server import texts
from otel_llm_sessions.view.server.prose import blocks
from otel_llm_sessions.view.spans import ReceivedSpan
from otel_llm_sessions.view.words import Message

ROLES: Final = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function"), "tool"),
    "user": "user",
    "assistant": "assistant",
}
Rows = list[tuple[str, Any]]


@cache
def templates() -> Environment:
    """Return the templates, compiled."""
    made = Environment(
        loader=PackageLoader("otel_llm_sessions.view.server"),
        autoescape=True,
        finalize=texts.visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("number", "cost", "duration", "machine_time", "people_time", "shortened", "raw"):
        made.filters[name] = getattr(texts, name)
    made.filters |= {"blocks": blocks, "role": role, "size": size, "facts": facts, "groups": groups}
    for name in made.list_templates():  # compiled now, not while somebody waits for the first page
        made.get_template(name)
    return made


def role(said: str) -> str:
    """Return which of the roles that the style knows a message's is."""
    return ROLES.get(said.lower(), "other")


def size(message: Message) -> int:
    """Return how many characters a message has."""
    return sum(len(part.text) for part in message.parts)


def facts(span: ReceivedSpan) -> Rows:
    """Return what a span says besides attributes."""
    said = (
        ("name", span.name),
        ("trace id", span.trace_id),
        ("span id", span.span_id),
        ("parent id", span.parent_id),
        ("kind", span.kind),
        ("start", f"{texts.machine_time(span.start)} ({span.start})"),
        ("end", f"{texts.machine_time(span.end)} ({span.end})"),
        ("status", f"{span.status} {span.status_message}".strip()),
        ("scope", f"{span.scope} {span.scope_version}".strip()),
        ("trace state", span.trace_state),
    )
    return [(name, value) for name, value in said if value]


def groups(span: ReceivedSpan) -> list[tuple[str, Rows]]:
    """Return a span's attributes, those of what it came from, and its events and links, each under a title."""
    links = [(f"Link to {link.trace_id} {link.span_id}", list(link.attributes.items())) for link in span.links]
    events = [
        (f"Event {event.name}", [("time", texts.machine_time(event.time)), *event.attributes.items()])
        for event in span.events
    ]
    return [
        ("Attributes", list(span.attributes.items())),
        ("Resource", list(span.resource.items())),
        *[(title, rows or [("attributes", "none")]) for title, rows in links],
        *events,
    ]
