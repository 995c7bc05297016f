"""Where an application says which session a call belongs to, and what counts as an id."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry import baggage
from opentelemetry.context import Context

from otel_llm_sessions.guard import note_once
from otel_llm_sessions.semconv import CONVERSATION_ID, SESSION_ID
from otel_llm_sessions.sessions.about import NOTHING_SAID, About
from otel_llm_sessions.sessions.link import SessionId, Source
from otel_llm_sessions.sessions.texts import MAX_LENGTH, as_text

SESSION_CONTEXT_KEY = "otel_llm_sessions.session"
"""Context key under which ``session(...)`` keeps its session's id."""

ABOUT_CONTEXT_KEY = "otel_llm_sessions.about"
"""Context key under which ``session(...)`` keeps the id of its session, and what is said of that: inside, other
mechanisms may name another session."""

PARENT_CONTEXT_KEY = "otel_llm_sessions.parent"
"""Context key under which ``session(...)`` keeps its session's id, and that of the session which it was opened in."""

OPENINFERENCE_CONTEXT_KEY = "session.id"
"""Context key of OpenInference's ``using_session``."""

UTIL_GENAI_MODULE = "opentelemetry.util.genai._conversation_context"
"""The module that holds util-genai's context key, whose name has a random part (1.3b0)."""

BAGGAGE_NAMES = (CONVERSATION_ID, SESSION_ID)

HEADERS = ("x-litellm-session-id", "x-session-id", "helicone-session-id", "x-litellm-trace-id")
BODY_KEYS = ("litellm_session_id", "session_id", "litellm_trace_id")
METADATA_KEYS = (
    SESSION_ID,
    "litellm_session_id",
    "session_id",
    "langfuse_session_id",
    "conversation_id",
    "thread_id",
)

PARENT_HEADER = "x-parent-session-id"
"""The header by which agents (opencode, LiteLLM 1.110) say in which session theirs was opened."""


class Given(NamedTuple):
    """A session id that the application or the provider gave, and where it was found."""

    session_id: SessionId
    source: Source


def session_id_of(value: Any) -> SessionId | None:
    """Return ``value`` as a session id: a printable string of 1 to 256 characters, or a number; else None."""
    id_ = value if type(value) is str else as_text(value)
    if id_ and len(id_) <= MAX_LENGTH and id_.isprintable() and not id_.isspace():  # as ``is_id``, without a call
        return id_  # type: ignore[return-value]  # a cast is a call
    if value is not None:
        _note_ignored(value)
    return None


def _note_ignored(value: Any) -> None:
    # The value itself may be anything, so only its type is told.
    note_once(
        f"session-id:{type(value).__name__}",
        "A session id is ignored: expected a printable string of 1 to %d characters or a number, got %s.",
        MAX_LENGTH,
        type(value).__name__ if type(value) is not str else f"a string of {len(value)} characters",
    )


def first_id(values: Mapping[str, Any], names: Sequence[str]) -> SessionId | None:
    """Return the first usable id in ``values`` under ``names``, in the order of ``names``."""
    for name in names:
        value = values.get(name)
        if value is not None:
            found = session_id_of(value)
            if found is not None:
                return found
    return None


def first_given(values: Mapping[str, Any], names: Sequence[str], source: Source) -> Given | None:
    """As ``first_id``, with where it was found."""
    for name in names:
        value = values.get(name)
        if value is not None:
            is_kept = type(value) is str and len(value) <= MAX_LENGTH
            found = _given_by(value, source) if is_kept else _read(value, source)
            if found is not None:
                return found
    return None


def _read(value: Any, source: Source) -> Given | None:
    found = session_id_of(value)
    return None if found is None else Given(found, source)


_given_by = functools.lru_cache(maxsize=256)(_read)
"""The same, kept: all calls of a session say it."""


def from_context(context: Context) -> Given | None:
    """Return the session that the application's context names, the nearest mechanism first."""
    if not context:
        return None
    for key in (SESSION_CONTEXT_KEY, OPENINFERENCE_CONTEXT_KEY, _util_genai_key()):
        value = context.get(key)
        if value is not None and (found := session_id_of(value)):
            return Given(found, "context")
    return None


def from_baggage(context: Context) -> Given | None:
    """Return the session that the baggage of the request being served names."""
    entries = baggage.get_all(context) if context else None
    if entries and (found := first_id({name: _value(entries.get(name)) for name in BAGGAGE_NAMES}, BAGGAGE_NAMES)):
        return Given(found, "baggage")
    return None


def about_in(context: Context, session_id: str | None) -> About:
    """Return what the application's context says of a session."""
    said = context.get(ABOUT_CONTEXT_KEY)
    return said[1] if isinstance(said, tuple) and said[0] == session_id else NOTHING_SAID


def parent_in(context: Context, session_id: str | None) -> str:
    """Return the session inside which the application's context has opened a session; an empty string if in none."""
    named = context.get(PARENT_CONTEXT_KEY)
    return named[1] if isinstance(named, tuple) and named[0] == session_id else ""


def _value(entry: object) -> object:
    # ``id;ttl=60``: properties are no part of a value (https://www.w3.org/TR/baggage/), but the propagator
    # (opentelemetry-api 1.45) leaves them in it.
    return entry.partition(";")[0].strip() if isinstance(entry, str) else entry


def _util_genai_key() -> str:
    module = sys.modules.get(UTIL_GENAI_MODULE)
    return getattr(module, "CONVERSATION_ID_KEY", SESSION_CONTEXT_KEY)
