"""What of a turn is new against the turn that it links to, and what it leaves for the next one to tell so.

The context of a turn is its input where all of it is recorded (``full``), else the linked turn's context, that turn's
reply, and its own input (``delta``).
"""

from __future__ import annotations

import json
import marshal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.guard import pass_on
from otel_llm_sessions.openai.history import BEFORE_ALL, Histories, marks_of
from otel_llm_sessions.openai.message import Form
from otel_llm_sessions.openai.talk import ODD, Talk, forms_replied, talk_of
from otel_llm_sessions.sessions.digest import Digests, DigestSource
from otel_llm_sessions.sessions.link import SessionLink, Told
from otel_llm_sessions.sessions.resolver import Resolution

Kind = Literal["delta", "full"]
"""The values of ``llm_session.content``."""

OF_CHAINS: Final = frozenset({"chain", "provider", "chain_partial"})
"""Sources whose turn before is that of the response before."""


MOST: Final = 1024
"""Of how many conversations, and of how many definitions of tools, it is known what digests they have."""

_WITHOUT_REFERENCES: Final = 2
"""The version of ``marshal`` whose bytes tell what a value says, and not how it lies in memory."""

NOBODY_KNOWS: Final = 1
"""The digest of what is no JSON: nobody can say whether it is the same as before."""


class News(NamedTuple):
    """What of a turn's content is to be recorded."""

    kind: Kind
    first: int
    """From which of its messages or items on."""
    instructions: bool
    """Whether its system instructions are."""
    tools: bool
    """Whether its tool definitions are."""


ALL: Final = News("full", 0, True, True)


class Beginning(NamedTuple):
    """The first messages of a conversation."""

    messages: int
    """How many."""
    mark: int
    """What tells them from others within this process."""
    digest: bytes
    """Their digest."""


NO_MESSAGES: Final = Beginning(0, 0, BEFORE_ALL)


@dataclass(slots=True)
class Saying:
    """What a turn says, as far as it matters for what is new in it."""

    talk: Talk | None
    """Its messages; None where the server keeps those before, or where it cannot be told what they say."""
    kept: int
    """The digest of what names the conversation that the server keeps; 0 where it keeps none."""
    instructions: int
    """The digest of its system instructions; 0 where there are none."""
    tools: int
    """The digest of its tool definitions; 0 where there are none."""
    begins: Beginning
    """What it is known to begin with, once it has been asked for news of it."""


