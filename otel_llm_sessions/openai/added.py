"""What the same piece of work put into a conversation a moment ago: a turn that says just that is the conversation's.

openai-agents puts what a user says first into a conversation, and asks the model with the same words and no id at all;
nothing else ties that turn to the conversation where no prompt cache key is sent (servers other than OpenAI's).
Words alone tie nobody: others say them too. So it must be the same words, no more and no fewer, within seconds, and in
the same context: in the task or thread that added them, or in a task that was started from there since. A thread serves
one after the other: where spans are current, both must be in the same trace. What is kept of the words is a digest that
nobody can tell anything from, since its secret is this process's own.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry.trace import get_current_span

from otel_llm_sessions.openai.fields import text
from otel_llm_sessions.openai.server import Server
from otel_llm_sessions.sessions.digest import Digests, canonical

UNTIL_ASKED: Final = 10.0
"""Seconds within which the turn has to begin: guardrails and tools may come before."""

ONCE_ASKED: Final = 1.0
"""Seconds within which others may begin that say the same, as guardrails do that run beside the first."""

MAX_ITEMS: Final = 20
"""How many items the API takes at a time."""

MAX_KEPT: Final = 64
"""How much is remembered that nobody asked for, in order to tell who may be meant."""

UNSAID: Final = frozenset({"id", "status"})
"""What an item has only once the server has it."""

TEXTS: Final = frozenset({"input_text", "output_text", "text"})


class Added:
    """Some items that were put into a conversation."""

    __slots__ = ("conversation", "count", "digest", "is_anybodys", "is_taken", "scope", "trace_id", "until")

    def __init__(self, conversation: str, count: int, digest: str, scope: str) -> None:
        self.conversation = conversation
        self.count = count
        self.digest = digest
        self.scope = scope
        """The server's."""
        self.trace_id = _trace_id()
        """Of the trace in which they were added; 0 if in none."""
        self.until = time.monotonic() + UNTIL_ASKED
        self.is_taken = False
        self.is_anybodys = False
        """Whether the same was put into another conversation before anybody asked: then it ties to neither."""

    @property
    def is_over(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() >= self.until

    @property
    def may_be_asked_for(self) -> bool:
        """Whether somebody may still ask who has not asked yet."""
        return self.count > 0 and not self.is_taken and not self.is_over


_lately: ContextVar[tuple[Added, ...]] = ContextVar("otel_llm_sessions.added", default=())
"""What was added here and nobody asked for yet, the last one at the end, which alone may tie a turn."""

_digests: Final = Digests(None, uuid.uuid4().hex)


class Noted:
    """Whether anything was ever added in this process: in most nothing is, and nobody need look."""

    is_any = False


def note(conversation: str, items: Any, server: Server) -> None:
    """Note that items were put into a conversation here; of no items, that there has been a request about it."""
    is_list = isinstance(items, (list, tuple)) and 0 < len(items) <= MAX_ITEMS
    lately = _lately.get()
    if not is_list and (not lately or lately[-1].conversation == conversation):
        return
    Noted.is_any = True
    added = Added(conversation, *((len(items), _digest(items)) if is_list else (0, "")), server.scope)
    before = [each for each in lately if each.may_be_asked_for and each.conversation != conversation]
    same = [each for each in before if each.digest == added.digest]
    if same or len(before) > MAX_KEPT:
        for each in (added, *same):
            each.is_anybodys = True
    _lately.set((*before[-MAX_KEPT:], added))


def conversation_with(said: Any, server: Server) -> str | None:
    """Return the conversation into which just what a request says was put here; None if there is none for certain.

    Args:
        said: the request's ``input``.
        server: whom it goes to.
    """
    lately = _lately.get()
    added = lately[-1] if lately else None
    if added is None or added.is_anybodys or added.scope != server.scope or added.is_over:
        return None
    if added.trace_id != _trace_id():
        return None
    items = [{"role": "user", "content": said}] if isinstance(said, str) else said
    if not isinstance(items, (list, tuple)) or len(items) != added.count or _digest(items) != added.digest:
        return None
    if not added.is_taken:
        added.is_taken, added.until = True, time.monotonic() + ONCE_ASKED
    return added.conversation


def _trace_id() -> int:
    return get_current_span().get_span_context().trace_id


def _digest(items: Sequence[Any]) -> str:
    return _digests.of(canonical([_said(item) for item in items]))


def _said(item: Any) -> Any:
    """Return what an item says, in the one form that the ways to write it have."""
    if not isinstance(item, dict):
        return item
    said = {"type": "message", **{name: value for name, value in item.items() if name not in UNSAID}}
    parts = said.get("content")
    if isinstance(parts, (list, tuple)) and all(isinstance(part, dict) and part.get("type") in TEXTS for part in parts):
        said["content"] = "".join(text(part.get("text")) or "" for part in parts)
    return said
