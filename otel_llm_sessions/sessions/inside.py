"""What it means to a context to be inside a session: which keys say so, and what of them goes along with work.

A session belongs to a piece of work. What a job takes along of the place that gave it is the session and what belongs
to it, and nothing else: no span, no baggage of others, no suppression.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanContext, get_current_span, set_span_in_context

from otel_llm_sessions.semconv import SESSION_ID
from otel_llm_sessions.sessions.about import NOTHING_ANEW, NOTHING_SAID, Anew
from otel_llm_sessions.sessions.link import SessionId
from otel_llm_sessions.sessions.sources import (
    ABOUT_CONTEXT_KEY,
    PARENT_CONTEXT_KEY,
    SESSION_CONTEXT_KEY,
    about_in,
    from_context,
    parent_in,
)

PROPAGATED_KEY = "otel_llm_sessions.propagated"
"""Context key that holds the session whose id stands in the baggage because a block said so."""

ROOT_CONTEXT_KEY = "otel_llm_sessions.root"
"""Context key that holds the ``SessionRoot`` below which ``session(...)`` put the context."""

ENTRY_KEY = "otel_llm_sessions.entry"
"""Context key that holds which ``session(...)`` made the context, and what it was made from."""

WITHIN_KEY = "otel_llm_sessions.within"
"""Context key that holds the token of the generator's block which the context's own block was entered within."""

SESSION_KEYS = (SESSION_CONTEXT_KEY, ABOUT_CONTEXT_KEY, PARENT_CONTEXT_KEY, PROPAGATED_KEY)
"""The keys that belong to a session: a block sets them, a job takes them along, another session's block has its own."""

_RENEWED_KEYS = frozenset({*SESSION_KEYS, WITHIN_KEY})
_ALL_KEYS = frozenset({*SESSION_KEYS, ROOT_CONTEXT_KEY, ENTRY_KEY, WITHIN_KEY})


class SessionRoot(NamedTuple):
    """The root of a session's trace, as the current span of what is inside."""

    session_id: str
    span: Span


class Inside(NamedTuple):
    """A session to be inside of."""

    values: Mapping[str, object]
    """Those of ``SESSION_KEYS`` that it has."""
    root: SessionRoot | None = None
    """Where its trace has been opened, and nothing else is current: its root."""

    def into(self, context: Context, within: object | None) -> Context:
        """Return ``context`` inside the session, which keeps what is none of a session's.

        Args:
            context: where it is entered.
            within: the token of the generator's block that it is entered within (``blocks.within()``).
        """
        merged = {key: value for key, value in context.items() if key not in _RENEWED_KEYS}
        merged.update(self.values)
        if within is not None:
            merged[WITHIN_KEY] = within
        inside, propagated = Context(merged), self.values.get(PROPAGATED_KEY)
        if propagated is not None:
            inside = baggage.set_baggage(SESSION_ID, str(propagated), inside)
        elif PROPAGATED_KEY in context:
            inside = baggage.remove_baggage(SESSION_ID, inside)
        return inside if self.root is None else _below(self.root, inside)


def session_inside(
    session_id: SessionId, context: Context, *, anew: Anew = NOTHING_ANEW, propagate: bool = False
) -> Inside:
    """Return what a block of a session in ``context`` is inside of.

    A block of the same session as the one around keeps what it does not set anew; one of another inherits nothing.
    """
    values: dict[str, object] = {SESSION_CONTEXT_KEY: session_id}
    before = about_in(context, session_id)
    about = before if anew is NOTHING_ANEW else anew.over(before)
    if about != NOTHING_SAID:
        values[ABOUT_CONTEXT_KEY] = (session_id, about)
    if parent := _parent(session_id, context):
        values[PARENT_CONTEXT_KEY] = (session_id, parent)
    if propagate or context.get(PROPAGATED_KEY) == session_id:
        values[PROPAGATED_KEY] = session_id
    return Inside(values)


def _parent(session_id: SessionId, context: Context) -> str:
    """Return the session inside which one is opened in ``context``; an empty string if in none, or in its own."""
    around = from_context(context)
    if around is None or around.session_id == session_id:
        return parent_in(context, session_id)
    return around.session_id if parent_in(context, around.session_id) != session_id else ""


def inside_of(context: Context) -> Inside | None:
    """Return the session that ``context`` is inside of by a block of ours, without all else that is there."""
    session_id = context.get(SESSION_CONTEXT_KEY)
    if session_id is None:
        return None
    root = context.get(ROOT_CONTEXT_KEY)
    is_own = isinstance(root, SessionRoot) and root.session_id == session_id
    return Inside({key: context[key] for key in SESSION_KEYS if key in context}, root if is_own else None)  # type: ignore[arg-type]


def outside_of(context: Context) -> Context:
    """Return ``context`` without the session, nor its root as the current span."""
    is_below = is_session_root(context, get_current_span(context).get_span_context())
    outside = Context({key: value for key, value in context.items() if key not in _ALL_KEYS})
    if PROPAGATED_KEY in context:
        outside = baggage.remove_baggage(SESSION_ID, outside)
    return set_span_in_context(INVALID_SPAN, outside) if is_below else outside


def is_session_root(context: Context, span: SpanContext) -> bool:
    """Whether the current span of ``context`` is a session's root, put there by ``session(...)``."""
    root = context.get(ROOT_CONTEXT_KEY)
    if not isinstance(root, SessionRoot):
        return False
    own = root.span.get_span_context()
    return own.span_id == span.span_id and own.trace_id == span.trace_id


def _below(root: SessionRoot, context: Context) -> Context:
    around = get_current_span(context).get_span_context()
    if around.is_valid and not is_session_root(context, around):
        return context
    return set_span_in_context(root.span, Context({**context, ROOT_CONTEXT_KEY: root}))