class Deltas:
    """Tells what is new in turns.

    Example::

        deltas = Deltas(DigestSource(settings.key, lambda: store.scope))
        said = deltas.said("chat_completions", body)
        news = deltas.news(said, previous.told)
        left = deltas.told("chat_completions", said, [message])
    """

    def __init__(self, digests: DigestSource) -> None:
        """Args: what makes the digests that all who share the store make."""
        self._digests = digests
        self._histories = Histories()
        self._known: Bounded[int, Beginning] = Bounded(MOST)
        """Conversations with their last reply, by the hash of all that they say, which is made in one step."""
        self._jsons: Bounded[tuple[Digests, int], int] = Bounded(MOST)

    def said(self, api: str, body: Mapping[str, Any], conversation: str | None = None) -> Saying:
        """Return what a turn says.

        Args:
            api: the API that is called.
            body: the request's JSON body.
            conversation: the id of the provider's conversation that it belongs to.
        """
        instructions = self._of_json(body.get("instructions")) if api == "responses" else 0
        tools = self._of_json(body.get("tools") or body.get("functions"))
        if conversation is not None:
            return Saying(None, self._keyed("conversation", conversation), instructions, tools, NO_MESSAGES)
        is_chained = body.get("previous_response_id") is not None and api == "responses"
        return Saying(None if is_chained else talk_of(api, body), 0, instructions, tools, NO_MESSAGES)

    def news(self, said: Saying, before: Told | None, is_chained: bool = False) -> News:
        """Return what is new in a turn.

        Args:
            said: what it says.
            before: what the turn that it links to has left; None if that is not recorded.
            is_chained: whether that is the turn of the response which it names as the one before.
        """
        first = None if before is None else 0 if is_chained else self._continues(said, before)
        if before is None or first is None:
            return ALL
        instructions, tools = _differ(said.instructions, before.instructions), _differ(said.tools, before.tools)
        return News("delta", first, instructions, tools)

    def _continues(self, said: Saying, before: Told) -> int | None:
        """Return where in a request begins what follows the turn before; None if it does not go on from that."""
        talk, count = said.talk, before.messages
        if said.kept:
            return 0 if not count and said.kept == before.context else None
        if talk is None or not 0 < count <= len(talk.forms):
            return None
        try:
            begins = self._beginning(talk.forms[:count])
        except ODD as error:
            pass_on(error)
            return None
        if self._context(begins) != before.context:
            return None
        said.begins = begins
        return talk.end(count)

    def _beginning(self, forms: Sequence[Form]) -> Beginning:
        """Return what tells some messages, which is known of those that this process has recorded or received."""
        known = self._known.get(hash(tuple(forms)))
        if known is not None:
            return known
        marks = marks_of(forms)
        return Beginning(len(forms), marks[-1], self._histories.digest(marks, forms, len(forms)))

    def _context(self, conversation: Beginning) -> int:
        return self._keyed("context", conversation.digest.hex())

    def told(self, api: str, said: Saying, replied: Sequence[Any], conversation: str | None = None) -> Told:
        """Return what a turn leaves that has been recorded.

        Args:
            api: the API that was called.
            said: what it says.
            replied: the messages of a chat reply, or the output items of a response.
            conversation: the id of the provider's conversation that the reply says it belongs to.
        """
        if conversation is not None:
            kept = self._keyed("conversation", conversation)
            return Told(0, kept, said.instructions, said.tools)
        talk = said.talk
        forms = None if talk is None else forms_replied(api, replied)
        if talk is None or forms is None:
            return Told(0, said.kept, said.instructions, said.tools)
        try:
            left = self._after(said.begins, talk.forms, forms)
        except ODD as error:
            pass_on(error)
            return Told(0, 0, said.instructions, said.tools)
        return Told(left.messages, self._context(left), said.instructions, said.tools)

    def _after(self, begins: Beginning, forms: Sequence[Form], replied: Sequence[Form]) -> Beginning:
        """Return what tells a conversation with the reply to it, of which it is known what it begins with."""
        if not begins.messages and forms:
            begins = self._beginning(forms)
        known, mark, digest = begins
        digest, mark = self._histories.after(digest, mark, [*forms[known:], *replied])
        all_of_it = (*forms, *replied)
        left = self._known[hash(all_of_it)] = Beginning(len(all_of_it), mark, digest)
        return left

    def _of_json(self, said: Any) -> int:
        """Return the digest of what a request says in a field; 0 of nothing."""
        if not said:
            return 0
        digests, known = self._digests.get(), self._jsons
        try:
            key = (digests, hash(marshal.dumps(said, _WITHOUT_REFERENCES)))  # in a fifth of the time that JSON takes
        except Exception as error:  # a model among them, for one; or an audit hook of the application's says no
            pass_on(error)
            return _of_json(said, digests)
        digest = known.get(key)
        if digest is None:
            digest = known[key] = _of_json(said, digests)
        return digest

    def _keyed(self, kind: str, text: str) -> int:
        return int(self._digests.get().of(kind, text), 16)


def _of_json(said: Any, digests: Digests) -> int:
    try:
        return int(digests.of("json", json.dumps(said)), 16)
    except ODD as error:
        pass_on(error)
        return NOBODY_KNOWS


def _differ(digest: int, before: int) -> bool:
    return digest != before or digest == NOBODY_KNOWS


def is_chained(previous_id: str | None, resolution: Resolution) -> bool:
    """Whether the turn before a call is that of the response which it names as the one before.

    Args:
        previous_id: the request's ``previous_response_id``.
        resolution: the session of the call, and the turn before it.
    """
    previous: SessionLink | None = resolution.previous
    if previous_id is None or previous is None:
        return False
    return resolution.source in OF_CHAINS or previous.response_id == previous_id
