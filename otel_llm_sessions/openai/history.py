"""Digests of chat histories: what ties a call to the one whose reply it sends back, without a word being kept.

The digest of a conversation is made of its last message and the digest of all before: one that goes on costs its new
messages. Where the beginning is known is told by Python's own hashes, which a string remembers as long as it lives.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.cheap import value
from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.message import ASSISTANT, Form, Odd, digest_of, form_of, says_something

MOST: Final = 4096
"""How many beginnings of conversations are known: three of each that goes on."""

_BEFORE_ALL: Final = b""


@value
class History:
    """The messages of a request, as digests."""

    replied: bytes | None
    """The digest of the messages up to the last that is an assistant's; None if none is."""
    whole: bytes
    """The digest of all messages."""
    mark: int
    """What tells all messages from others within this process."""


class Histories:
    """Makes the digests of conversations, and remembers those of their beginnings.

    Example::

        histories = Histories()
        asked = histories.of(request["messages"])
        later = histories.of([*request["messages"], reply, question])
        later.replied == histories.replied(asked, reply)
    """

    def __init__(self, most: int = MOST) -> None:
        """Args: how many beginnings are remembered."""
        self.known: Bounded[int, bytes] = Bounded(most)

    def of(self, messages: Any) -> History | None:
        """Return the digests of a request's messages; None if there are none, or if they are odd."""
        if type(messages) not in (list, tuple) or not messages:
            return None
        try:
            marks, forms, last = _walked(messages)
            replied = self._digest(marks, forms, 0, last + 1, _BEFORE_ALL) if last >= 0 else None
            whole = self._digest(marks, forms, last + 1, len(marks), _BEFORE_ALL if replied is None else replied)
            return History(replied, whole, marks[-1])
        except (Odd, AttributeError, TypeError, ValueError, RecursionError) as error:
            pass_on(error)
            return None

    def replied(self, history: History, reply: Any) -> bytes | None:
        """Return the digest of a conversation with the reply to it; None if that says nothing, or is odd.

        Args:
            history: the conversation that was replied to.
            reply: the message of a choice.
        """
        try:
            form = form_of(reply, ASSISTANT)
            if not says_something(form):
                return None
            digest = digest_of(history.whole, form)
            self.known[hash((history.mark, form))] = digest
            return digest
        except (Odd, AttributeError, TypeError, ValueError, RecursionError) as error:
            pass_on(error)
            return None

    def _digest(self, marks: Sequence[int], forms: Sequence[Form], start: int, end: int, digest: bytes) -> bytes:
        """Return the digest of the messages up to ``end``, given that of those up to ``start``."""
        known = self.known
        for position in range(end - 1, start - 1, -1):
            found = known.get(marks[position])
            if found is not None:
                start, digest = position + 1, found
                break
        for form in islice(forms, start, end):
            digest = digest_of(digest, form)
        if end:
            known[marks[end - 1]] = digest
        return digest


def _walked(messages: Sequence[Any]) -> tuple[list[int], list[Form], int]:
    """Return, for each message, what tells the conversation up to it from others, and what it says; and the last reply.

    The marks are hashes of 64 bits that only this process knows how to make.
    """
    marks: list[int] = []
    forms: list[Form] = []
    mark, last = 0, -1
    for message in messages:
        # Most are of this shape, and what is said of others is said of it as well.
        if type(message) is dict and len(message) == 2:
            role, content = message.get("role"), message.get("content")
            form = (role, content) if type(role) is str and type(content) is str else form_of(message)
        else:
            form = form_of(message)
        if form[0] == ASSISTANT:
            last = len(marks)
        mark = hash((mark, form))
        marks.append(mark)
        forms.append(form)
    return marks, forms, last
