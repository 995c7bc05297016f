"""Digests of chat histories: what ties a call to the one whose reply it sends back, without a word being kept.

The digest of a conversation is made of its last message and the digest of all before: one that goes on costs its new
messages. Where the beginning is known is told by Python's own hashes, which a string remembers as long as it lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.cheap import value
from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.message import ASSISTANT, Form, Odd, digest_of, form_of, plain_forms, says_something
from otel_llm_sessions.sessions.digest import DigestSource
from otel_llm_sessions.sessions.keys import doubt_key, history_key
from otel_llm_sessions.sessions.resolver import SOURCE, Evidence, tie_by

MOST: Final = 4096
"""How many beginnings of conversations are known: three of each that goes on."""

MOST_CHOICES: Final = 16
"""How many choices of a reply are remembered."""

BEFORE_ALL: Final = b""
"""The digest of no message."""


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
            replied = self.digest(marks, forms, last + 1) if last >= 0 else None
            whole = self.digest(marks, forms, len(marks), last + 1, BEFORE_ALL if replied is None else replied)
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
            return self.digest_after(history.whole, history.mark, (form,))
        except (Odd, AttributeError, TypeError, ValueError, RecursionError) as error:
            pass_on(error)
            return None

    def digest_after(self, digest: bytes, mark: int, forms: Iterable[Form]) -> bytes:
        """Return the digest of a conversation with what follows it, and remember it; see ``after``."""
        return self.after(digest, mark, forms)[0]

    def after(self, digest: bytes, mark: int, forms: Iterable[Form]) -> tuple[bytes, int]:
        """Return the digest of a conversation with what follows it and what tells it from others; and remember it.

        Args:
            digest: the digest of the conversation.
            mark: what tells it from others.
            forms: what follows.

        Raises:
            Odd: there is none.
        """
        for form in forms:
            digest, mark = digest_of(digest, form), hash((mark, form))
            self.known[mark] = digest
        return digest, mark

    def digest(
        self, marks: Sequence[int], forms: Sequence[Form], end: int, start: int = 0, digest: bytes = BEFORE_ALL
    ) -> bytes:
        """Return the digest of the messages up to ``end``, given that of those up to ``start``.

        Args:
            marks: of each message what tells the conversation up to it from others.
            forms: what each says.
            end: how many messages there are.
            start: of how many of them the digest is known.
            digest: that digest.

        Raises:
            Odd: there is none.
        """
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
    """Return for each message what tells all up to it from others, and what it says; and which is the last reply."""
    glanced = plain_forms(messages)
    forms = [plain or form_of(message) for message, plain in zip(messages, glanced, strict=True)]
    last = len(forms) - 1
    while last >= 0 and forms[last][0] != ASSISTANT:
        last -= 1
    return marks_of(forms), forms, last


def marks_of(forms: Iterable[Form]) -> list[int]:
    """Return, for each message of a conversation, what tells all up to it from others within this process.

    Those are hashes of 64 bits that only this process knows how to make.
    """
    marks: list[int] = []
    mark = 0
    for form in forms:
        mark = hash((mark, form))
        marks.append(mark)
    return marks


class ReadHistory:
    """The history of one request as evidence."""

    __slots__ = ("_history", "_owned", "_reader")

    def __init__(self, history: History, reader: HistoryReader) -> None:
        self._history = history
        self._reader = reader
        self._owned: dict[str, bool | None] = {}
        """Whether keys that other sessions may leave are this call's; None before it has been asked."""

    def tied(self, evidence: Evidence) -> Evidence:
        """Return evidence with what the history tells of earlier calls; as it is where no reply is sent back."""
        replied = self._history.replied
        if replied is None:
            return evidence
        ties = [tie for tie in evidence.ties if tie[SOURCE] != "history"]
        key = self._key_of(replied)
        return replace(evidence, ties=(*ties, tie_by("history", key)), doubt=doubt_key(key), key="")

    @property
    def is_sure(self) -> bool:
        """Whether the digests are those that all who share the store make."""
        return self._reader.is_sure

    @is_sure.setter
    def is_sure(self, is_sure: bool) -> None:
        self._reader.is_sure = is_sure

    def left(self, replies: Sequence[Any]) -> list[str]:
        """Return the keys of the conversation as each of the replies to it goes on.

        Args:
            replies: the messages of the choices, as far as they are complete.
        """
        digests = [self._reader.histories.replied(self._history, reply) for reply in replies[:MOST_CHOICES]]
        keys = [self._key_of(digest) for digest in dict.fromkeys(digests) if digest is not None]
        for key in keys:
            self._owned.setdefault(key, None)
        return keys

    def split(self, keys: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the keys that may be written, and those that are to be claimed before, each of them once."""
        owned = self._owned
        writable = [key for key in keys if owned.get(key, True)]
        unclaimed = [key for key in keys if owned.get(key, True) is None]
        owned.update(dict.fromkeys(unclaimed, False))
        return writable, unclaimed

    def owns(self, key: str) -> None:
        """Note that no other session had left a key."""
        self._owned[key] = True

    def _key_of(self, digest: bytes) -> str:
        return history_key(self._reader.digests.get().of("history", digest.hex()))


class HistoryReader:
    """Reads the histories of requests, where the setting ``HISTORY`` is on."""

    def __init__(self, digests: DigestSource, *, is_sure: bool) -> None:
        """Begin with nothing.

        Args:
            digests: what makes the digests under which turns are remembered.
            is_sure: whether they are known to be those that all who share the store make.
        """
        self.histories = Histories()
        self.digests = digests
        self.is_sure = is_sure

    def read(self, messages: Any) -> ReadHistory | None:
        """Return the history that a request's messages are; None if there is none, or if it is odd."""
        history = self.histories.of(messages)
        return None if history is None else ReadHistory(history, self)
