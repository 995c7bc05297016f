"""What is remembered of a session: ids, times, counts, digests, what the application said of it, never content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, NewType, TypeAlias

from otel_llm_sessions.sessions.about import About

SessionId = NewType("SessionId", str)

Source = Literal[
    "header",
    "body",
    "metadata",
    "context",
    "baggage",
    "conversation",
    "chain",
    "item",
    "tool_call",
    "history",
    "provider",
    "chain_partial",
    "new",
]
"""How the session of a call was found (the values of ``llm_session.source``)."""

GIVEN_SOURCES: frozenset[str] = frozenset({"header", "body", "metadata", "context", "baggage", "conversation"})
"""Sources whose id is the application's or the provider's own, not one derived from a response id."""


SAMPLED = 1
"""The flag of a sampled span, by the W3C's trace context."""


class SpanRef(NamedTuple):
    """The identity of a span that may have ended, or live in another process."""

    trace_id: int
    span_id: int
    flags: int


class SessionTrace(NamedTuple):
    """The trace in which a session appears: its root span, and which part of the session it holds."""

    trace_id: int
    root_span_id: int
    flags: int
    part: int
    started: int
    """When the part was opened, in nanoseconds since the epoch."""
    first_turn: int
    """The number of the part's first turn."""
    state: str = ""
    """The root's ``tracestate``, which its children carry on."""

    @property
    def is_sampled(self) -> bool:
        """Whether the root is sampled, and so the whole trace."""
        return bool(self.flags & SAMPLED)


class Told(NamedTuple):
    """What a turn has recorded of what was said, as a count and keyed digests of 64 bits; 0 where there is nothing.

    Its words are where its span is; this tells whether a later turn goes on from them.
    """

    messages: int
    """How many messages the conversation has with the turn's reply; 0 where the server keeps them."""
    context: int
    """The digest of these messages; of what names the conversation where the server keeps it."""
    instructions: int = 0
    """The digest of the turn's system instructions."""
    tools: int = 0
    """The digest of its tool definitions."""


class SessionLink(NamedTuple):
    """What is kept about a session's newest turn under each piece of evidence the turn left.

    A store maps evidence keys to links. A link holds ids, times, counts, digests, and the user, name and tags that the
    application gave the session; it never holds prompts, replies or API keys. A tuple, since one is made in every
    call, in a fifth of the time that a frozen dataclass takes.

    Example, of a store of your own::

        (link,) = my_store.get_all(["s:chat-42"])
        known = link is not None and link.turn > 7
    """

    session_id: SessionId
    source: Source
    """How the session got its name; an inherited turn keeps the source of the turn that named it."""
    turn: int
    """The turn's number: 1, 2, …, its depth in the chain; 0 where only the session is known, and no turn of it."""
    span: SpanRef
    """The span of the turn itself."""
    start: int
    """When the turn started, in nanoseconds since the epoch."""
    end: int
    """When the turn ended, in nanoseconds since the epoch; 0 while it goes on."""
    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    response_id: str = ""
    trace: SessionTrace | None = None
    """The session's trace; None while the session has none (``TRACES=turn``, or not opened yet)."""
    name: str = ""
    """The session's name; empty if the application gave it none."""
    before: str = ""
    """The key of the turn before it, of a turn whose session could not be told (``chain_partial``): a later turn, or
    another process, walks up by it once the store knows more. Empty for any other turn."""
    parent: str = ""
    """The session in which this one was opened, while it has no trace whose root could say so; else empty."""
    told: Told | None = None
    """What the turn has recorded of what was said; None if that is nothing: content is off, or the turn unsampled."""
    user: str = ""
    """Whose session it is; empty if the application did not say."""
    tags: tuple[str, ...] = ()
    """The session's tags; none if the application gave it none."""

    @property
    def about(self) -> About:
        """What the application has said of the session."""
        return About(self.name, self.user, self.tags)


Record: TypeAlias = tuple[Sequence[str], SessionLink]
"""What a turn leaves behind: the evidence keys under which it is remembered, and its link. A plain tuple, since each
turn makes one.
"""
